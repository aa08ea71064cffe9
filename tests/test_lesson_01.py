"""Lesson 01: what a loaded model is made of, what it takes, and what pixels cost."""

import pytest
import torch
from executed import functions_of, output_text


def test_article_a_raw_vlm_gets_mean_pooling_by_itself(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    assert "raw VLM: Transformer > Pooling | pooling: mean" in text
    assert "embedding model: Transformer > Pooling > Normalize | pooling: lasttoken" in text
    assert metrics["ndcg@10/dev/raw-vlm-mean/high"] < metrics["ndcg@10/dev/raw-vlm-last-token/low"]
    assert metrics["ndcg@10/dev/cost-of-the-mean/low"] > 0


def test_the_small_raw_vlm_is_the_embedding_model_with_another_pooling(metrics):
    last, ready = metrics["ndcg@10/dev/raw-vlm-last-token"], metrics["ndcg@10/dev/embedding-model"]
    assert last == pytest.approx(ready, abs=1e-6)


def test_the_embedding_model_finds_pages_of_the_dev_split(metrics):
    assert metrics["ndcg@10/dev/embedding-model/low"] > 0.75 > 10 * metrics["ndcg@10/dev/chance"]


def test_a_page_goes_the_way_that_the_diagram_shows(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    assert metrics["tokens/page"] == 63
    assert "stored: 448 x 576 pixels; the model reads 224 x 288" in text
    assert "patches: 14 x 18; image tokens: 63; vector: 192 numbers" in text


def test_article_modality_is_detected_from_the_processor(metrics):
    assert metrics["modalities/whole-processor"] == 4  # text, image, video, message
    assert metrics["modalities/raw-vlm"] == 4, "exercise 3 says so"
    assert metrics["modalities/tokenizer-alone"] == 2  # text, message
    assert metrics["modalities/image-processor-alone"] == 1


def test_article_processor_arguments_set_the_tokens_and_a_call_wins_over_the_load(ran):
    notebook, found = ran
    tokens = {name: value for name, value in found["metrics"].items() if name.startswith("tokens/pixels/")}
    assert list(tokens.values()) == [2, 12, 24, 63]
    assert "processor_kwargs, at load: 12 image tokens" in output_text(notebook)
    assert "processing_kwargs, at call: 63 image tokens" in output_text(notebook)
    said = "You saw 63 tokens in the call and 12 without it. So the call's budget counts."
    assert said in output_text(notebook)


def test_a_smaller_budget_loses_more_tokens_than_pixels(metrics):
    sixteenth, quarter, half, whole = (metrics[f"tokens/pixels/{224 * 288 // part}"] for part in (16, 4, 2, 1))
    assert sixteenth < whole / 16 and quarter < whole / 4 and half < whole / 2


def test_article_model_arguments_set_dtype_and_attention(ran):
    metrics = ran[1]["metrics"]
    assert (metrics["bytes/parameter/unset"], metrics["bytes/parameter/float32"]) == (2, 4)
    assert "You saw that unset means torch.bfloat16" in output_text(ran[0])
    assert "attention, as asked for above: sdpa" in output_text(ran[0])


def test_the_first_reranker_example_has_a_clear_winner(metrics):
    assert metrics["reranker/first-example/place"] == 1
    assert metrics["reranker/first-example/margin"] > 0.1


def test_article_a_reranker_scores_pairs_of_text_and_page(metrics):
    assert metrics["reranker/sigmoid-difference"] < 1e-5
    assert metrics["right-first/reranker/low"] > 0.4, "by guessing it is 0.2"


def test_the_sentence_on_words_beside_a_wrong_page_is_what_the_interval_says(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    low, high = (metrics[f"wrong-page-wins/more-with-the-query-s-words/{end}"] for end in ("low", "high"))
    verdict = f"So these queries {'cannot' if low <= 0 <= high else 'can'} distinguish this change from zero."
    if low == high == 0:
        verdict = "You saw no query change sides. So this interval has no width"
    assert verdict in text


@pytest.fixture(scope="module")
def functions():
    return functions_of("01_load_multimodal_models", torch=torch)


def test_the_last_real_token_is_found_whichever_side_the_padding_is_on(functions):
    states, mask = torch.arange(24.0).reshape(2, 4, 3), torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    assert torch.equal(functions["last_token"](states, mask), states[[0, 1], [1, 3]])
    assert torch.equal(functions["last_token"](states, mask.flip(1)), states[[0, 1], [3, 3]])


@pytest.mark.parametrize(
    ("width", "height", "area", "tokens"),
    [(448, 576, 224 * 288, 63), (896, 1152, 448 * 576, 252), (1654, 2339, 600 * 600, 330)],
)
def test_image_tokens_are_computed_before_a_run(functions, width, height, area, tokens):
    assert functions["image_tokens"](width, height, area) == tokens
