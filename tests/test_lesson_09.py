"""Lesson 09: its two raw rerankers start as one, and reranking gains what it says."""

import numpy as np
import pytest
from executed import functions_of, output_text

from course_utils import evaluation, finetuned, plots
from course_utils.errors import CourseError
from course_utils.evaluation import Interval


@pytest.fixture(scope="module")
def defined():
    """The functions that the lesson's notebook defines, by name."""
    return functions_of("09_train_a_reranker", np=np, evaluation=evaluation)


# --- functions of the notebook, and its figures ---


def test_candidates_are_reordered_by_score_and_ties_keep_the_retrievers_order(defined):
    assert defined["reorder"](["a", "b", "c", "d"], np.array([0.0, 2.0, 1.0, 2.0])) == ["b", "d", "c", "a"]
    assert defined["rank_of_page"](["a", "b", "c"], {"c"}) == 3
    assert defined["rank_of_page"](["a", "b", "c"], {"x"}) is None


def test_calibration_error_is_zero_for_a_probability_and_the_gap_for_anything_else(defined):
    error = defined["calibration_error"]
    rng = np.random.default_rng(0)
    probabilities = rng.uniform(size=50_000)
    labels = (rng.uniform(size=50_000) < probabilities).astype(int)
    assert error(probabilities, labels) < 0.01
    assert error(np.full(100, 0.9), np.arange(100) % 2) == pytest.approx(0.4)
    assert error(np.ones(10), np.zeros(10)) == 1


def test_figures_show_every_depth_and_every_system():
    interval = Interval(0.9, 0.88, 0.92, 300)
    depths = {0: interval, 5: interval, 20: interval}
    figure = plots.by_depth(depths, {0: 0.01, 5: 0.1, 20: 0.4}, {0: 0.9, 5: 0.95, 20: 0.99})
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["0\n0.01 s", "5\n0.10 s", "20\n0.40 s"]
    pair = (np.array([0.1, 0.9]), np.array([0, 1]))
    assert len(plots.reliability({"one": pair, "two": pair}).axes) == 4
    with pytest.raises(CourseError):
        plots.by_depth(depths, {0: 0.01}, {0: 0.9})
    with pytest.raises(CourseError):
        plots.reliability({"one": (np.array([0.1]), np.array([]))})


# --- the lesson ---


def test_lesson_09_meets_the_template_that_drops_a_pair_and_then_gives_it_both_roles(ran):
    text = output_text(ran[0])
    assert "cannot carry a 'query'/'document' pair" in text
    assert "<|im_start|> system" in text and "<|im_start|> query" in text and "<|im_start|> document" in text


def test_lesson_09_logit_score_and_dense_start_as_one(metrics):
    assert metrics["heads/difference"] < 1e-3


def test_lesson_09_starts_from_the_score_that_lesson_07_left(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    assert metrics["ndcg@10/retrieved"] == pytest.approx(finetuned.seeds()[0]["metrics"]["ndcg@10/after"], abs=0.01)


def test_lesson_09_the_gain_is_that_of_the_two_scores_and_below_the_ceiling(metrics):
    assert metrics["recall@20"] >= metrics["ndcg@10/reranked"] > metrics["ndcg@10/reranked/alone"]
    assert metrics["ndcg@10/gain"] == pytest.approx(metrics["ndcg@10/reranked"] - metrics["ndcg@10/retrieved"])
    assert metrics["queries-won"] + metrics["queries-lost"] <= metrics["queries"]


def test_lesson_09_retrieval_is_weakest_in_unseen_wordings(metrics):
    slices = ("unseen-country", "scan", "bars", "line", "pie", "table", "unseen-wording")
    scores = {name: metrics[f"ndcg@10/retrieved/{name}"] for name in slices}
    assert min(scores, key=scores.get) == "unseen-wording"
    assert all(f"ndcg@10/reranked/{name}/low" in metrics for name in slices)


@pytest.mark.xfail(strict=True, raises=AssertionError, reason="the small reranker is no better than its retriever")
def test_lesson_09_gain_is_beyond_the_luck_of_the_queries(metrics):
    assert metrics["ndcg@10/gain/low"] > 0


def test_lesson_09_finetuning_teaches_the_ready_reranker_these_queries(metrics):
    dev = {name: metrics[f"ndcg@10/dev/{name}"] for name in ("ready-finetuned-listwise", "ready", "chance")}
    assert dev["ready-finetuned-listwise"] > dev["ready"] > dev["chance"]


def test_lesson_09_scaling_brings_scores_near_probabilities(metrics):
    assert metrics["calibration-error/scaled-on-dev"] < metrics["calibration-error/as-trained"]


def test_lesson_09_reloads_to_the_same_scores(metrics):
    assert metrics["reload/difference"] < 1e-4
