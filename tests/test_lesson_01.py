"""Lesson 01: load multimodal models."""

import pytest
from executed import assert_every_cell_ran_in_order, output_text

from course_utils.paths import NOTEBOOKS, SOLUTIONS

NAME = "01_load_multimodal_models"


@pytest.fixture(scope="session")
def lesson_01(execute):
    return execute(SOLUTIONS / f"{NAME}.ipynb")


def test_lesson_01_runs_every_cell_and_passes_its_own_checks(lesson_01):
    notebook, found = lesson_01
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") == 2
    assert set(found["figures"]) == {"pooling", "pixels"}


def test_article_a_raw_vlm_gets_mean_pooling_by_itself(lesson_01):
    text, metrics = output_text(lesson_01[0]), lesson_01[1]["metrics"]
    assert "raw VLM: Transformer > Pooling | pooling: mean" in text
    assert "embedding model: Transformer > Pooling > Normalize | pooling: lasttoken" in text
    assert metrics["ndcg@10/dev/raw-vlm-mean"] < metrics["ndcg@10/dev/raw-vlm-last-token"]


def test_lesson_01_every_score_has_its_interval(lesson_01):
    metrics = lesson_01[1]["metrics"]
    for name in (
        "ndcg@10/dev/embedding-model",
        "ndcg@10/dev/raw-vlm-mean",
        "ndcg@10/dev/raw-vlm-last-token",
        "right-first/reranker",
    ):
        assert 0 <= metrics[f"{name}/low"] <= metrics[name] <= metrics[f"{name}/high"] <= 1, name


def test_article_modality_is_detected_from_the_processor(lesson_01):
    metrics = lesson_01[1]["metrics"]
    assert metrics["modalities/whole-processor"] == 4  # text, image, video, message
    assert metrics["modalities/tokenizer-alone"] < 4 and metrics["modalities/image-processor-alone"] == 1
    assert "image processor alone: ['image']" in output_text(lesson_01[0])


def test_article_processor_arguments_set_the_tokens_and_a_call_wins_over_the_load(lesson_01):
    notebook, found = lesson_01
    tokens = [
        value
        for name, value in sorted(found["metrics"].items(), key=lambda item: item[1])
        if name.startswith("tokens/pixels/")
    ]
    assert len(tokens) == 4 and tokens[-1] >= 8 * tokens[0]
    assert "processor_kwargs, at load: 12 image tokens" in output_text(notebook)
    assert "processing_kwargs, at call: 63 image tokens" in output_text(notebook)


def test_article_model_arguments_set_dtype_and_attention(lesson_01):
    metrics = lesson_01[1]["metrics"]
    assert (metrics["bytes/parameter/unset"], metrics["bytes/parameter/float32"]) == (2, 4)
    assert "runs with: sdpa" in output_text(lesson_01[0]) and 0 < metrics["attention/difference"] < 1e-4


def test_article_a_reranker_scores_pairs_of_text_and_page(lesson_01):
    metrics = lesson_01[1]["metrics"]
    assert metrics["reranker/sigmoid-difference"] < 1e-5
    assert metrics["right-first/reranker/low"] > 0.2, "the reranker guesses"


def test_lesson_01_for_learners_runs_on_few_rows_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / f"{NAME}.ipynb", ROWS=8)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") == 2, "a blank stub passed its check"
