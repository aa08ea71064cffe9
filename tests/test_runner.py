"""`course run` on toy lessons: it reports, refuses, resumes and loses nothing."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from course_utils import files, paths
from course_utils.errors import CourseError
from course_utils.runner.cli import main
from course_utils.runner.failures import classify
from course_utils.runner.lessons import Lesson, UsageError, find_lessons, parse_parameters
from course_utils.runner.records import Record, read_record, record_path, write_record
from course_utils.runner.run import Interrupted, _kernel_manager, kernel_environment, run_lessons

TINY = SimpleNamespace(name="tiny", network=False, minutes={"07": 5.0})
PARAMETERS = 'PROFILE = "tiny"\nSEED = 0\nRATE = 0.5\nFAST = False\nRESUME = False  # go on with training'
RECORDS = """import os
from course_utils.runs import Run
run = Run("07_toy", profile=PROFILE, seed=SEED)
run.record("ndcg@10/before", 0.5)
run.record("ndcg@10/after", 0.9)
run.save()
print("offline", os.environ["HF_HUB_OFFLINE"], "seed", SEED, "resume", RESUME)"""


def write_lesson(folder, *cells, name="07_toy", parameters=PARAMETERS):
    """A lesson of a header, parameters and the given code cells, each under a heading."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell(f"# {name[:2]} · A toy lesson\n\n**You will be able to**"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        ]
    )
    for number, source in enumerate(cells):
        notebook.cells += [new_markdown_cell(f"## Step {number}"), new_code_cell(source)]
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, folder / f"{name}.ipynb")
    return Lesson(folder / f"{name}.ipynb")


def outputs(path):
    """Printed text of an executed notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of its own for the command: folders `notebooks` and `build` below the one returned."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # the test process keeps its own handlers
    return tmp_path


def command(*words):
    return CliRunner().invoke(main, list(words))


def test_a_lesson_runs_from_any_folder_and_is_reported_then_resume_leaves_it_alone(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lesson, build, said = write_lesson(tmp_path / "a {course}", RECORDS), tmp_path / "build", []
    first = run_lessons([lesson], TINY, build, {"SEED": 3}, say=said.append)

    assert [record.status for record in first] == ["finished"] and "07 finished" in said[0]
    assert "offline 1 seed 3 resume False" in outputs(build / "07_toy.ipynb")
    assert json.loads((build / "07_toy" / "metrics.json").read_text())["seed"] == 3
    report = (build / "index.html").read_text()
    assert "✓ finished" in report and "+0.400" in report and 'href="07_toy.html"' in report
    html = (build / "07_toy.html").read_text()
    assert "offline 1 seed 3" in html and "<script src" not in html
    assert "Step 0" in [cell["heading"] for cell in first[0].slowest]

    written = (build / "07_toy.ipynb").stat().st_mtime_ns
    run_lessons([lesson], TINY, build, {"SEED": 3}, resume=True, say=said.append)
    assert "left as it is" in said[-1] and (build / "07_toy.ipynb").stat().st_mtime_ns == written

    record_path(build, "07_toy").write_text('{"format": 0, "status": "ok"}')  # a build from an older course
    run_lessons([lesson], TINY, build, {"SEED": 3}, resume=True, say=said.append)
    assert "from another version of the course" in said[-2]
    assert read_record(build, "07_toy").status == "finished"
    assert "resume True" in outputs(build / "07_toy.ipynb")


def test_a_failing_lesson_keeps_what_ran_and_says_where_and_why(course):
    write_lesson(course / "notebooks", "print('kept')", "# a comment\nimport no_such_package", "print('never')")
    result = command("run", "7")
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert "no_such_package" in result.output and "requirements.lock" in result.output

    record = read_record(course / "build", "07_toy")
    assert record.status == "failed" and record.failure["class"] == "dependency"
    assert "Step 1: import no_such_package" in record.failure["cell"]
    assert outputs(course / "build" / "07_toy.ipynb") == "kept\n"
    assert "kept" in (course / "build" / "07_toy.html").read_text()
    assert "✕ failed" in (course / "build" / "index.html").read_text()


def test_a_kernel_that_dies_is_a_failure_of_its_own_class(tmp_path):
    lesson = write_lesson(tmp_path, "import os\nos._exit(9)", "print('never')")
    (record,) = run_lessons([lesson], TINY, tmp_path / "build", say=lambda text: None)
    assert record.status == "failed" and record.failure["class"] == "kernel"
    assert "import os" in record.failure["cell"]


def test_a_lesson_that_the_system_ends_for_memory_keeps_what_ran_and_says_so(tmp_path):
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    lesson = write_lesson(tmp_path, "print('kept')", kill)
    (record,) = run_lessons([lesson], TINY, tmp_path / "build", say=lambda text: None)
    assert record.status == "failed" and record.failure["class"] == "memory" and "ROWS" in record.failure["advice"]
    assert kill.splitlines()[0] in record.failure["cell"]
    assert outputs(tmp_path / "build" / "07_toy.ipynb") == "kept\n"


def test_a_cell_over_its_limit_ends_the_lesson_and_keeps_what_ran(tmp_path):
    lesson = write_lesson(tmp_path, "print('kept')", "import time\ntime.sleep(600)")
    (record,) = run_lessons([lesson], TINY, tmp_path / "build", say=lambda text: None, cell_minutes=0.05)
    assert record.status == "failed" and record.failure["class"] == "timeout"
    assert "time.sleep" in record.failure["cell"] or "import time" in record.failure["cell"]
    assert outputs(tmp_path / "build" / "07_toy.ipynb") == "kept\n"


def test_a_kernel_that_cannot_start_is_a_failure_of_its_own_class(tmp_path, monkeypatch):
    lesson = write_lesson(tmp_path, "print('never')")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho No module named ipykernel >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    (record,) = run_lessons([lesson], TINY, tmp_path / "build", say=lambda text: None)
    assert record.status == "failed" and record.failure["class"] == "kernel"
    assert "did not start" in record.failure["advice"] and "requirements.lock" in record.failure["advice"]


def test_a_second_run_of_a_lesson_in_one_build_is_refused_while_the_first_works(tmp_path):
    lesson = write_lesson(tmp_path, "print('never')")
    other = Record("07_toy", "A toy lesson", "tiny", {}, "learner", lesson.fingerprint())
    parent = psutil.Process(os.getppid())
    other.process = [parent.pid, parent.create_time()]
    write_record(tmp_path / "build", other)
    with pytest.raises(CourseError, match=f"process {parent.pid}.*wait for it to end"):
        run_lessons([lesson], TINY, tmp_path / "build", say=lambda text: None)
    assert not (tmp_path / "build" / "07_toy.ipynb").exists()


def test_a_full_disk_is_one_sentence_and_what_was_there_stays(course, monkeypatch):
    write_lesson(course / "notebooks", RECORDS)
    assert command("run", "7").exit_code == 0
    report = (course / "build" / "index.html").read_text()

    def full(handle, *arguments):
        os.close(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    result = command("run", "7")
    assert result.exit_code == 1 and "disk is full" in result.output and "Traceback" not in result.output
    assert (course / "build" / "index.html").read_text() == report


RUN_ALONE = """import sys
from pathlib import Path
from types import SimpleNamespace
from course_utils.lessons import find_lessons
from course_utils.runner import run_lessons
profile = SimpleNamespace(name="tiny", network=False, minutes={})
try:
    run_lessons(find_lessons(Path(sys.argv[1])), profile, Path(sys.argv[2]))
except RuntimeError as error:
    sys.exit(str(error))
"""
ENDLESS = (
    "import os, pathlib, time\npathlib.Path(os.environ['COURSE_BUILD'], 'kernel').write_text(str(os.getpid()))\n"
    "while True:\n    time.sleep(0.1)"
)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_ends_its_kernel_and_counts_as_interrupted(tmp_path, number):
    lesson, build = write_lesson(tmp_path / "notebooks", ENDLESS), tmp_path / "build"
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT)}
    runner = subprocess.Popen(
        [sys.executable, "-c", RUN_ALONE, str(lesson.path.parent), str(build)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # background jobs ignore it
    mark = build / "kernel"
    until(lambda: runner.poll() is not None or (mark.exists() and mark.read_text()))
    with pytest.raises(CourseError, match=f"process {runner.pid}"):  # one build, one run at a time
        run_lessons([lesson], TINY, build)

    runner.send_signal(number)
    _, message = runner.communicate(timeout=60)
    until(lambda: not psutil.pid_exists(int(mark.read_text())))
    assert read_record(build, "07_toy").status == "interrupted"
    if number == signal.SIGINT:
        assert "course run 07 --resume" in message and "Traceback" not in message
        assert "Go on with" in (build / "index.html").read_text()


def test_ctrl_c_names_the_command_that_goes_on_with_all_options(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("course_utils.runner._execute", stop)
    full = SimpleNamespace(name="full", network=True, minutes={})
    with pytest.raises(
        Interrupted, match="course run 07 --profile full -p SEED 3 --solutions --cell-minutes 2.5 --resume"
    ):
        run_lessons(
            [write_lesson(tmp_path, RECORDS)], full, tmp_path / "build", {"SEED": 3}, "solutions", cell_minutes=2.5
        )


def test_an_unknown_parameter_is_refused_before_anything_runs(course):
    write_lesson(course / "notebooks", RECORDS)
    result = command("run", "07", "-p", "NO_SUCH", "1")
    assert result.exit_code == 2
    assert "NO_SUCH" in result.output and "PROFILE, SEED, RATE, FAST, RESUME" in result.output
    assert not (course / "build").exists()


def test_an_unknown_profile_names_those_there_are(course):
    write_lesson(course / "notebooks", RECORDS)
    result = command("run", "--profile", "huge")
    assert result.exit_code == 2 and all(name in result.output for name in ("huge", "tiny", "t4", "full"))


def test_an_unknown_lesson_names_those_there_are(course):
    write_lesson(course / "notebooks", RECORDS)
    result = command("run", "99")
    assert result.exit_code == 2 and "no lesson 99" in result.output and "07" in result.output


def test_a_course_without_notebooks_says_how_to_write_them(course):
    result = command("run")
    assert result.exit_code == 1 and "course notebooks" in result.output


def test_a_build_that_is_a_file_is_named(tmp_path):
    (tmp_path / "build").write_text("mine")
    with pytest.raises(CourseError, match="COURSE_BUILD"):
        run_lessons([write_lesson(tmp_path, RECORDS)], TINY, tmp_path / "build")
    assert (tmp_path / "build").read_text() == "mine"


def test_parameters_take_the_type_of_the_lessons_own_values(tmp_path):
    lesson = write_lesson(tmp_path, parameters=PARAMETERS + '\nMODEL = "a=b"\nLIMIT = None')
    pairs = [("SEED", "4"), ("RATE", "1"), ("FAST", "true"), ("MODEL", "7"), ("LIMIT", "20")]
    assert parse_parameters(lesson, pairs) == {"SEED": 4, "RATE": 1.0, "FAST": True, "MODEL": "7", "LIMIT": 20}
    for name, value in [("SEED", "many"), ("SEED", "1.5"), ("FAST", "1"), ("PROFILE", "t4")]:
        with pytest.raises(UsageError, match=name):
            parse_parameters(lesson, [(name, value)])


def test_lessons_are_found_by_number_and_name_in_order(tmp_path):
    for name in ("08_next", "07_toy"):
        write_lesson(tmp_path, name=name)
    (tmp_path / "scratch.ipynb").write_text("{}")
    assert [lesson.name for lesson in find_lessons(tmp_path)] == ["07_toy", "08_next"]
    assert [lesson.name for lesson in find_lessons(tmp_path, ["8", "07_toy"])] == ["07_toy", "08_next"]
    assert find_lessons(tmp_path, ["7"])[0].title() == "07 · A toy lesson"


def test_outputs_do_not_change_a_lessons_fingerprint_but_cells_do(tmp_path):
    lesson = write_lesson(tmp_path, "x = 1")
    before = lesson.fingerprint()
    notebook = nbformat.read(lesson.path, as_version=4)
    notebook.cells[-1].execution_count = 5
    nbformat.write(notebook, lesson.path)
    assert lesson.fingerprint() == before
    assert write_lesson(tmp_path, "x = 2").fingerprint() != before


def test_a_notebook_that_is_damaged_is_named(tmp_path):
    (tmp_path / "07_toy.ipynb").write_text("{")
    with pytest.raises(CourseError, match="cannot be read as a notebook"):
        Lesson(tmp_path / "07_toy.ipynb").parameters()


def record(**values):
    base = dict(lesson="07_toy", title="t", profile="tiny", parameters={}, variant="learner", fingerprint="x")
    return Record(**{**base, **values})


def test_resume_runs_again_what_differs_in_anything_that_decides_the_figures():
    assert record().same_run(record(parameters={"RESUME": True}))
    for change in (
        {"fingerprint": "y"},
        {"profile": "t4"},
        {"parameters": {"SEED": 1}},
        {"variant": "solutions"},
        {"versions": {"torch": "0"}},
    ):
        assert not record().same_run(record(**change))


def test_a_record_whose_process_is_gone_was_interrupted(tmp_path):
    write_record(tmp_path, record(process=[os.getpid(), 1.0]))  # our number, another process
    assert read_record(tmp_path, "07_toy").status == "interrupted"
    write_record(tmp_path, record())
    assert read_record(tmp_path, "07_toy").status == "running"


def test_only_profiles_without_a_network_are_offline(tmp_path):
    assert kernel_environment(TINY, tmp_path)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in kernel_environment(SimpleNamespace(network=True), tmp_path)


def test_the_kernel_is_this_python_whatever_kernels_the_home_folder_has(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3"
    spec.mkdir(parents=True)
    (spec / "kernel.json").write_text(
        json.dumps({"argv": ["/no/such/python"], "display_name": "x", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    manager = _kernel_manager({"PLACE": "a$b"})(kernel_name="python3")
    assert manager.kernel_spec.argv[0] == sys.executable and manager.kernel_spec.env == {"PLACE": "a$$b"}


@pytest.mark.parametrize(
    ("name", "message", "kind"),
    [
        ("OutOfMemoryError", "CUDA out of memory", "memory"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory", "memory"),
        ("OSError", "[Errno 28] No space left on device", "disk"),
        ("ConnectionError", "", "network"),
        ("ModuleNotFoundError", "No module named 'x'", "dependency"),
        ("DeadKernelError", "Kernel died", "kernel"),
        ("CellTimeoutError", "", "timeout"),
        ("AssertionError", "", "assertion"),
        ("ValueError", "", "error"),
    ],
)
def test_failures_are_classed(name, message, kind):
    assert classify(name, message)[0] == kind


def test_an_error_of_the_course_is_its_own_advice():
    assert classify("CourseError", "Run `course build-standins`.") == ("set-up", "Run `course build-standins`.")
