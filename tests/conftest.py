"""What every test shares: no network, no windows, and one run per lesson for tests that take a `lesson`."""

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from course_utils.notebooks import find_sources  # noqa: E402, after the environment is set


def pytest_generate_tests(metafunc):
    """A test with an argument `lesson` runs once per source; with none, test_notebooks_in_step fails."""
    if "lesson" in metafunc.fixturenames:
        metafunc.parametrize("lesson", find_sources(), ids=lambda source: source.stem)


@pytest.fixture(scope="session")
def documents():
    """The whole data set, drawn once (1 to 2 minutes in a fresh clone) for all the tests that look at it."""
    from course_utils.documents import build_documents

    return build_documents()
