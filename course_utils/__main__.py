"""`python -m course_utils`, the same as `course`."""

from course_utils.runner.cli import main

if __name__ == "__main__":
    main(prog_name="course")
