"""Lesson 07 runs offline with papermill, and its figures are what the course promises."""

import pytest
import torch
from executed import assert_every_cell_ran_in_order, functions_of, output_text
from peft import LoraConfig
from sentence_transformers import SentenceTransformer

from course_utils.checkpoints import checkpoint
from course_utils.paths import NOTEBOOKS, SOLUTIONS


@pytest.fixture(scope="module")
def lesson_07(execute):
    """The solution of lesson 07, run once in full."""
    return execute(SOLUTIONS / "07_finetune_qwen3_vl_embedding.ipynb")


def test_lesson_07_runs_every_cell_and_passes_its_own_checks(lesson_07):
    notebook, found = lesson_07
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") >= 3
    assert found["peak_memory_mib"] < 8 * 1024
    assert {"training", "before_after", "by_dimension"} <= set(found["figures"])
    assert found["metrics"]["reload/difference"] < 1e-5


def test_lesson_07_finetuning_lifts_a_fair_base_beyond_doubt(lesson_07):
    metrics = lesson_07[1]["metrics"]
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    for name, value in metrics.items():
        if name.startswith("ndcg@10") and "gain" not in name:
            assert 0 <= value <= 1, name
    assert metrics["ndcg@10/before"] >= 0.40
    assert metrics["ndcg@10/gain/low"] > 0
    assert metrics["ndcg@10/after/unseen-country"] >= 0.75
    assert (
        metrics["ndcg@10/after"]
        > metrics["ndcg@10/country-only"]
        > metrics["ndcg@10/topic-only"]
        > metrics["ndcg@10/chance"]
    )
    assert 0 <= metrics["ndcg@10/after/unseen-wording"] <= 1


def test_lesson_07_an_adapter_is_saved_alone_and_gives_the_same_vectors_reloaded_or_merged(lesson_07):
    metrics = lesson_07[1]["metrics"]
    assert_adapter(metrics)
    assert metrics["lora/checkpointing-difference"] <= 1e-6 < metrics["lora/largest-gradient"]
    assert 0 < metrics["lora/largest-activation"] < 65_504


def assert_adapter(metrics):
    """It is small, it changes the model's vectors, and they survive reloading and merging."""
    assert 0 < metrics["lora/bytes"] < 0.05 * metrics["lora/model-bytes"]
    assert metrics["lora/difference/reloaded"] <= 1e-6
    assert metrics["lora/difference/merged"] <= 1e-5 < 1e-4 < metrics["lora/difference/base"]


@pytest.mark.parametrize(
    "name, bar", [("ndcg@10/after", 0.90), ("ndcg@10/after/scan", 0.80), ("ndcg@10/error-cut", 0.60)]
)
def test_lesson_07_reaches_the_bars_that_the_course_set_itself(lesson_07, name, bar):
    assert lesson_07[1]["metrics"][name] >= bar


def test_lesson_07_for_learners_runs_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / "07_finetune_qwen3_vl_embedding.ipynb", ROWS=128)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") >= 3, "a blank stub passed its check"
    assert found["metrics"]["steps"] == 4


def test_lesson_07_trains_saves_and_reloads_an_adapter_as_on_a_t4(execute):
    notebook, found = execute(SOLUTIONS / "07_finetune_qwen3_vl_embedding.ipynb", ROWS=64, LORA=True)
    assert_every_cell_ran_in_order(notebook)
    assert_adapter(found["metrics"])
    assert found["metrics"]["reload/difference"] < 1e-5
    (saved,) = [line for line in output_text(notebook).splitlines() if line.startswith("saved without a card")]
    assert "adapter_model.safetensors" in saved and "'model.safetensors'" not in saved


def test_the_scaler_of_fp16_takes_float32_parameters_only():
    for dtype in (torch.float32, torch.float16):
        weight = torch.nn.Parameter(torch.ones(1, dtype=dtype))
        scaler = torch.amp.GradScaler("cpu")
        scaler.scale(weight.sum()).backward()
        if dtype == torch.float32:
            scaler.unscale_(torch.optim.SGD([weight]))
            assert weight.grad.item() == 1
        else:
            with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):
                scaler.unscale_(torch.optim.SGD([weight]))


def test_the_adapter_of_an_fp16_model_trains_in_float32():
    defined = functions_of("07_finetune_qwen3_vl_embedding", LoraConfig=LoraConfig)
    model = SentenceTransformer(
        checkpoint("tiny-qwen3-vl-embedding"), device="cpu", model_kwargs={"dtype": torch.float16}
    )
    defined["add_adapter"](model)
    dtypes = {(parameter.requires_grad, parameter.dtype) for parameter in model.parameters()}
    assert dtypes == {(True, torch.float32), (False, torch.float16)}
    assert all("language_model" in name for name, parameter in model.named_parameters() if parameter.requires_grad)
