"""LoRA on the text side's attention, wherever the network sits."""

import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from course_utils.adapters import add_lora
from course_utils.checkpoints import checkpoint

HALF = {"model_kwargs": {"dtype": "float16"}, "device": "cpu"}


def trained(module) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("kind", ["embedder", "reranker", "route"])
def test_only_the_adapters_of_the_text_side_train_and_they_are_float32(kind):
    if kind == "reranker":
        model = CrossEncoder(checkpoint("tiny-qwen3-vl-reranker"), **HALF)
    else:
        model = SentenceTransformer(checkpoint("tiny-qwen3-vl-embedding"), **HALF)
    if kind == "route":
        model = Router.for_query_document([model[0]], [torch.nn.Identity()])
        add_lora(model.sub_modules["query"][0], rank=4)
    else:
        add_lora(model, rank=4)
    found = trained(model)
    assert found and all("lora_" in name and "language_model" in name for name in found)
    assert {parameter.dtype for parameter in found.values()} == {torch.float32}
    assert {min(parameter.shape) for parameter in found.values()} == {4}


def test_a_fresh_adapter_changes_no_vector_and_a_trained_one_does():
    model = SentenceTransformer(checkpoint("tiny-qwen3-vl-embedding"), **HALF)
    before = model.encode_query(["inflation in Chad"])
    add_lora(model)
    assert (model.encode_query(["inflation in Chad"]) == before).all()
    for name, parameter in trained(model).items():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    assert abs(model.encode_query(["inflation in Chad"]) - before).max() > 0.01


def test_a_model_without_such_attention_is_refused():
    with pytest.raises(ValueError):
        add_lora(SentenceTransformer(checkpoint("all-MiniLM-L6-v2"), device="cpu"))
