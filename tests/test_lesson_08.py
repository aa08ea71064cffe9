"""Lesson 08: its comparison of two models holds together."""

import math

import pytest

from course_utils.profiles import PROFILES

SLICES = ("unseen-country", "scan", "bars", "line", "pie", "table")


def test_lesson_08_gain_is_that_of_the_two_scores_and_beyond_doubt(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    assert metrics["ndcg@10/gain"] == pytest.approx(metrics["ndcg@10/after"] - metrics["ndcg@10/before"])
    assert metrics["ndcg@10/gain/low"] > 0
    assert metrics["p/randomisation"] < 0.01
    assert metrics["queries-won"] > metrics["queries-lost"]


def test_lesson_08_pairing_narrows_the_interval_of_the_gain(metrics):
    widths = {w: metrics[f"ndcg@10/{w}/high"] - metrics[f"ndcg@10/{w}/low"] for w in ("before", "after", "gain")}
    assert widths["gain"] < math.hypot(widths["before"], widths["after"])


def test_lesson_08_slices_all_have_before_after_and_gain(metrics):
    for name in SLICES:
        before, after, gain = (metrics[f"ndcg@10/{when}/{name}"] for when in ("before", "after", "gain"))
        assert gain == pytest.approx(after - before)
    assert {"ndcg@10/before/unseen-wording", "ndcg@10/after/unseen-wording"} <= metrics.keys()
    forms = [metrics[f"ndcg@10/after/{name}"] for name in ("bars", "line", "pie", "table")]
    assert min(forms) <= metrics["ndcg@10/after"] <= max(forms)


def test_lesson_08_scores_every_dimension_and_the_full_one_is_the_score_itself(metrics):
    dimensions = PROFILES["tiny"].dimensions
    for when in ("before", "after"):
        assert metrics[f"ndcg@10/{when}/dim-{dimensions[0]}"] == metrics[f"ndcg@10/{when}"]
        assert metrics[f"ndcg@10/{when}/dim-{dimensions[-1]}"] < metrics[f"ndcg@10/{when}"]
        assert all(f"ndcg@10/{when}/dim-{d}/low" in metrics for d in dimensions)


def test_lesson_08_only_the_model_trained_with_matryoshka_works_when_cut_to_its_first_dimensions(metrics):
    shortest = PROFILES["tiny"].dimensions[-1]
    kept = {
        when: metrics[f"ndcg@10/{when}/dim-{shortest}"] / metrics[f"ndcg@10/{when}"] for when in ("before", "after")
    }
    assert kept["after"] > 0.8 and kept["before"] < 0.5


@pytest.fixture
def by_budget(metrics):
    """NDCG@10 by image tokens a page, from few tokens to many."""
    scores = {
        int(name.split("/")[2].removesuffix("-tokens")): value
        for name, value in metrics.items()
        if name.startswith("ndcg@10/pixels/") and name.count("/") == 2
    }
    return dict(sorted(scores.items()))


def test_lesson_08_the_model_is_best_at_its_own_budget_and_does_not_break_above_it(metrics, by_budget):
    seconds = {name for name, value in metrics.items() if name.startswith("seconds/pixels/") and value > 0}
    assert len(by_budget) == len(seconds) == 5
    half, three_quarters, trained, above, most = by_budget.values()
    assert half < three_quarters < trained == max(by_budget.values())
    assert min(above, most) > 0.85 * trained


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="the stand-in reads best at 63 tokens, before finetuning, too"
)
@pytest.mark.parametrize("tokens, share", [(42, 0.75), (88, 0.95), (130, 0.95)])
def test_lesson_08_reaches_the_bars_that_the_course_set_itself(by_budget, tokens, share):
    assert by_budget[tokens] >= share * by_budget[63]


def test_lesson_08_what_stands_first_adds_up_and_the_right_page_does_so_more_often(metrics):
    for when in ("before", "after"):
        kinds = [
            value for name, value in metrics.items() if name.startswith(f"first-page/{when}/") and name.count("/") == 2
        ]
        assert len(kinds) == 4 and sum(kinds) == pytest.approx(1)
    assert metrics["first-page/after/the-right-page"] > metrics["first-page/before/the-right-page"]


def test_lesson_08_reports_three_training_seeds_that_all_gained(metrics):
    seeds = {name for name in metrics if name.startswith("gain-by-seed/") and name.count("/") == 1}
    assert len(seeds) == 3
    assert all(metrics[f"{name}/low"] > 0 for name in seeds)
