"""`course run` on toy lessons: it reports, refuses, resumes and loses nothing."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys

import click
import nbformat
import pytest
from click.testing import CliRunner
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from course_utils import files, paths
from course_utils.errors import CourseError
from course_utils.profiles import PROFILES
from course_utils.runner import run as module
from course_utils.runner.cli import main
from course_utils.runner.failures import classify
from course_utils.runner.lessons import Lesson, find_lessons, parse_parameters
from course_utils.runner.notebooks import METADATA
from course_utils.runner.records import Record, read_record, record_path
from course_utils.runner.run import kernel_environment, run_lessons

TINY, FULL = PROFILES["tiny"], PROFILES["full"]
PARAMETERS = 'PROFILE = "tiny"\nSEED = 0\nRATE = 0.5\nFAST = False\nRESUME = False  # go on with training'
RECORDS = """import os
from course_utils.recording import Run
run = Run("07_toy", profile=PROFILE, seed=SEED)
for name, value in (("before", 0.5), ("after", 0.9)):
    for part, shift in (("", 0), ("/low", -0.05), ("/high", 0.05)):
        run.record(f"ndcg@10/{name}{part}", value + shift)
run.save()
print("offline", os.environ["HF_HUB_OFFLINE"], "seed", SEED, "resume", RESUME)"""
posix = pytest.mark.skipif(os.name == "nt", reason="signals and scripts of Linux and macOS")


def write_lesson(folder, *cells, name="07_toy", parameters=PARAMETERS):
    """A lesson of a header, parameters and the given code cells."""
    head = new_markdown_cell(f"# {name[:2]} · A toy lesson\n\n**Time** tiny 5 min · full 3 h")
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(new_notebook(cells=[head, tagged, *map(new_code_cell, cells)], metadata=METADATA), path)
    return Lesson(path)


def a_record(**values):
    base = dict(lesson="07_toy", title="07 · Toy", profile="tiny", parameters={}, variant="learner", fingerprint="x")
    return Record(**{**base, "machine": "a machine", "commit": "abc", **values})


def run_quietly(lesson, build, *arguments, **options):
    (record,) = run_lessons([lesson], TINY, build, *arguments, say=lambda text: None, **options)
    return record


def outputs(path):
    """Printed text of an executed notebook."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course of its own for the command: folders `notebooks` and `build` below the one returned."""
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    return tmp_path


def command(*words):
    return CliRunner().invoke(main, list(words))


def test_a_lesson_runs_from_any_folder_and_is_reported_then_resume_leaves_it_alone(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    lesson, build = write_lesson(tmp_path / "a course", RECORDS), tmp_path / "build"
    assert run_quietly(lesson, build, {"SEED": 3}).status == "finished"
    assert "offline 1 seed 3 resume False" in outputs(build / "07_toy.ipynb")
    assert json.loads((build / "07_toy" / "metrics.json").read_text(encoding="utf-8"))["seed"] == 3
    report = (build / "index.html").read_text(encoding="utf-8")
    assert "finished" in report and "0.850 to 0.950" in report and 'href="07_toy.html"' in report
    html = (build / "07_toy.html").read_text(encoding="utf-8")
    assert "offline 1 seed 3" in html and "<script src" not in html

    written = (build / "07_toy.ipynb").stat().st_mtime_ns
    assert run_quietly(lesson, build, {"SEED": 3}, resume=True).status == "finished"
    assert (build / "07_toy.ipynb").stat().st_mtime_ns == written

    record_path(build, "07_toy").write_text('{"format": 0, "status": "ok"}', encoding="utf-8")  # of an older course
    run_quietly(lesson, build, {"SEED": 3}, resume=True)
    assert read_record(build, "07_toy").status == "finished"
    assert "resume True" in outputs(build / "07_toy.ipynb")


def test_a_hint_stays_folded_in_html_and_diagrams_are_beside_it_and_widgets_are_left_out(tmp_path):
    hint = "<details><summary>Hint</summary>\n\nTry *this*.\n\n</details>\n\n![a row](../images/row.svg)"
    cell = new_code_cell("box")
    cell.outputs = [
        new_output("display_data", {module.WIDGET: {"model_id": "1"}, "text/plain": "a box"}),
        new_output("stream", text="printed"),
    ]
    state = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}}}
    nbformat.write(new_notebook(cells=[new_markdown_cell(hint), cell], metadata=state), tmp_path / "07_toy.ipynb")
    module.write_html(tmp_path / "07_toy.ipynb")
    html = (tmp_path / "07_toy.html").read_text(encoding="utf-8")
    (folded,) = re.findall("<details>.*?</details>", html, re.DOTALL)
    assert "<em>this</em>" in folded, "the block was closed before its text"
    assert 'src="images/row.svg"' in html
    assert "printed" in html and "a box" not in html and "<script src" not in html and "unpkg" not in html


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("# a comment\nimport no_such_package", "dependency"),
        ("import os; os._exit(9)", "kernel"),
        ("import threading; threading.Event().wait()", "timeout"),
    ],
)
def test_a_failing_lesson_keeps_what_ran_and_says_where_and_why(tmp_path, source, kind):
    lesson, build = write_lesson(tmp_path, "print('kept')", source, "print('never')"), tmp_path / "build"
    record = run_quietly(lesson, build, cell_minutes=0.05 if kind == "timeout" else 5)
    assert (record.status, record.failure["class"]) == ("failed", kind)
    assert source.splitlines()[-1] in record.failure["cell"] and record.failure["advice"]
    assert outputs(build / "07_toy.ipynb") == "kept\n"
    assert "kept" in (build / "07_toy.html").read_text(encoding="utf-8")
    assert f"<strong>{kind}</strong>" in (build / "index.html").read_text(encoding="utf-8")


def test_a_full_disk_is_one_sentence_and_what_is_there_stays(course, monkeypatch):
    write_lesson(course / "notebooks", "print('never')")
    kept = course / "build" / "index.html"
    kept.parent.mkdir()
    kept.write_text("whole", encoding="utf-8")

    def full(handle, *arguments):
        os.close(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fdopen", full)
    result = command("run", "7")
    assert result.exit_code == 1 and "No space left" in result.output and "COURSE_BUILD" in result.output
    assert kept.read_text(encoding="utf-8") == "whole"


RUN_ALONE = """import pathlib, signal, sys
from course_utils import paths
from course_utils.runner.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
paths.NOTEBOOKS, paths.BUILD = map(pathlib.Path, sys.argv[1:])
main(["run", "07"], prog_name="course")
"""


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_stopped_run_ends_its_kernel_and_counts_as_interrupted(tmp_path, name):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        talk = f"import socket\nline = socket.create_connection({server.getsockname()})\nline.recv(1)"
        lesson, build = write_lesson(tmp_path / "notebooks", talk), tmp_path / "build"
        runner = subprocess.Popen(
            [sys.executable, "-c", RUN_ALONE, str(lesson.path.parent), str(build)],
            env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        kernel, _ = server.accept()  # the cell runs
    with kernel:
        kernel.settimeout(60)
        with pytest.raises(CourseError, match="Another run of lesson 07"):  # one build, one run at a time
            run_quietly(lesson, build)
        runner.send_signal(getattr(signal, name))
        _, message = runner.communicate(timeout=60)
        assert kernel.recv(1) == b"", "the kernel is still there"
    assert read_record(build, "07_toy").status == "interrupted"
    if name == "SIGINT":
        assert "--resume" in message and "Traceback" not in message
        assert "Go on with" in (build / "index.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["07", "-p", "NO_SUCH", "1"], ["NO_SUCH", "PROFILE, SEED, RATE, FAST, RESUME"]),
        (["--profile", "huge"], ["huge", "tiny", "t4", "full"]),
        (["99"], ["99", "07"]),
    ],
)
def test_a_wrong_command_names_what_there_is_before_anything_runs(course, words, named):
    write_lesson(course / "notebooks", RECORDS)
    result = command("run", *words)
    assert result.exit_code == 2 and all(name in result.output for name in named)
    assert not (course / "build").exists()


def test_parameters_take_the_type_of_the_lessons_own_values(tmp_path):
    lesson = write_lesson(tmp_path, parameters=PARAMETERS + '\nMODEL = "a"')
    pairs = [("SEED", "4"), ("RATE", "1"), ("FAST", "true"), ("MODEL", "7")]
    assert parse_parameters(lesson, pairs) == {"SEED": 4, "RATE": 1.0, "FAST": True, "MODEL": "7"}
    for name, value in [("SEED", "many"), ("SEED", "1.5"), ("FAST", "2"), ("PROFILE", "t4")]:
        with pytest.raises(click.UsageError, match=name):
            parse_parameters(lesson, [(name, value)])


def test_lessons_are_found_by_number_in_order(tmp_path):
    for name in ("08_next", "07_toy"):
        write_lesson(tmp_path, name=name)
    (tmp_path / "scratch.ipynb").write_text("{}", encoding="utf-8")
    for wanted in ([], ["8", "07"]):
        assert [lesson.name for lesson in find_lessons(tmp_path, wanted)] == ["07_toy", "08_next"]


def test_outputs_do_not_change_a_lessons_fingerprint_but_cells_do(tmp_path):
    lesson = write_lesson(tmp_path, "x = 1")
    before = lesson.fingerprint()
    notebook = nbformat.read(lesson.path, as_version=4)
    notebook.cells[-1].execution_count = 5
    nbformat.write(notebook, lesson.path)
    assert lesson.fingerprint() == before
    assert write_lesson(tmp_path, "x = 2").fingerprint() != before


def test_resume_runs_again_what_differs_in_anything_that_decides_the_figures():
    assert a_record().same_run(a_record(status="finished", minutes=1.0))
    others = dict(fingerprint="y", profile="t4", parameters={"SEED": 1}, variant="solutions", versions={"torch": "0"})
    for name, value in others.items():
        assert not a_record().same_run(a_record(**{name: value}))


def test_only_profiles_without_a_network_are_offline(tmp_path):
    assert kernel_environment(TINY, tmp_path)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in kernel_environment(FULL, tmp_path)


def test_the_kernel_is_this_python_whatever_kernels_the_home_folder_has(tmp_path, monkeypatch):
    spec = tmp_path / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text('{"argv": ["/no/such/python"], "display_name": "x", "language": "python"}', encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    manager = module._kernel_manager({"PLACE": "here"})(kernel_name="python3")
    assert manager.kernel_spec.argv[0] == sys.executable and manager.kernel_spec.env == {"PLACE": "here"}


@pytest.mark.parametrize(
    ("name", "message", "kind"),
    [
        ("OutOfMemoryError", "CUDA out of memory", "memory"),
        ("RuntimeError", "[enforce fail] DefaultCPUAllocator: can't allocate memory", "memory"),
        ("OSError", "[Errno 28] No space left on device", "disk"),
        ("RuntimeError", "Kernel died before replying to kernel_info", "kernel"),
        ("ConnectionError", "", "network"),
        ("AssertionError", "", "assertion"),
        ("ValueError", "", "error"),
        ("CourseError", "Run `course build-standins`.", "set-up"),
    ],
)
def test_failures_are_classed_with_advice(name, message, kind):
    found, advice = classify(name, message)
    assert found == kind and advice
