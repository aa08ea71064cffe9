"""The 2B model's size is counted, its memory is computed, and no step is tried that would not fit."""

from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from course_utils.adapters import add_lora
from course_utils.errors import CourseError
from course_utils.maintain import full_size as fs
from course_utils.maintain import memory_need
from course_utils.runner.cli import main

TOLERANCE = 0.25  # of the estimate, for a model so small that libraries are most of what its process holds
NARROW = {
    "text": {
        "num_hidden_layers": 2,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "vocab_size": 20_000,
    },
    "vision": {
        "depth": 2,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_heads": 4,
        "out_hidden_size": 256,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "deepstack_visual_indexes": [1],
    },
}
LORA, ALL = memory_need.Way("LoRA"), memory_need.Way("all weights")


@pytest.fixture(scope="module")
def true():
    """The published architecture, counted once."""
    return memory_need.architecture()


@pytest.fixture(scope="module")
def narrow():
    return memory_need.architecture(NARROW)


def saved_bytes(sizes, way, side):
    """Bytes that autograd really keeps of one page's forward pass, parameters excepted."""
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel

    from course_utils.checkpoints import checkpoint

    model = SentenceTransformer(checkpoint("tiny-qwen3-vl-embedding"), device="cpu")
    model[0].processing_kwargs = {"image": {"size": {"shortest_edge": 32 * 32, "longest_edge": side * side}}}
    model[0].model = AutoModel.from_config(
        memory_need.configuration(sizes), dtype=torch.bfloat16, attn_implementation="sdpa"
    )
    if way.trained == "LoRA":
        add_lora(model)
    if way.checkpointing:
        model[0].model.activation_checkpointing_enable()
    features = model.train().preprocess([Image.new("RGB", (side, side), "white")])
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # the tensor, so that its address is not used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(features)
    return sum(size for address, (size, _) in kept.items() if address not in weights)


# --- the estimate ---


def test_the_true_configuration_has_the_published_2_billion_parameters(true):
    assert true.parameters == pytest.approx(2.13e9, rel=0.01)
    assert true.adapters == 28 * 16 * (2 * (2048 + 2048) + 2 * (2048 + 1024))


def test_the_adapters_that_are_counted_are_those_that_peft_makes(narrow):
    from transformers import AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(narrow.config)
        add_lora(SimpleNamespace(model=model))
    assert narrow.adapters == sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


def test_need_is_weights_gradients_two_moments_and_activations(true):
    n, adapters = true.parameters / 1e9, true.adapters / 1e9
    bf16, master, lora = (
        memory_need.need(true, way, 324, pages=2) for way in (ALL, memory_need.Way("all weights", 4), LORA)
    )
    assert (bf16.weights, bf16.gradients, bf16.optimizer) == pytest.approx((2 * n, 2 * n, 4 * n))
    assert (master.weights, master.gradients, master.optimizer) == pytest.approx((6 * n, 4 * n, 8 * n))
    assert (lora.weights, lora.gradients, lora.optimizer) == pytest.approx(
        (2 * n + 4 * adapters, 4 * adapters, 8 * adapters)
    )
    assert bf16.total == pytest.approx(bf16.weights + bf16.gradients + bf16.optimizer + bf16.activations + bf16.batch)
    assert bf16.batch == pytest.approx(2 * 324 * 4 * 1536 * 4 / 1e9)
    assert memory_need.need(true, memory_need.Way("all weights", optimizer=False), 324, 2).optimizer == 0


@pytest.mark.parametrize(
    "way", [LORA, ALL, memory_need.Way("all weights", checkpointing=True)], ids=lambda way: way.name
)
def test_the_activations_of_the_formula_are_those_that_autograd_keeps(narrow, way):
    computed = memory_need.activations(narrow.config, way, image_tokens=64) * 1e9
    if way.checkpointing:  # the layer that is computed again is not there yet
        computed -= memory_need.activations(narrow.config, ALL, 64) * 1e9 / 8
    assert saved_bytes(NARROW, way, side=256) == pytest.approx(computed, rel=TOLERANCE)


def test_a_step_takes_what_was_estimated(narrow):
    found = fs.measure(narrow, ALL, side=256)
    assert found["peak_gb"] == pytest.approx(found["estimate_gb"], rel=TOLERANCE)
    assert found["image_tokens"] == 64 and found["trained"] == found["parameters"] > 5e6


# --- no step that does not fit ---


def test_a_step_that_does_not_fit_is_refused_in_a_sentence_and_not_tried(monkeypatch, true):
    monkeypatch.setattr(fs, "free_gb", lambda: 6.0)
    monkeypatch.setattr(fs, "in_fresh_process", lambda *args, **kwargs: pytest.fail("it was tried"))
    with pytest.raises(CourseError, match=r"all weights.*20\..*GB.*6\.0 GB are free.*close other programs"):
        fs.measure(true, ALL)


def test_of_all_weights_the_first_way_that_fits_is_measured(monkeypatch):
    tried = []

    def measured(model, way, side):
        tried.append(way)
        if way.trained == "all weights" and way.optimizer:
            raise CourseError("not tried")
        return {"peak_gb": 1, "seconds": 1, "built_seconds": 1, "image_tokens": 64, "loss": 1}

    monkeypatch.setattr(fs, "measure", measured)
    said = []
    fs.full_size(said.append, NARROW, 256)
    assert tried == [LORA, *fs.MEASURED[1]]
    measured_ways = [line.split(":")[0] for line in said if "(measured)" in line]
    assert measured_ways == [LORA.name, tried[-1].name] and said.count("not tried") == 2


def test_with_nothing_measured_the_command_fails_but_leaves_the_table(monkeypatch):
    monkeypatch.setattr(fs, "free_gb", lambda: 0.5)
    result = CliRunner().invoke(main, ["full-size"])
    assert result.exit_code == 1 and "Nothing was measured" in result.output
    assert "Computed: pages of 600x600 px" in result.output


# --- the table ---


def test_the_largest_mini_batch_fills_the_usable_memory_and_no_more():
    needed = memory_need.Need(weights=4, gradients=1, optimizer=2, activations=0.5, batch=1)
    assert memory_need.largest_mini_batch(needed, 16, rows=64) == int((0.9 * 16 - 8) / 0.5)
    assert memory_need.largest_mini_batch(needed, 16, rows=8) == 8, "a mini-batch is not larger than the batch"
    assert memory_need.largest_mini_batch(needed, 8, rows=64) == 0


def test_a_larger_gpu_holds_no_less_and_the_profiles_fit_their_gpus(true):
    rows = memory_need.gpu_table(true)
    for row in rows:
        sizes = list(row["mini_batch"].values())
        assert sizes == sorted(sizes)
    by_way = {(row["way"], row["pixels"]): row["mini_batch"] for row in rows}
    assert by_way[LORA.name, 400 * 400][16] >= 1 and by_way[ALL.name, 600 * 600][80] >= 1
    assert by_way[ALL.name, 400 * 400][16] == 0
    text = "\n".join(memory_need.lines(rows))
    assert "Computed" in text and all(f"{gpu} GB" in text for gpu in (16, 24, 40, 80))
