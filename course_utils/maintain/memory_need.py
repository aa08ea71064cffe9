"""What training the 2B model needs in memory, computed from its configuration: see `Need`. GB are 10^9 bytes."""

import re
from dataclasses import asdict, dataclass
from typing import Any

from course_utils.adapters import TEXT_ATTENTION
from course_utils.profiles import find_profile, load_profile

TRUE = {  # of Qwen/Qwen3-VL-Embedding-2B, read in its configuration
    "text": {
        "num_hidden_layers": 28,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151_936,
    },
    "vision": {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}
RANK = 16  # of the adapters, as in the lessons
TOKEN_PIXELS, PATCHES = 32 * 32, 4  # pixels of an image token, and the patches that are merged into it
PATCH_VALUES = 3 * 2 * 16 * 16  # colours, frames, pixels
EXTRA_TOKENS = 10  # of a page's message: roles, start and end of the image
USABLE = 0.9  # of a GPU's memory; the rest is for the CUDA context and for gaps between tensors
GPUS = (16, 24, 40, 80)

# Bytes that a layer keeps for the backward pass, for each token (text) or patch (vision). Text: times width, queries'
# width, keys' width, inner width of the MLP. Vision: times width, inner width.
TEXT = {"all weights": (16, 10, 10, 8), "float32": (26, 10, 10, 8), "LoRA": (20, 12, 8, 6)}
VISION = {"all weights": (20, 4), "float32": (24, 4), "LoRA": (0, 0)}


@dataclass(frozen=True)
class Need:
    """What training needs, in GB: weights + gradients + optimizer state + activations.

    With N parameters, n of them trained, W bytes a weight:
    - weights: N W, and 4 n for LoRA's adapters, kept in float32 as in lesson 07; with float32 master weights also 2 N,
      the 16-bit copies that autocast computes with
    - gradients: as many bytes as the trained weights
    - optimizer state: AdamW's two moments, each as large as the trained weights
    - activations: for each page of a mini-batch, what the layers keep for the backward pass: tokens times the bytes of
      TEXT times the layers, and patches times the bytes of VISION times the blocks; no square of the tokens, since
      "sdpa" keeps no attention matrix. With activation checkpointing: each layer's input, and one layer whole.
      The adapters are on the text side, so LoRA keeps nothing of the vision tower.
    - batch: the pixels of all pages of a batch, in float32; gradient caching does not make these fewer
    """

    weights: float
    gradients: float
    optimizer: float
    activations: float
    batch: float

    @property
    def fixed(self) -> float:
        """All but the activations, whose size the mini-batch decides."""
        return self.weights + self.gradients + self.optimizer + self.batch

    @property
    def total(self) -> float:
        return self.fixed + self.activations


@dataclass(frozen=True)
class Way:
    """A way to train: "LoRA" or "all weights", bytes a weight (2: fp16 or bf16, 4: float32 master weights)."""

    trained: str
    weight_bytes: int = 2
    checkpointing: bool = False
    optimizer: bool = True

    @property
    def name(self) -> str:
        kind = {2: "16 bits", 4: "float32"}[self.weight_bytes]
        extras = ["activation checkpointing"] * self.checkpointing + ["no AdamW"] * (not self.optimizer)
        return ", ".join([self.trained, kind, *extras])


COMPUTED = tuple(
    Way(trained, size, checkpointing)
    for trained in ("LoRA", "all weights")
    for size in (2, 4)
    for checkpointing in (False, True)
)


@dataclass(frozen=True)
class Architecture:
    """A Qwen3-VL's sizes and configuration, and how many parameters the model and its LoRA adapters have."""

    sizes: dict[str, dict[str, Any]]
    config: Any
    parameters: int
    adapters: int


def configuration(sizes: dict[str, dict[str, Any]] = TRUE) -> Any:
    """The configuration of a Qwen3-VL of these sizes ("text" and "vision") that reads the tiny stand-in's tokens."""
    from transformers import AutoConfig, Qwen3VLConfig

    from course_utils.checkpoints import checkpoint

    lender = AutoConfig.from_pretrained(checkpoint(load_profile("tiny").embedder))
    third = sizes["text"]["head_dim"] // 6  # of the rotary frequencies, one part each for time, height and width
    sections = [sizes["text"]["head_dim"] // 2 - 2 * third, third, third]
    rotary = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": sections, "mrope_interleaved": True}
    names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    tokens = {name: getattr(lender, name) for name in names}
    return Qwen3VLConfig(
        text_config=sizes["text"] | {"rope_parameters": rotary}, vision_config=sizes["vision"], **tokens
    )


def architecture(sizes: dict[str, dict[str, Any]] = TRUE) -> Architecture:
    """Counts the parameters on the meta device, where tensors have shapes and no memory."""
    import torch
    from transformers import AutoModel

    config = configuration(sizes)
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    adapted = [module for name, module in model.named_modules() if re.fullmatch(TEXT_ATTENTION, name)]
    adapters = sum(RANK * (linear.in_features + linear.out_features) for linear in adapted)
    return Architecture(sizes, config, sum(p.numel() for p in model.parameters()), adapters)


def activations(config: Any, way: Way, image_tokens: int) -> float:
    """GB that one page keeps for the backward pass."""
    text, vision = config.text_config, config.vision_config
    kind = "float32" if way.weight_bytes == 4 and way.trained == "all weights" else way.trained
    tokens, patches = image_tokens + EXTRA_TOKENS, image_tokens * PATCHES
    widths = (
        text.hidden_size,
        text.num_attention_heads * text.head_dim,
        text.num_key_value_heads * text.head_dim,
        text.intermediate_size,
    )
    layer = tokens * sum(a * b for a, b in zip(TEXT[kind], widths, strict=True))
    block = patches * sum(
        a * b for a, b in zip(VISION[kind], (vision.hidden_size, vision.intermediate_size), strict=True)
    )
    mergers = image_tokens * (1 + len(vision.deepstack_visual_indexes)) * 6 * PATCHES * vision.hidden_size
    pixels = patches * PATCH_VALUES * 2
    vision_too = kind != "LoRA"
    if way.checkpointing:
        inputs = tokens * 2 * text.hidden_size * text.num_hidden_layers
        vision_inputs = patches * 2 * vision.hidden_size * vision.depth * vision_too
        return (inputs + vision_inputs + max(layer, block) + (mergers + pixels) * vision_too) / 1e9
    return (layer * text.num_hidden_layers + block * vision.depth + (mergers + pixels) * vision_too) / 1e9


def need(model: Architecture, way: Way, image_tokens: int, pages: int) -> Need:
    """What the way to train needs for a mini-batch of one page, of a batch with that many `pages`."""
    count = model.parameters
    lora = way.trained == "LoRA"
    trained, size = (model.adapters, 4) if lora else (count, way.weight_bytes)
    copies = 2 * count if way.weight_bytes == 4 else 0
    return Need(
        weights=(count * way.weight_bytes + copies + trained * size * lora) / 1e9,
        gradients=trained * size / 1e9,
        optimizer=2 * trained * size / 1e9 * way.optimizer,
        activations=activations(model.config, way, image_tokens),
        batch=pages * image_tokens * PATCHES * PATCH_VALUES * 4 / 1e9,
    )


def largest_mini_batch(needed: Need, gpu_gb: float, rows: int) -> int:
    """Pages of a mini-batch that a GPU of that size holds, at most the batch's rows; 0 where not even one fits."""
    return min(rows, max(0, int((USABLE * gpu_gb - needed.fixed) / needed.activations)))


def gpu_table(model: Architecture) -> list[dict[str, Any]]:
    """For each way and both GPU profiles' pages: GB by part, and the largest mini-batch by GPU. Computed, not measured."""
    rows = []
    for name in ("t4", "full"):
        profile = find_profile(name)
        for way in COMPUTED:
            needed = need(
                model, way, profile.longest_edge // TOKEN_PIXELS, profile.batch_size * (1 + profile.negatives)
            )
            rows.append(
                {"way": way.name, "pixels": profile.longest_edge, "rows": profile.batch_size}
                | asdict(needed)
                | {"mini_batch": {gpu: largest_mini_batch(needed, gpu, profile.batch_size) for gpu in GPUS}}
            )
    return rows


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """The table as text, one part for each size of page."""
    text = []
    for pixels in dict.fromkeys(row["pixels"] for row in rows):
        chosen = [row for row in rows if row["pixels"] == pixels]
        side = int(pixels**0.5)
        text += [
            "",
            f"Computed: pages of {side}x{side} px, batches of {chosen[0]['rows']} rows with a hard negative, AdamW. "
            "GB, and pages of the largest mini-batch (-: does not fit)",
        ]
        heads = ["weights", "gradients", "AdamW", "batch", "a page"] + [f"{gpu} GB" for gpu in GPUS]
        text.append(f"{'':<46}" + "".join(f"{head:>10}" for head in heads))
        for row in chosen:
            parts = [f"{row[part]:.2f}" for part in ("weights", "gradients", "optimizer", "batch", "activations")]
            fits = [str(row["mini_batch"][gpu] or "-") for gpu in GPUS]
            text.append(f"{row['way']:<46}" + "".join(f"{value:>10}" for value in parts + fits))
    return text
