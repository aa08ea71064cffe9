"""NDCG, intervals, tests and duplicates."""

import tracemalloc
import warnings

import ir_measures
import numpy as np
import pytest
import torch
from PIL import Image
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.util import cos_sim

from course_utils import evaluation
from course_utils.errors import CourseError
from course_utils.evaluation import (
    Interval,
    bootstrap,
    deduplicate_by_content,
    error_cut,
    ndcg_at_k,
    paired_bootstrap,
    per_query_ndcg,
    randomisation_test,
    rankings,
)

# --- NDCG ---


@pytest.fixture(params=["distinct", "ties"])
def collection(request):
    """Queries (40, 16), pages (120, 16), their ids and judgements; with "ties", cosines are multiples of 1/16."""
    rng = np.random.default_rng(3)
    queries, pages = rng.normal(size=(40, 16)), rng.normal(size=(120, 16))
    if request.param == "ties":
        queries, pages = np.sign(queries), np.sign(pages)
    query_ids, page_ids = [f"q{i}" for i in range(40)], [f"p{i}" for i in rng.permutation(120)]
    relevant = {query: set(rng.choice(page_ids, size=rng.integers(1, 14), replace=False)) for query in query_ids}
    return queries.astype(np.float32), pages.astype(np.float32), query_ids, page_ids, relevant


def test_ndcg_equals_the_information_retrieval_evaluator(collection):
    queries, pages, query_ids, page_ids, relevant = collection
    evaluator = InformationRetrievalEvaluator(
        {query: query for query in query_ids},
        {page: page for page in page_ids},
        relevant,
        score_functions={"cosine": cos_sim},
        write_csv=False,
    )
    evaluator.embed_inputs = lambda *args, **kwargs: torch.from_numpy(queries)  # no model: its embeddings stand here
    expected = evaluator.compute_all_metrics(None, corpus_embeddings=torch.from_numpy(pages))["cosine"]["ndcg@k"][10]
    scores = per_query_ndcg(torch.from_numpy(queries), torch.from_numpy(pages), query_ids, page_ids, relevant)
    assert scores.shape == (40,)
    assert scores.mean() == pytest.approx(expected, abs=1e-6)


def test_rankings_are_by_cosine_and_ties_go_to_the_smaller_id():
    pages = np.array([[0, 5.0], [3, 0], [0, 0.1], [1, 1]])
    assert rankings(np.array([[0, 2.0]]), pages, ["d", "c", "b", "a"], k=3) == [["b", "d", "a"]]


def test_half_precision_vectors_are_scored_in_float():
    half = torch.tensor([[1.0, 0.001], [0.0, 1.0]], dtype=torch.float16)
    assert (
        rankings(half, half, ["a", "b"], k=1) == rankings(half.numpy(), half.numpy(), ["a", "b"], k=1) == [["a"], ["b"]]
    )


def test_ndcg_recall_and_mrr_are_those_of_the_referee_who_reads_the_trec_files(collection, tmp_path):
    queries, pages, query_ids, page_ids, relevant = collection
    ranked = rankings(queries, pages, page_ids, k=20)
    run_file, qrels_file = evaluation.write_trec(tmp_path, "model", query_ids, ranked, relevant)
    run, qrels = ir_measures.read_trec_run(str(run_file)), ir_measures.read_trec_qrels(str(qrels_file))
    names = {str(measure): measure for measure in (ir_measures.nDCG @ 10, ir_measures.R @ 10, ir_measures.RR @ 10)}
    found = {name: {} for name in names}
    for score in ir_measures.iter_calc(names.values(), list(qrels), list(run)):
        found[str(score.measure)][score.query_id] = score.value
    hits = {query: [page in relevant[query] for page in row[:10]] for query, row in zip(query_ids, ranked, strict=True)}
    by_hand = {
        "nDCG@10": per_query_ndcg(queries, pages, query_ids, page_ids, relevant),
        "R@10": [sum(hits[query]) / len(relevant[query]) for query in query_ids],
        "RR@10": [1 / (1 + hits[query].index(True)) if any(hits[query]) else 0 for query in query_ids],
    }
    for name, values in by_hand.items():
        assert list(values) == pytest.approx([found[name][query] for query in query_ids], abs=1e-6), name


# --- intervals ---


def test_the_bootstrap_interval_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    samples = rng.beta(2, 1, size=(300, 200))  # true mean 2/3
    intervals = [bootstrap(sample, seed=i, resamples=500) for i, sample in enumerate(samples)]
    covered = np.mean([interval.low <= 2 / 3 <= interval.high for interval in intervals])
    assert 0.90 <= covered <= 0.985


def test_the_same_seed_gives_the_same_interval_and_chunks_do_not_matter(monkeypatch):
    scores = np.random.default_rng(1).random(50)
    assert bootstrap(scores, seed=4) == bootstrap(scores, seed=4) != bootstrap(scores, seed=5)
    whole = bootstrap(scores, resamples=999)
    monkeypatch.setattr(evaluation, "RESAMPLE_BYTES", 50_000)  # 41 resamples at once
    assert bootstrap(scores, resamples=999) == whole


def test_the_bootstrap_stays_below_100_mb():
    scores = np.random.default_rng(1).random(3000)
    tracemalloc.start()
    error_cut(scores / 2, scores, resamples=6000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


def test_a_paired_interval_is_narrower_than_the_difference_of_two():
    rng = np.random.default_rng(2)
    before = rng.random(300)
    after = before + 0.1 + rng.normal(0, 0.02, 300)
    gain = paired_bootstrap(before, after)
    assert gain.mean == pytest.approx((after - before).mean())
    assert 0.09 < gain.low < gain.mean < gain.high < 0.11
    assert gain.high - gain.low < (bootstrap(after).high - bootstrap(after).low) / 5


def test_the_error_cut_is_the_share_of_the_error_that_is_gone():
    rng = np.random.default_rng(2)
    before = rng.random(300)
    cut = error_cut(before, 1 - 0.4 * (1 - before))
    assert (cut.mean, cut.low, cut.high) == pytest.approx((0.6, 0.6, 0.6))
    assert error_cut([0.5, 0.7], [0.5, 0.7]).mean == 0
    noisy = error_cut(before, np.clip(before + rng.normal(0.2, 0.2, 300), 0, 1))
    assert noisy.low < noisy.mean < noisy.high and noisy.n == 300
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rare = error_cut([1, 1, 0], [1, 1, 1])  # most resamples hold the failed query, some do not
    assert (rare.low, rare.mean, rare.high) == (1, 1, 1)


def test_an_interval_whose_printed_end_is_zero_does_not_lie_above_zero():
    gain = paired_bootstrap(np.zeros(1000), np.full(1000, 0.0004) + np.tile([1e-4, -1e-4], 500))
    assert 0 < gain.mean <= gain.high and "[0.000, " in str(gain) and not gain.low > 0
    assert bootstrap([0.12345, 0.12345]).high == 0.12345, "no narrower than its mean"


def test_one_query_has_an_interval_of_no_width():
    assert bootstrap([0.5]) == paired_bootstrap([0.25], [0.75]) == Interval(0.5, 0.5, 0.5, 1)


def test_the_randomisation_test_counts_signs_that_come_as_far():
    rng = np.random.default_rng(3)
    before = rng.random(60)
    after = before + rng.normal(0.01, 0.05, 60)
    signs = np.random.default_rng(4).choice([-1, 1], size=(10_000, 60))
    by_hand = np.mean(np.abs((signs * (after - before)).mean(axis=1)) >= abs((after - before).mean()))
    assert 0.01 < randomisation_test(before, after) < 0.5
    assert randomisation_test(before, after) == pytest.approx(by_hand, abs=0.02)
    assert randomisation_test(before, before + 1) == pytest.approx(1 / 10_001)
    assert randomisation_test([0, 0, 0], [1, 1, 1]) == 0.25  # of eight arrangements of signs, two come as far
    assert randomisation_test(before, before) == randomisation_test([0], [1]) == 1


# --- duplicates ---


def test_a_page_that_is_there_twice_does_not_punish_a_perfect_model(tmp_path):
    page, copy, other = tmp_path / "a.png", tmp_path / "copy.png", tmp_path / "b.png"
    page.write_bytes(b"page"), copy.write_bytes(b"page"), other.write_bytes(b"other")
    relevant = {"q": {"positive"}}
    ids = ["negative", "positive", "other"]  # the copy, which nobody judged, comes first
    assert ndcg_at_k(ids, relevant["q"]) < 1
    canonical = deduplicate_by_content([copy, str(page), other], ids)
    assert canonical == {"negative": "negative", "positive": "negative", "other": "other"}
    merged = evaluation.merge_judgements(relevant, canonical)
    assert merged == {"q": {"negative"}}
    corpus = list(dict.fromkeys(canonical.values()))
    assert ndcg_at_k(corpus, merged["q"]) == 1


def test_content_may_be_bytes_or_images():
    white, same, black = (Image.new("L", (4, 4), shade) for shade in (255, 255, 0))
    tall = Image.new("L", (2, 8), 255)  # the same bytes in another shape
    found = deduplicate_by_content([white, same, black, tall, b"x", b"x"], "abcdef")
    assert list(found.values()) == list("aacdee")


# --- what cannot be measured ---


@pytest.mark.parametrize(
    ("measure", "problem"),
    [
        (lambda: ndcg_at_k(["a"], set()), "no NDCG"),
        (lambda: per_query_ndcg(np.eye(2), np.eye(2), ["q0", "q1"], ["a", "b"], {"q0": {"a"}}), "q1"),
        (lambda: rankings(np.eye(2), np.eye(2), ["a", "a"]), "distinct page ids"),
        (lambda: rankings(np.array([[np.nan, 1]]), np.ones((1, 2)), ["a"]), "not finite"),
        (lambda: bootstrap([float("nan")]), "finite score"),
        (lambda: paired_bootstrap([0.1, 0.2], [0.1]), "same queries"),
        (lambda: error_cut([1, 1], [1, 1]), "perfect"),
    ],
)
def test_what_cannot_be_measured_gets_a_sentence(measure, problem):
    with pytest.raises(CourseError, match=problem):
        measure()
