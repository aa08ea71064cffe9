"""What a lesson records is whole, readable and named so that tests and the report find it."""

import json
import math

import matplotlib.pyplot as plt
import pytest

from course_utils.errors import CourseError
from course_utils.recording import Run


@pytest.fixture
def run(tmp_path):
    return Run("07_toy", profile="tiny", seed=3, build=tmp_path)


def test_a_saved_run_has_the_keys_that_the_course_promises(run, tmp_path):
    run.record("queries", 300)
    run.record_interval("ndcg@10/gain", 0.4, 0.35, 0.45)
    content = json.loads(run.save().read_text())
    assert (tmp_path / "07_toy" / "metrics.json").exists()
    assert list(content) == ["lesson", "profile", "seed", "minutes", "peak_memory_mib", "metrics", "figures"]
    assert content["metrics"] == {
        "queries": 300,
        "ndcg@10/gain": 0.4,
        "ndcg@10/gain/low": 0.35,
        "ndcg@10/gain/high": 0.45,
    }
    assert content["minutes"] >= 0 and content["peak_memory_mib"] > 1


def test_numpy_numbers_become_plain_ones(run):
    numpy = pytest.importorskip("numpy")
    run.record("pages", numpy.int64(1500))
    run.record("ndcg@10/after", numpy.float32(0.5))
    metrics = json.loads(run.save().read_text())["metrics"]
    assert metrics == {"pages": 1500, "ndcg@10/after": 0.5} and isinstance(metrics["pages"], int)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_refused_by_name(run, value):
    with pytest.raises(CourseError, match="ndcg@10/after"):
        run.record("ndcg@10/after", value)


def test_a_name_with_spaces_is_refused(run):
    with pytest.raises(CourseError, match="measure/when"):
        run.record("ndcg after", 0.5)


def test_a_figure_is_saved_with_its_alt_text(run, tmp_path):
    figure, _ = plt.subplots()
    path = run.figure("before_after", figure, alt="Two bars.")
    plt.close(figure)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert json.loads(run.save().read_text())["figures"] == {
        "before_after": {"path": "before_after.png", "alt": "Two bars."}
    }
    with pytest.raises(CourseError, match="alt text"):
        run.figure("other", figure, alt=" ")
