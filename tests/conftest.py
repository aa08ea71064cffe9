"""What every test shares: no network, no windows, and one run per lesson for tests that take a `lesson`."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from course_utils.notebooks import find_sources  # noqa: E402, after the environment is set


def pytest_generate_tests(metafunc):
    """A test with an argument `lesson` runs once per source; with none, test_notebooks_in_step fails."""
    if "lesson" in metafunc.fixturenames:
        metafunc.parametrize("lesson", find_sources(), ids=lambda source: source.stem)
