"""What every test shares: no network, no windows, the data set drawn once, and each lesson executed once.

A test file `test_lesson_07.py` takes `metrics` (what lesson 07 recorded) and `ran` (its executed notebook and its
whole metrics.json); `execute` runs a notebook with parameters of one's own. Whoever takes one of these is slow.
"""

import json
import os
import re
import sys

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Side by side (`make test`), each worker has its share of the cores: two that take all of them are slower than one.
if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from course_utils.paths import ROOT, SOLUTIONS  # noqa: E402
from course_utils.runner.notebooks import find_sources  # noqa: E402, after the environment is set

ONLY_THIS_MACHINE = ROOT / "course_utils" / "maintain" / "rehearsal" / "only_this_machine"
SLOW_FIXTURES = {"dataset", "execute", "ran"}
CELL_SECONDS = 30 * 60
AFTER_07 = {"05", "07", "08", "09"}  # lesson 07, and those that take the model that it leaves


def pytest_generate_tests(metafunc):
    """A test with an argument `lesson` runs once per source; with none, test_notebooks_in_step fails."""
    if "lesson" in metafunc.fixturenames:
        metafunc.parametrize("lesson", find_sources(), ids=lambda source: source.stem)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark what is slow, refuse an xfail that would swallow any crash, and put what takes longest first."""
    for item in items:
        if SLOW_FIXTURES & set(item.fixturenames):
            item.add_marker("slow")
        if any("raises" not in mark.kwargs for mark in item.iter_markers("xfail")):
            raise pytest.UsageError(f"{item.nodeid}: xfail needs raises=, or a crash passes for what was expected.")
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Side by side (`make test`), one worker runs all tests of a group."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return ByGroup(config, log)


def lesson_of(nodeid: str) -> str:
    """The number of the lesson that a test executes, or nothing."""
    found = re.search(r"test_lesson_(\d\d)|\[(\d\d)_", nodeid)
    return found[1] or found[2] if found else ""


def group_of(nodeid: str) -> str:
    """What tests share that are best run in a row: a lesson that was executed, or a file."""
    number = lesson_of(nodeid)
    if not number:
        return nodeid.partition("::")[0]
    if "learner" in nodeid:
        return f"short {number}"
    return "07" if number in AFTER_07 else number


def rank(nodeid: str) -> tuple[int, bool]:
    """Lesson 07 and those that take its model come first, then other lessons, then their short runs, then the rest."""
    group, number = group_of(nodeid), lesson_of(nodeid)
    return (group != "07") + (not group.isdigit()) + (not number), number != "07"


@pytest.fixture(scope="session")
def dataset():
    """The whole data set, drawn once (1 to 2 minutes in a fresh clone): the folder that `load_dataset` takes."""
    from course_utils.dataset import prepare_dataset
    from course_utils.profiles import load_profile

    return prepare_dataset(load_profile("tiny"))


@pytest.fixture(scope="session")
def execute(dataset, tmp_path_factory):
    """A function that runs a notebook as `papermill in out` does, without a network, once per set of parameters.

    It returns the executed notebook and its metrics.json, and fails if the lesson asked for another machine. With
    `gpu_gb`, the notebook's processes have a pretended GPU of that size.
    """
    import papermill

    folder, done = tmp_path_factory.mktemp("lessons"), {}

    def run(path, gpu_gb, parameters):
        # A run with other parameters must not leave its model where the next lesson looks for the whole run's.
        build = folder / ("-".join([path.stem, path.parent.name, *parameters]) if parameters else "solutions")
        refused = folder / f"refused-by-{path.stem}.txt"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COURSE_BUILD", str(build))
            patch.setenv("REHEARSAL_REFUSED", str(refused))
            patch.setenv("PYTHONPATH", os.pathsep.join([str(ONLY_THIS_MACHINE), str(ROOT)]))
            if gpu_gb:
                patch.setenv("REHEARSAL_GPU", str(gpu_gb))
            patch.setenv("PATH", os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
            build.mkdir(exist_ok=True)
            notebook = papermill.execute_notebook(
                str(path),
                str(build / path.name),
                parameters=parameters,
                kernel_name="python3",
                cwd=str(folder),
                execution_timeout=CELL_SECONDS,
            )
        assert not refused.exists(), f"asked for another machine: {refused.read_text(encoding='utf-8')}"
        return notebook, json.loads((build / path.stem / "metrics.json").read_text(encoding="utf-8"))

    def once(path, gpu_gb=0, **parameters):
        key = (path, gpu_gb, *sorted(parameters.items()))
        if key not in done:
            try:
                done[key] = run(path, gpu_gb, parameters)
            except Exception as error:  # a lesson that fails is not tried again by its next test
                done[key] = error
        if isinstance(done[key], Exception):
            raise done[key]
        return done[key]

    return once


@pytest.fixture
def ran(request, execute):
    """The solution of the lesson that the test file is named after: its executed notebook, its metrics.json."""
    number = request.module.__name__.removeprefix("test_lesson_")
    return execute(next(SOLUTIONS.glob(f"{number}_*.ipynb")))


@pytest.fixture
def metrics(ran):
    return ran[1]["metrics"]
