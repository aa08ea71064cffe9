"""`make full-size`: the 2B model's true configuration with random weights takes a training step on this CPU.

No weights are downloaded: sizes, memory and time follow from the configuration alone. Each step runs in a process of
its own, after a computed estimate; one that would not fit is refused. A table for GPUs follows, computed by `Need`.

GB are 10^9 bytes.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.machine import machine, versions
from course_utils.memory import in_fresh_process
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
LORA = {"r": 16, "target_modules": r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj)"}  # as in the lessons
PAGE = 576  # pixels a side of the pages that are measured: 324 image tokens
TOKEN_PIXELS, PATCHES = 32 * 32, 4  # pixels of an image token, and the patches that are merged into it
PATCH_VALUES = 3 * 2 * 16 * 16  # colours, frames, pixels
EXTRA_TOKENS = 10  # of a page's message: roles, start and end of the image
LIBRARIES = (
    1.1  # GB of a process that has imported torch and the libraries: 0.9 with torch's CPU build, 1.25 with CUDA's
)
MARGIN = 1.1  # a step needs this many times its estimate to be tried
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


# What is measured. Of the ways to train all weights, the first that fits.
MEASURED = (
    (Way("LoRA"),),
    (Way("all weights"), Way("all weights", checkpointing=True), Way("all weights", optimizer=False)),
)
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
    adapted = [module for name, module in model.named_modules() if re.fullmatch(LORA["target_modules"], name)]
    adapters = sum(LORA["r"] * (linear.in_features + linear.out_features) for linear in adapted)
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
    layer = tokens * sum(a * b for a, b in zip(TEXT[kind], widths))
    block = patches * sum(a * b for a, b in zip(VISION[kind], (vision.hidden_size, vision.intermediate_size)))
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


def free_gb() -> float:
    """Memory that a new process could take: the machine's, or what is left of the container's where that is less."""
    free = psutil.virtual_memory().available
    try:
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, limit - used)
    except (OSError, ValueError):
        pass
    return free / 1e9


def one_step(sizes: dict, way: dict, limit: int, side: int, seed: int = 0) -> dict:
    """One step of cached training on two pages; a process of its own runs it, and may take `limit` bytes.

    It is a step from the middle of a training: AdamW has its moments already. Returns seconds, parameters and the loss.
    Tensors are bf16; linear layers multiply in float32, since a CPU without bf16 units takes hundreds of times as long.
    """
    import ctypes
    import resource
    import time

    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # an error, not a killed process, beyond this
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc: freed blocks of 1 MiB and more leave the process, no gaps between kept ones
        libc.mallopt(-3, 2**20)

    from course_utils.machine import quiet

    quiet()
    import torch
    from PIL import Image
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from transformers import AutoModel

    from course_utils.checkpoints import checkpoint
    from course_utils.maintain.full_size import LORA, configuration
    from course_utils.profiles import SHORTEST_EDGE, load_profile

    class Linear(torch.autograd.Function):
        """A linear layer that keeps for the backward pass just what torch's own keeps."""

        @staticmethod
        def forward(ctx, x, weight, bias):
            ctx.save_for_backward(weight, x if weight.requires_grad else None)
            product = x.flatten(0, -2).float() @ weight.float().T
            return (product if bias is None else product + bias).to(x.dtype).view(*x.shape[:-1], -1)

        @staticmethod
        def backward(ctx, grad):
            weight, x = ctx.saved_tensors
            to_x, to_weight, to_bias = ctx.needs_input_grad
            rows = grad.flatten(0, -2).float()
            return (
                (rows @ weight.float()).to(grad.dtype).view(*grad.shape[:-1], -1) if to_x else None,
                (rows.T @ x.flatten(0, -2).float()).to(weight.dtype) if to_weight else None,
                rows.sum(0).to(weight.dtype) if to_bias else None,
            )

    torch.nn.functional.linear = lambda x, weight, bias=None: Linear.apply(x, weight, bias)
    torch.manual_seed(seed)
    model = SentenceTransformer(
        checkpoint(load_profile("tiny").embedder), device="cpu"
    )  # lends its tokenizer and processor
    model[0].processing_kwargs = {"image": {"size": {"shortest_edge": SHORTEST_EDGE, "longest_edge": side * side}}}
    start = time.perf_counter()
    model[0].model = AutoModel.from_config(configuration(sizes), dtype=torch.bfloat16, attn_implementation="sdpa")
    built = time.perf_counter() - start
    if way["trained"] == "LoRA":
        from peft import LoraConfig

        model.add_adapter(LoraConfig(**LORA))
        for p in model.parameters():
            if p.requires_grad:
                p.data = p.data.float()
    if way["checkpointing"]:
        model[0].model.activation_checkpointing_enable()
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True) if way["optimizer"] else None
    if optimizer:  # an update by nothing makes the moments
        for p in trained:
            p.grad = torch.zeros_like(p)
        optimizer.step()
        optimizer.zero_grad()

    pages = [Image.effect_noise((side, side), 60).convert("RGB") for _ in range(2)]
    columns = [model.preprocess(["looking for Chad's inflation", "exports of Peru"]), model.preprocess(pages)]
    loss = CachedMultipleNegativesRankingLoss(model, mini_batch_size=1)
    start = time.perf_counter()
    value = loss(columns, labels=None)
    value.backward()
    if optimizer:
        optimizer.step()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained), (
        "a gradient is missing or not finite"
    )
    return {
        "seconds": time.perf_counter() - start,
        "built_seconds": built,
        "loss": value.item(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained": sum(p.numel() for p in trained),
        "image_tokens": int(columns[1]["image_grid_thw"][0].prod()) // 4,
    }


def estimate_gb(model: Architecture, way: Way, side: int = PAGE) -> float:
    """Peak memory that `one_step` is expected to take, libraries included."""
    return LIBRARIES + need(model, way, side * side // TOKEN_PIXELS, pages=2).total


def measure(model: Architecture, way: Way, side: int = PAGE) -> dict[str, Any]:
    """Run one step in a fresh process: estimated and measured peak, seconds. Raises CourseError where it does not fit or ends early."""
    estimate, free = estimate_gb(model, way, side), free_gb()
    if estimate * MARGIN > free:
        raise CourseError(
            f"{way.name}: not tried, since it would take about {estimate:.1f} GB and {free:.1f} GB are free "
            f"({estimate * MARGIN:.1f} GB are asked for): close other programs, or take a machine with more memory."
        )
    try:
        found = in_fresh_process(one_step, sizes=model.sizes, way=asdict(way), limit=int(free * 1e9), side=side)
    except CourseError as error:
        expected = f"about {estimate:.1f} GB were expected and {free:.1f} GB free"
        raise CourseError(f"{way.name}: not finished; {expected}. {error}") from error
    return {"way": way.name, "estimate_gb": estimate, "peak_gb": found.peak_mib * 2**20 / 1e9, **found.value}


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


def full_size(
    build: Path, say: Callable[[str], None], sizes: dict[str, dict[str, Any]] = TRUE, side: int = PAGE
) -> Path:
    """Measure what fits, say the table and write `full-size.json`. Raises CourseError, at the end, if nothing fitted."""
    model = architecture(sizes)
    count, adapters = model.parameters, model.adapters
    say(
        f"{count / 1e9:.2f} B parameters, {adapters / 1e6:.2f} M more with LoRA of rank {LORA['r']}; random weights, bf16, CPU"
    )
    measured, refused = [], []
    for ways in MEASURED:
        for way in ways:
            say(f"{way.name}: about {estimate_gb(model, way, side):.1f} GB (computed), {free_gb():.1f} GB free")
            try:
                found = measure(model, way, side)
            except CourseError as error:
                say(str(error))
                refused.append(str(error))
                continue
            say(
                f"{way.name}: {found['peak_gb']:.1f} GB at most (measured), {found['seconds']:.0f} s a step on two pages of "
                f"{found['image_tokens']} tokens, after {found['built_seconds']:.0f} s to build it; loss {found['loss']:.3f}"
            )
            measured.append(found)
            break
    rows = gpu_table(model)
    for line in lines(rows):
        say(line)
    say("\nfp16: LoRA only, or float32 master weights. The scaler of `fp16=True` refuses gradients in fp16.")
    path = atomic_write(
        build / "full-size.json",
        json.dumps(
            {
                "parameters": count,
                "lora_parameters": adapters,
                "measured": measured,
                "refused": refused,
                "computed": rows,
                "machine": machine(),
                "versions": versions(),
            },
            indent=2,
        )
        + "\n",
    )
    if not measured:
        raise CourseError(f"Nothing was measured; the computed table is in {path}: free memory and run it again.")
    return path
