"""Scripts in processes of their own end, and say why; nothing that they started outlives them."""

import logging
import os

import pandas as pd
import psutil
import pytest

from course_utils import scale
from course_utils.errors import CourseError


@pytest.fixture
def script(tmp_path):
    """A function that writes a script and returns its path."""

    def write(text):
        path = tmp_path / "script.py"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_script_gets_its_arguments_one_thread_and_this_course(script):
    text = "import os, sys, course_utils; print(sys.argv[1], os.environ['OMP_NUM_THREADS'])"
    done = scale.run_script([script(text), "hello"])
    assert done.said.split() == ["hello", "1"] and done.code == 0 and done.peak_mib > 0


def test_a_script_with_ray_has_a_home_that_is_gone_afterwards(script, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    text = "import os; print(os.path.expanduser('~'), os.environ['RAY_TMPDIR'], os.environ.get('RAY_ADDRESS'))"
    home, temporary, address = scale.run_script([script(text)], with_ray=True).said.split()
    assert home == temporary and not os.path.exists(home) and address == "None"


def test_a_script_that_fails_says_why(script):
    path = script("raise SystemExit('no space left')")
    with pytest.raises(CourseError, match=r"script.py ended with code 1.*no space left"):
        scale.run_script([path])
    assert scale.run_script([path], may_fail=True).code == 1


def test_a_script_that_takes_too_long_ends_with_all_that_it_started(script, tmp_path):
    child = "import subprocess, sys, time; "
    child += "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    child += f"open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); time.sleep(600)"
    with pytest.raises(CourseError, match="took more than 5 s"):
        scale.run_script([script(child)], seconds=5)
    assert not runs(int((tmp_path / "pid").read_text(encoding="utf-8")))


def runs(pid):
    """False for a process that ended, also while nobody has asked for its exit code."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def batches(*rows):
    return pd.DataFrame(rows, columns=["worker", "began", "ended"])


def test_throughput_counts_only_while_all_workers_work():
    one = batches((1, 0.0, 2.0), (1, 0.0, 2.0), (1, 2.0, 4.0), (1, 2.0, 4.0))
    assert scale.throughput(one) == pytest.approx(1)
    two = batches((1, 0.0, 2.0), (1, 2.0, 4.0), (2, 1.0, 3.0), (2, 3.0, 5.0))
    assert scale.throughput(two) == pytest.approx(1)  # from 1 to 4: a half, one, one, and a half
    after_another = batches((1, 0.0, 1.0), (2, 3.0, 4.0))
    assert scale.throughput(after_another) == pytest.approx(0.5)


def test_a_kept_log_is_a_list_and_shown_nowhere(capfd):
    lines = scale.kept_log("course.trial")
    logging.getLogger("course.trial").info("GET %s", "/course")
    assert lines == ["GET /course"] and capfd.readouterr() == ("", "")


def test_the_bytes_of_a_folder_are_those_of_all_files_below(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"123")
    assert scale.file_bytes(tmp_path) == 8
