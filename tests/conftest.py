"""What every test shares: no network, no windows, and one run per lesson for tests that take a `lesson`."""

import json
import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from course_utils.paths import ROOT  # noqa: E402
from course_utils.runner.notebooks import find_sources  # noqa: E402, after the environment is set

NO_NETWORK = Path(__file__).parent / "no_network"


def pytest_generate_tests(metafunc):
    """A test with an argument `lesson` runs once per source; with none, test_notebooks_in_step fails."""
    if "lesson" in metafunc.fixturenames:
        metafunc.parametrize("lesson", find_sources(), ids=lambda source: source.stem)


@pytest.fixture(scope="session")
def documents():
    """The whole data set, drawn once (1 to 2 minutes in a fresh clone) for all the tests that look at it."""
    from course_utils.pages.dataset import build_documents

    return build_documents()


@pytest.fixture(scope="session")
def execute(documents, tmp_path_factory):
    """A function that runs a notebook as `papermill in out` does, offline; returns it executed and its metrics.json."""
    import papermill

    folder = tmp_path_factory.mktemp("lessons")

    def run(path, **parameters):
        # A run with other parameters must not leave its model where the next lesson looks for the whole run's.
        build = folder / f"build-{path.parent.name}{'-shortened' if parameters else ''}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COURSE_BUILD", str(build))
            patch.setenv("PYTHONPATH", os.pathsep.join([str(NO_NETWORK), str(ROOT)]))
            patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
            notebook = papermill.execute_notebook(
                str(path), str(folder / "out.ipynb"), parameters=parameters, kernel_name="python3", cwd=str(folder)
            )
        return notebook, json.loads((build / path.stem / "metrics.json").read_text(encoding="utf-8"))

    return run
