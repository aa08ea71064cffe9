"""Lesson 10: codes and what they cost, an index against exact search, fusion by slice, and a server that is in parity."""

import numpy as np
import pytest
from executed import functions_of, output_text

from course_utils import finetuned
from course_utils.profiles import PROFILES
from course_utils.search.load import WEIGHT

DIMENSIONS = PROFILES["tiny"].dimensions
FULL = DIMENSIONS[0]
BYTES = {"float32": 4, "float16": 2, "int8": 1, "binary": 1 / 8, "binary-rescored": 1 / 8}
SIZES = (1500, 100_000, 1_000_000)
SLICES = ("text", "scan", "unseen-wording", "unseen-natural")


@pytest.fixture(scope="module")
def defined():
    """The functions that the lesson's notebook defines, by name."""
    return functions_of("10_retrieve_rerank_serve", np=np, rng=np.random.default_rng(0))


def vectors(rows, d=32, seed=0):
    found = np.random.default_rng(seed).standard_normal((rows, d)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


# --- functions of the notebook ---


def test_equals_give_the_score_of_the_worst_the_mean_and_the_best_order(defined):
    worst, mean, best = defined["ndcg"](np.array([[0.9, 0.5, 0.5, 0.5], [0.1, 0.9, 0.2, 0.3]]), np.array([1, 1]))
    assert best == pytest.approx([1 / np.log2(3), 1]) and worst == pytest.approx([1 / np.log2(5), 1])
    assert mean[0] == pytest.approx(np.mean([1 / np.log2(rank + 1) for rank in (2, 3, 4)]))
    everything_ties = defined["ndcg"](np.zeros((1, 1000)), np.array([5]))
    assert everything_ties[0] == 0 and everything_ties[2] == 1 and 0 < everything_ties[1][0] < 0.01


def test_int8_codes_are_the_library_s_and_decoding_misses_by_half_a_step_at_most(defined):
    from sentence_transformers.util.quantization import quantize_embeddings

    pages = vectors(200)
    low, step = pages.min(axis=0), (pages.max(axis=0) - pages.min(axis=0)) / np.float32(255)
    codes = defined["int8_codes"](pages, low, step)
    library = quantize_embeddings(pages, "int8", ranges=np.stack([pages.min(axis=0), pages.max(axis=0)]))
    assert codes.dtype == np.int8 and np.array_equal(codes, library)
    assert (np.abs(defined["decode"](codes, low, step) - pages) <= 0.51 * step).all()


def test_hamming_counts_the_bits_that_differ(defined):
    one, pages = np.array([0b10100000, 255], np.uint8), np.array([[0b10100000, 255], [0b01100000, 0]], np.uint8)
    assert defined["hamming"](one, pages).tolist() == [0, 2 + 8]


@pytest.mark.parametrize("precision", BYTES)
def test_every_precision_finds_a_page_by_its_own_vector(defined, precision):
    pages = vectors(100, 64)
    similarity = defined["similarity"](pages, pages, precision, 64)
    assert (similarity.argmax(axis=1) == np.arange(100)).all()


def test_rescoring_reorders_the_nearest_bits_only(defined):
    queries, pages = vectors(5, seed=1), vectors(100)
    bits = defined["similarity"](queries, pages, "binary", 32)
    rescored = defined["similarity"](queries, pages, "binary-rescored", 32, shortlist=10)
    for row, better in zip(bits, rescored, strict=True):
        assert set(np.argsort(-better)[:10]) <= set(np.flatnonzero(row >= np.sort(row)[-10]))


def test_grown_vectors_start_with_the_real_ones_and_no_two_are_alike(defined):
    base = vectors(50)
    grown = defined["grow"](base, 400)
    assert np.allclose(grown[:50], base, atol=1e-6) and np.allclose(np.linalg.norm(grown, axis=1), 1, atol=1e-5)
    assert len(np.unique(grown.round(5), axis=0)) == 400


def test_fusion_adds_reciprocal_ranks(defined):
    assert defined["fuse"]("abcd", "dxyc") == list("dcabxy")
    assert defined["fuse"]("abc", "") == list("abc")


def test_a_shift_of_sixty_puts_rank_61_of_two_lists_before_rank_1_of_one_and_not_rank_62(defined):
    for rank, first in ((61, "b"), (62, "a")):
        lists = [[f"{side}{k}" for k in range(1, rank)] + ["b"] for side in "xy"]
        lists[0][0] = "a"
        assert [page for page in defined["fuse"](*lists) if page in "ab"][0] == first


# --- the lesson ---


def test_lesson_10_starts_from_the_score_that_lesson_07_left(metrics):
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    left = finetuned.trials()["seed-0"]["ndcg@10/after"]
    assert metrics[f"ndcg@10/float32/{FULL}"] == pytest.approx(left, abs=0.01)


def test_lesson_10_names_the_bytes_of_every_precision_and_length(metrics):
    for precision, size in BYTES.items():
        for d in DIMENSIONS:
            assert metrics[f"bytes/page/{precision}/{d}"] == size * d


def test_lesson_10_every_gain_is_the_difference_to_full_precision(metrics):
    for precision in BYTES:
        for d in DIMENSIONS:
            difference = metrics[f"ndcg@10/{precision}/{d}"] - metrics[f"ndcg@10/float32/{FULL}"]
            assert metrics[f"ndcg@10/gain/{precision}/{d}"] == pytest.approx(difference)


def test_lesson_10_int8_codes_are_the_library_s_and_lose_less_than_a_hundredth(metrics):
    assert metrics["int8/same-as-library"] > 0.999
    assert metrics[f"ndcg@10/gain/int8/{FULL}/low"] > -0.01


def test_lesson_10_bits_take_one_thirty_second_of_the_bytes_and_rescoring_them_helps(metrics):
    assert metrics[f"bytes/page/binary-rescored/{FULL}"] * 32 == metrics[f"bytes/page/float32/{FULL}"]
    assert metrics[f"ndcg@10/binary-rescored/{FULL}"] > metrics[f"ndcg@10/binary/{FULL}"]


@pytest.mark.xfail(
    strict=True, raises=AssertionError, reason="with 192 bits a page, rescoring still loses 0.016 [0.002, 0.030]"
)
def test_lesson_10_bits_with_rescoring_lose_at_most_a_hundredth(metrics):
    assert metrics[f"ndcg@10/gain/binary-rescored/{FULL}"] >= -0.01


def test_lesson_10_fewer_bits_tie_more_and_rescoring_ends_the_ties(metrics):
    widths = [metrics[f"ties/width/{d}"] for d in DIMENSIONS]
    assert widths[0] < 0.03 < widths[-1]
    for d in DIMENSIONS:
        worst, mean, best = (metrics[f"ndcg@10/binary/{d}{end}"] for end in ("/worst", "", "/best"))
        assert worst <= mean <= best
        assert metrics[f"ties/width-rescored/{d}"] < widths[DIMENSIONS.index(d)]


@pytest.mark.parametrize("size", SIZES)
def test_lesson_10_the_index_finds_nearly_all_of_the_exact_ten(metrics, size):
    assert metrics[f"recall@10/index/{size}"] >= 0.9


def test_lesson_10_exact_search_in_numpy_is_fastest_for_its_own_pages(metrics):
    assert metrics["milliseconds/query/numpy/1500"] < metrics["milliseconds/query/lancedb-ivf-rq/1500"]


def test_lesson_10_exact_search_grows_with_the_rows_and_the_index_saves_most_of_it(metrics):
    exact = [metrics[f"milliseconds/query/lancedb-exact/{size}"] for size in SIZES]
    assert exact[0] < exact[1] < exact[2]
    assert metrics[f"milliseconds/query/lancedb-ivf-rq/{SIZES[-1]}"] < 0.5 * exact[-1]


@pytest.mark.parametrize("name", ["fused", "fused-bm25"])
def test_lesson_10_fusion_is_scored_on_every_slice_with_a_paired_gain(metrics, name):
    for part in SLICES:
        assert {f"ndcg@10/gain/{name}/{part}/low", f"ndcg@10/gain/{name}/{part}/high"} <= metrics.keys()


def test_lesson_10_fusion_with_minilm_helps_in_words_that_no_training_used(metrics):
    for part in SLICES[2:]:
        assert metrics[f"ndcg@10/gain/fused/{part}/low"] > 0


def test_lesson_10_fusion_with_bm25_hurts_where_the_query_s_words_are_known(metrics):
    assert max(metrics[f"ndcg@10/gain/fused-bm25/{part}/high"] for part in ("text", "scan")) < 0


def test_lesson_10_the_search_page_uses_the_weight_that_the_lesson_fits(metrics):
    assert metrics["weight"] == pytest.approx(WEIGHT, abs=0.05)


def test_lesson_10_the_reranked_part_says_what_it_gained(metrics):
    gain = metrics["ndcg@10/cheap-reranked"] - metrics["ndcg@10/cheap"]
    assert metrics["ndcg@10/gain/cheap-reranked"] == pytest.approx(gain)
    assert metrics["ndcg@10/cheap-reranked"] <= metrics["ceiling/cheap"] + 1e-9


def test_lesson_10_the_server_puts_the_right_page_first_and_names_the_time_of_each_stage(metrics):
    assert metrics["server/right-page-first"] == 1
    stages = {name: metrics[f"milliseconds/query/{name}"] for name in ("embed", "search", "fuse", "rerank")}
    assert max(stages, key=stages.get) == "rerank"


def test_lesson_10_the_server_s_vectors_are_those_of_the_notebook(metrics):
    assert metrics["parity/difference"] <= 1e-5
    for broken in ("prompt", "template", "pixels", "dtype"):
        assert metrics[f"parity/{broken}"] > 1e-4, broken


def test_lesson_10_bad_input_is_answered_with_a_sentence(ran):
    text = output_text(ran[0])
    assert "422 Write a query of 1 to 300 characters." in text and "Traceback" not in text
