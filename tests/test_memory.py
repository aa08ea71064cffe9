"""Peak memory is that of a new process, which runs the function's source and nothing else."""

import os
import sys

import pytest

from course_utils import memory
from course_utils.errors import CourseError
from course_utils.paths import ROOT


def fill(mebibytes: int) -> int:
    kept = bytearray(mebibytes * 2**20)
    kept[:: 2**12] = b"x" * len(kept[:: 2**12])
    return len(kept)


def where() -> list:
    import os
    import sys

    return [os.getpid(), "pytest" in sys.modules, sorted(os.environ["PYTHONPATH"].split(os.pathsep))]


def forgets_its_import() -> float:
    return pytest.approx(1)


def is_killed() -> None:
    import os

    os.kill(os.getpid(), 9)


def is_chatty(words: dict) -> dict:
    print("{not json}")
    return {"heard": words}


def test_what_a_function_holds_is_in_the_peak_and_what_this_process_holds_is_not():
    held = bytearray(b"x" * (300 * 2**20))  # in this process, which must not count
    small, large = memory.in_fresh_process(fill, mebibytes=10), memory.in_fresh_process(fill, mebibytes=210)
    assert large.value == 210 * 2**20
    assert 190 <= large.peak_mib - small.peak_mib <= 215
    assert small.peak_mib < len(held) / 2**20 < small.together_mib - small.peak_mib


def test_the_process_is_new_and_finds_the_course_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pid, has_pytest, path = memory.in_fresh_process(where).value
    assert pid != os.getpid() and not has_pytest
    assert path == sorted([str(ROOT), str(tmp_path)])


def test_values_come_back_whatever_the_function_prints():
    assert memory.in_fresh_process(is_chatty, words={"a": [1, 2.5, "é"]}).value == {"heard": {"a": [1, 2.5, "é"]}}


NO_SIGNALS = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not say that a process was killed")


@pytest.mark.parametrize(
    ("function", "problem"),
    [(forgets_its_import, "NameError.*import"), pytest.param(is_killed, "memory", marks=NO_SIGNALS)],
)
def test_a_process_that_fails_is_one_sentence(function, problem):
    with pytest.raises(CourseError, match=problem):
        memory.in_fresh_process(function)


def test_a_process_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr(memory, "SECONDS", 0.001)
    with pytest.raises(CourseError, match="where took more than"):
        memory.in_fresh_process(where)
