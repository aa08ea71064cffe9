"""The one error that learners see: a sentence that says what to do next."""


class CourseError(RuntimeError):
    """Something the learner can fix; the message says how."""
