"""Faults of every kind, one after the other: each ends in a sentence, nothing is lost, and the next run goes on.

The lesson is a toy that trains in three steps with checkpoints; all else is what a learner runs, in processes of its own.
"""

import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest
from test_runner import PARAMETERS, write_lesson

from course_utils.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals and limits of Linux and macOS")]
RUN = """import pathlib, resource, signal, sys
from course_utils import paths
from course_utils.runner.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
paths.NOTEBOOKS, paths.BUILD = map(pathlib.Path, sys.argv[1:3])
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
main(sys.argv[4:], prog_name="course")
"""
TRAINING = """import json, os, pathlib, time
from course_utils.recording import Run
run = Run("07_toy", profile=PROFILE, seed=SEED)
folder, newest = run.training_folder(resume=RESUME)
for step in range(int(newest.name[-1]) + 1 if newest else 1, 4):
    print("step", step)
    (folder / f"checkpoint-{step}").mkdir(parents=True)
    (folder / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    fault = pathlib.Path(os.environ.get("FAULT", "none"))
    if step == 2 and fault.exists():
        exec(fault.read_text())
run.record("ndcg@10/after", 0.9)
run.save()"""
HANGS = "time.sleep(600)"
TAMPERED = """from course_utils import checkpoints, paths
paths.MODELS = fault.parent / "models"
(paths.MODELS / "toy").mkdir(parents=True, exist_ok=True)
(paths.MODELS / "SHA256.json").write_text(json.dumps({"toy": {"weights": "0" * 64}}))
(paths.MODELS / "toy" / "weights").write_bytes(WEIGHTS)
checkpoints.checkpoint("toy")"""
MEMORY = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\nbytearray(4 << 30)"
NO_NETWORK = "from urllib.request import urlopen\nurlopen('http://127.0.0.1:9')"
# What happens in the middle of the training, more words of the command, and what the learner is told.
IN_A_CELL = {
    "kill -9 of the kernel": ("os.kill(os.getpid(), 9)", [], "ended by itself"),
    "2 GB of memory": (MEMORY, [], "Close other programs"),
    "a full disk": ("open('/dev/full', 'w', buffering=1).write('line\\n')", [], "make room"),
    "no network": (NO_NETWORK, [], "check the connection"),
    "a package is missing": ("import no_such_package", [], "install `requirements.lock` again"),
    "a cell that hangs": (HANGS, ["--cell-minutes", "0.3"], "longer than its limit"),
    "an altered weight": (TAMPERED.replace("WEIGHTS", "b'1' * 100"), [], "git checkout data/models"),
    "half a download": (TAMPERED.replace("WEIGHTS", "b''"), [], "git checkout data/models"),
    "a check that does not hold": ("assert 1 == 2", [], "compare the values"),
}


class Course:
    """A course of its own with a toy lesson, and a file of the learner's in `build`."""

    def __init__(self, folder):
        self.folder, self.build, self.fault = folder, folder / "build", folder / "fault.py"
        write_lesson(folder / "notebooks", TRAINING, parameters=PARAMETERS)
        (folder / "notebooks" / "images").mkdir()
        self.build.mkdir()
        (self.build / "notes.txt").write_text("the learner's own", encoding="utf-8")

    def start(self, *words, build=None, limit=0, **environment):
        values = {**os.environ, "PYTHONPATH": str(ROOT), "FAULT": str(self.fault), **environment}
        values = {name: value for name, value in values.items() if value is not None}
        where = [str(self.folder / "notebooks"), str(build or self.build), str(limit)]
        command = [sys.executable, "-c", RUN, *where, *(words or ("run", "07"))]
        return subprocess.Popen(
            command, env=values, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", cwd=self.folder
        )

    def run(self, *words, **options):
        """Exit code and output of a run that ends by itself."""
        process = self.start(*words, **options)
        text, _ = process.communicate(timeout=120)
        return process.returncode, text

    def wait_for_step_two(self):
        deadline = time.monotonic() + 60
        while not list(self.build.glob("07_toy/training/*/checkpoint-2/trainer_state.json")):
            assert time.monotonic() < deadline, "the training did not begin"
            time.sleep(0.05)

    def goes_on(self, step=3):
        """The next run, without the fault: it goes on at that step, finishes, and the learner's file is there."""
        self.fault.unlink(missing_ok=True)
        code, text = self.run("run", "07", "--resume")
        assert code == 0 and "07 finished" in text, text
        cells = nbformat.read(self.build / "07_toy.ipynb", as_version=4).cells
        printed = "".join(output.get("text", "") for output in cells[-1].outputs)
        assert printed.splitlines()[0] == f"step {step}"
        assert json.loads((self.build / "07_toy" / "metrics.json").read_text(encoding="utf-8"))["metrics"]
        assert (self.build / "notes.txt").read_text(encoding="utf-8") == "the learner's own"


@pytest.fixture
def course(tmp_path):
    return Course(tmp_path)


def one_sentence(code, text, words):
    assert code == 1 and words in text and "Traceback" not in text, text


@pytest.mark.parametrize("name", IN_A_CELL)
def test_what_happens_in_a_training(course, name):
    code, words, told = IN_A_CELL[name]
    course.fault.write_text(code, encoding="utf-8")
    one_sentence(*course.run("run", "07", *words), told)
    course.goes_on()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_the_run_is_stopped_in_a_training(course, name):
    course.fault.write_text(HANGS, encoding="utf-8")
    process = course.start()
    course.wait_for_step_two()
    process.send_signal(getattr(signal, name))
    text, _ = process.communicate(timeout=60)
    assert "Traceback" not in text
    if name == "SIGINT":
        assert "--resume" in text
    course.goes_on()


def test_two_runs_at_once(course):
    course.fault.write_text(HANGS, encoding="utf-8")
    first = course.start()
    course.wait_for_step_two()
    one_sentence(*course.run(), "Another run of lesson 07")
    first.kill()
    first.communicate(timeout=60)
    course.goes_on()


def test_a_disk_that_is_full_from_the_start(course):
    one_sentence(*course.run(limit=100), "Make room")
    course.goes_on(step=1)


def test_a_folder_that_cannot_be_written(course):
    one_sentence(*course.run(build="/proc/no-such-folder"), "COURSE_BUILD")
    course.goes_on(step=1)


def test_a_wrong_kernel_in_the_home_folder(course):
    spec = course.folder / "jupyter" / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/no/such/python"], "display_name": "x", "language": "python"}', encoding="utf-8")
    code, text = course.run(JUPYTER_PATH=str(course.folder / "jupyter"))
    assert code == 0, text


def test_a_clock_that_was_set_back(course):
    assert course.run()[0] == 0
    record = course.build / "07_toy" / "run.json"
    content = json.loads(record.read_text(encoding="utf-8")) | {"started": "2999-01-01T00:00:00+00:00"}
    record.write_text(json.dumps(content), encoding="utf-8")
    code, text = course.run()
    assert code == 0 and "07 finished" in text, text


def test_no_home_and_no_words_but_ascii(course):
    code, text = course.run(HOME=None, LANG="C", LC_ALL="C", PYTHONUTF8="0")
    assert code == 0, text


def test_a_path_with_spaces_and_umlauts(tmp_path):
    folder = tmp_path / "Büro für Übung 1"
    folder.mkdir()
    course = Course(folder)
    code, text = course.run()
    assert code == 0, text


@pytest.mark.parametrize("name", ["run.json", "metrics.json"])
def test_a_damaged_record(course, name):
    assert course.run()[0] == 0
    (course.build / "07_toy" / name).write_text('{"half', encoding="utf-8")
    code, text = course.run("run", "07", "--resume")
    assert code == 0 and "Traceback" not in text, text


def test_a_damaged_notebook(course):
    (course.folder / "notebooks" / "07_toy.ipynb").write_text('{"cells": [', encoding="utf-8")
    one_sentence(*course.run(), "course notebooks")
    write_lesson(course.folder / "notebooks", TRAINING, parameters=PARAMETERS)
    course.goes_on(step=1)


def test_a_reader_that_stops_listening(course):
    process = course.start()
    process.stdout.close()  # as with `| head`
    process.wait(timeout=120)
    course.goes_on(step=1)
