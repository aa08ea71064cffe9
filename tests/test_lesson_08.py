"""Lesson 08 runs offline, and its comparison holds together."""

import pytest
from executed import assert_every_cell_ran_in_order, output_text

from course_utils import finetuned
from course_utils.paths import NOTEBOOKS, SOLUTIONS
from course_utils.profiles import PROFILES

SLICES = ("unseen-country", "scan", "bars", "line", "pie", "table")


@pytest.fixture(scope="module")
def lesson_08(execute):
    """The solution of lesson 08, run once in full."""
    return execute(SOLUTIONS / "08_ndcg_before_and_after.ipynb")


@pytest.fixture(scope="module")
def metrics(lesson_08):
    return lesson_08[1]["metrics"]


def test_lesson_08_runs_every_cell_and_passes_its_own_checks(lesson_08):
    notebook, found = lesson_08
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") == 2
    assert found["peak_memory_mib"] < 8 * 1024
    assert {
        "before_after",
        "by_slice",
        "by_dimension",
        "by_budget",
        "size_and_ndcg",
        "gains",
        "first_page",
        "chance",
        "seeds",
    } == set(found["figures"])


def test_lesson_08_scores_the_whole_test_split_with_intervals(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    for name, value in metrics.items():
        if name.startswith(("ndcg@10/before", "ndcg@10/after", "ndcg@10/pixels", "first-page")):
            assert 0 <= value <= 1, name
    for name in [name.removesuffix("/low") for name in metrics if name.endswith("/low")]:
        assert metrics[f"{name}/low"] <= metrics[name] <= metrics[f"{name}/high"], name


def test_lesson_08_gain_is_that_of_the_two_scores_and_beyond_doubt(metrics):
    assert metrics["ndcg@10/gain"] == pytest.approx(metrics["ndcg@10/after"] - metrics["ndcg@10/before"])
    assert metrics["ndcg@10/gain/low"] > 0
    assert metrics["p/randomisation"] < 0.01
    assert metrics["queries-won"] > metrics["queries-lost"]


def test_lesson_08_slices_all_have_before_after_and_gain(metrics):
    for name in SLICES:
        assert {f"ndcg@10/{when}/{name}" for when in ("before", "after", "gain")} <= metrics.keys()
    assert {"ndcg@10/before/unseen-wording", "ndcg@10/after/unseen-wording"} <= metrics.keys()
    forms = [metrics[f"ndcg@10/after/{name}"] for name in ("bars", "line", "pie", "table")]
    assert min(forms) <= metrics["ndcg@10/after"] <= max(forms)


def test_lesson_08_scores_every_dimension_and_the_full_one_is_the_score_itself(metrics):
    dimensions = PROFILES["tiny"].dimensions
    for when in ("before", "after"):
        assert metrics[f"ndcg@10/{when}/dim-{dimensions[0]}"] == metrics[f"ndcg@10/{when}"]
        assert all(f"ndcg@10/{when}/dim-{d}/low" in metrics for d in dimensions)


def test_lesson_08_scores_and_times_four_pixel_budgets(metrics):
    scores = {
        int(name.split("/")[2].removesuffix("-tokens")): value
        for name, value in metrics.items()
        if name.startswith("ndcg@10/pixels/") and name.count("/") == 2
    }
    seconds = {name for name, value in metrics.items() if name.startswith("seconds/pixels/") and value > 0}
    assert len(scores) == len(seconds) == 4
    tokens = sorted(scores)
    assert tokens[2] == 63, "the third budget is the one of training"
    assert scores[tokens[0]] < scores[tokens[2]], "a page with half its pixels can be read as well"


def test_lesson_08_what_stands_first_adds_up_and_the_right_page_does_so_more_often(metrics):
    for when in ("before", "after"):
        kinds = [
            value for name, value in metrics.items() if name.startswith(f"first-page/{when}/") and name.count("/") == 2
        ]
        assert len(kinds) == 4 and sum(kinds) == pytest.approx(1)
    assert metrics["first-page/after/the-right-page"] > metrics["first-page/before/the-right-page"]


def test_lesson_08_reports_three_training_seeds_that_all_gained(metrics):
    seeds = {name for name in metrics if name.startswith("gain-by-seed/") and name.count("/") == 1}
    assert len(seeds) == len(finetuned.seeds()) == 3
    assert all(metrics[f"{name}/low"] > 0 for name in seeds)


def test_lesson_08_labels_what_it_did_not_measure(lesson_08):
    notebook, found = lesson_08
    label = "precomputed" if found["metrics"]["precomputed"] else "your own, from lesson 07"
    assert f"vectors: {label}" in output_text(notebook)
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert prose.count("published") >= 4 and "do not compare" in prose


def test_lesson_08_for_learners_runs_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / "08_ndcg_before_and_after.ipynb", ROWS=12)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") >= 2, "a blank stub passed its check"
    assert 0 <= found["metrics"]["ndcg@10/after"] <= 1
