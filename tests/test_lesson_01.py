"""Lesson 01: what a loaded model is made of, what it takes, and what pixels cost."""

from executed import output_text


def test_article_a_raw_vlm_gets_mean_pooling_by_itself(ran):
    text, metrics = output_text(ran[0]), ran[1]["metrics"]
    assert "raw VLM: Transformer > Pooling | pooling: mean" in text
    assert "embedding model: Transformer > Pooling > Normalize | pooling: lasttoken" in text
    assert metrics["ndcg@10/dev/raw-vlm-mean/high"] < metrics["ndcg@10/dev/raw-vlm-last-token/low"]


def test_the_embedding_model_finds_pages_of_the_dev_split(metrics):
    assert metrics["ndcg@10/dev/embedding-model/low"] > 0.75 > 10 * metrics["ndcg@10/dev/chance"]


def test_article_modality_is_detected_from_the_processor(metrics):
    assert metrics["modalities/whole-processor"] == 4  # text, image, video, message
    assert metrics["modalities/tokenizer-alone"] == 2  # text, message
    assert metrics["modalities/image-processor-alone"] == 1


def test_article_processor_arguments_set_the_tokens_and_a_call_wins_over_the_load(ran):
    notebook, found = ran
    tokens = {name: value for name, value in found["metrics"].items() if name.startswith("tokens/pixels/")}
    assert list(tokens.values()) == [2, 12, 24, 63]
    assert "processor_kwargs, at load: 12 image tokens" in output_text(notebook)
    assert "processing_kwargs, at call: 63 image tokens" in output_text(notebook)


def test_article_model_arguments_set_dtype_and_attention(ran):
    metrics = ran[1]["metrics"]
    assert (metrics["bytes/parameter/unset"], metrics["bytes/parameter/float32"]) == (2, 4)
    assert "runs with: sdpa" in output_text(ran[0]) and 0 < metrics["attention/difference"] < 1e-4


def test_article_a_reranker_scores_pairs_of_text_and_page(metrics):
    assert metrics["reranker/sigmoid-difference"] < 1e-5
    assert metrics["right-first/reranker/low"] > 0.4, "by guessing it is 0.2"
