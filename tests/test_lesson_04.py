"""Lesson 04: its measures are the library's, its comparisons are fair, and each sentence about a figure holds."""

import math

import ir_measures
import numpy as np
import pytest
from executed import functions_of, output_text, readme_figures

from course_utils import evaluation

SYSTEMS = ("random", "topic-only", "country-only", "bm25", "minilm-text", "before")


@pytest.fixture(scope="module")
def defined():
    """The functions that the lesson's notebook defines, by name."""
    return functions_of("04_measure_retrieval", np=np)


# --- functions of the notebook ---


def test_ndcg_by_hand_gives_the_values_worked_out_on_paper(defined):
    ndcg = defined["ndcg_at_10"]
    others = [f"x{k}" for k in range(20)]
    assert ndcg(["a", "b"], {"a"}) == 1
    assert ndcg(["b", "a"], {"a"}) == pytest.approx(1 / math.log2(3))
    assert ndcg([*others[:9], "a"], {"a"}) == pytest.approx(1 / math.log2(11))
    assert ndcg([*others[:10], "a"], {"a"}) == 0
    assert ndcg(["x", "a", "y", "b"], {"a", "b"}) == pytest.approx(
        (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3))
    )
    assert ndcg(["a", "b"], {"a", "missing"}) == pytest.approx(1 / (1 + 1 / math.log2(3)))
    assert ndcg(others, set(others[:13])) == 1, "with more than ten relevant pages, ten of them on top are perfect"


def test_ndcg_by_hand_agrees_with_the_course_on_random_rankings(defined):
    rng = np.random.default_rng(0)
    pages = [f"p{k}" for k in range(40)]
    for _ in range(200):
        ranking = list(rng.permutation(pages))[: rng.integers(1, 41)]
        relevant = set(rng.choice(pages, size=rng.integers(1, 16), replace=False))
        assert defined["ndcg_at_10"](ranking, relevant) == pytest.approx(
            evaluation.ndcg_at_k(ranking, relevant), abs=1e-12
        )


def test_the_solved_exercise_grades_as_the_referee_does(defined):
    rng = np.random.default_rng(0)
    pages = [f"p{k:02d}" for k in range(30)]
    for _ in range(50):
        ranking = [str(page) for page in rng.permutation(pages)]
        graded = rng.choice(pages, size=rng.integers(1, 16), replace=False)
        grades = {str(page): int(rng.integers(1, 4)) for page in graded}
        qrels = [ir_measures.Qrel("q", page, grade) for page, grade in grades.items()]
        found = [ir_measures.ScoredDoc("q", page, -float(k)) for k, page in enumerate(ranking)]
        referee = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, found)[ir_measures.nDCG @ 10]
        assert defined["graded_ndcg"](ranking, grades) == pytest.approx(referee, abs=1e-9)


def test_mrr_sees_the_first_relevant_page_and_recall_how_many(defined):
    ranking = ["x", "a", "y", "b", *(f"z{k}" for k in range(10)), "c"]
    assert defined["mrr_at_10"](ranking, {"a", "b", "c"}) == 1 / 2
    assert defined["recall_at_10"](ranking, {"a", "b", "c"}) == pytest.approx(2 / 3)
    assert defined["mrr_at_10"](ranking, {"c"}) == defined["recall_at_10"](ranking, {"c"}) == 0


def test_rankings_are_whole_and_ties_go_to_the_smaller_id(defined):
    import torch

    similarity = torch.tensor([[0.5, 0.9, 0.5], [0.1, 0.1, 0.1]])
    assert defined["ranked"](similarity, ["c", "b", "a"]) == [["b", "a", "c"], ["a", "b", "c"]]


def test_the_number_of_queries_grows_with_the_square_of_spread_over_difference(defined):
    needed = defined["queries_needed"]
    assert needed(0.1, 0.02) == math.ceil(2.8**2 * 25)
    assert needed(0.2, 0.02) == pytest.approx(4 * needed(0.1, 0.02), abs=4)


def test_the_choices_of_exercise_3_are_the_half_width_and_the_number_that_finds_the_difference(defined):
    spread = 0.06 * math.sqrt(40) / 1.96  # half of the made-up interval is 0.06
    assert defined["queries_needed"](spread, 0.04) == 184
    assert round((1.96 * spread / 0.04) ** 2) == 90


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.01, 0.02, "new is better"), (-0.02, -0.01, "old is better"), (-0.01, 0.01, "no difference shown")],
)
def test_an_interval_with_zero_inside_shows_nothing(defined, low, high, says):
    assert defined["verdict"](evaluation.Interval((low + high) / 2, low, high, 9), "new", "old") == says


# --- what it recorded ---


def test_it_scores_all_the_test_queries(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)


def test_it_measures_what_the_library_and_the_referee_measure(metrics):
    assert metrics["library/difference"] <= 1e-6
    assert metrics["referee/difference"] <= 1e-6


def test_three_measures_of_one_ranking_differ(metrics):
    assert metrics["mrr@10/before"] < metrics["ndcg@10/before"] < metrics["recall@10/before"]


def test_base_model_and_baselines_are_in_their_order(metrics):
    score = {system: metrics[f"ndcg@10/{system}"] for system in SYSTEMS}
    assert score["random"] < 0.01 < score["topic-only"] < score["country-only"]
    assert score["topic-only"] < score["bm25"] and score["country-only"] < score["minilm-text"]
    assert metrics["ndcg@10/before/low"] > max(score[name] for name in SYSTEMS[:-1])


def test_text_baselines_are_blind_on_scans_and_the_page_model_is_not(metrics):
    for system in ("bm25", "minilm-text"):
        assert metrics[f"ndcg@10/{system}/scan"] == 0 < metrics[f"ndcg@10/{system}/text"]
    assert metrics["ndcg@10/before/scan/low"] > 0.5
    assert metrics["ndcg@10/bm25/text-named/low"] > metrics["ndcg@10/bm25/text-unnamed/high"]


def test_bm25_uses_both_halves_of_a_query_where_it_names_the_country(metrics):
    assert metrics["ndcg@10/bm25-over-country-only/text-named/low"] > 0
    assert not metrics["ndcg@10/bm25-over-country-only/all/low"] > 0, "over all queries that does not show"


def test_the_page_model_s_lead_over_minilm_is_larger_with_the_scans(metrics):
    assert metrics["ndcg@10/before-over-minilm-text/all/low"] > 0
    assert metrics["ndcg@10/before-over-minilm-text/all/low"] > metrics["ndcg@10/before-over-minilm-text/text/high"]


def test_the_sentence_on_where_the_page_model_s_lead_comes_from_is_what_the_intervals_say(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    lead, with_text = (metrics[f"ndcg@10/before-over-minilm-text/{which}/low"] for which in ("all", "text"))
    said = "is shown only with the scans" if with_text <= 0 else "is shown without the scans, too"
    assert f"The page model's lead over all queries {said if lead > 0 else 'is not shown'}." in text


@pytest.mark.parametrize("system", ["ocr-bm25", "ocr-minilm"])
def test_the_parts_where_ocr_is_shown_to_be_worse_are_those_where_the_interval_says_so(ran, system):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    worse = [part for part in ("all", "scan", "text") if metrics[f"ndcg@10/before-over-{system}/{part}/low"] > 0]
    assert f"You saw the page model shown to be better than {system} on: {', '.join(worse) or 'no part'}." in text


@pytest.mark.parametrize("system", ["ocr-bm25", "ocr-minilm"])
def test_ocr_gives_text_systems_the_scans_to_read(metrics, system):
    layer = {"ocr-bm25": "bm25", "ocr-minilm": "minilm-text"}[system]
    assert metrics[f"ndcg@10/{system}/scan/low"] > metrics[f"ndcg@10/{layer}/scan"]
    assert metrics[f"ndcg@10/{system}/low"] > metrics[f"ndcg@10/{layer}"]


def test_seconds_a_page_are_measured_for_ocr_and_for_the_page_model(metrics):
    assert metrics["seconds/page/ocr"] > 0 and metrics["seconds/page/model"] > 0


def test_the_interval_of_a_difference_is_narrower_than_that_of_a_score(metrics):
    def width(name):
        return metrics[f"{name}/high"] - metrics[f"{name}/low"]

    assert 0 < width("ndcg@10/difference/cut") < width("ndcg@10/before")


def test_the_number_of_queries_has_the_power_that_it_says(metrics):
    assert 0 < metrics["queries-needed/similar"] < metrics["queries-needed/different"]
    assert 0.7 <= metrics["power"] <= 0.9


@pytest.mark.parametrize("system", ["perfect", "before", "cut"])
def test_copied_pages_cost_every_model_until_they_are_merged(metrics, system):
    clean = metrics.get(f"ndcg@10/{system}", 1)  # a perfect model has 1
    assert metrics[f"ndcg@10/{system}/duplicates"] < clean
    assert metrics[f"ndcg@10/{system}/deduplicated"] == pytest.approx(clean)


def test_a_perfect_model_pays_for_the_half_of_the_copies_that_come_first(metrics):
    assert metrics["ndcg@10/perfect/duplicates"] == pytest.approx((1 + 1 / math.log2(3)) / 2, abs=0.04)


def test_the_readme_gives_the_score_of_ocr_with_minilm(metrics):
    assert readme_figures("lesson 04's")[0] == pytest.approx(metrics["ndcg@10/ocr-minilm"], abs=0.01)
