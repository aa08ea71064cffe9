"""The one error that learners see: a sentence that says what to do next."""


class CourseError(RuntimeError):
    """Something the learner can mend; the message says how."""
