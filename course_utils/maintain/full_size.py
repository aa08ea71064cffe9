"""`make full-size`: the 2B model's true configuration with random weights takes a training step on this CPU.

No weights are downloaded: sizes, memory and time follow from the configuration alone. Each step runs in a process of
its own, after a computed estimate; one that would not fit is refused. A table for GPUs follows, computed by `Need`.

GB are 10^9 bytes.
"""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from course_utils.errors import CourseError
from course_utils.machine import free_gb
from course_utils.maintain.memory_need import (
    RANK,
    TOKEN_PIXELS,
    TRUE,
    Architecture,
    Way,
    architecture,
    gpu_table,
    lines,
    need,
)
from course_utils.memory import in_fresh_process

PAGE = 576  # pixels a side of the pages that are measured: 324 image tokens
LIBRARIES = 1.1  # GB of a process with torch and the libraries: 0.9 with torch's CPU build, 1.25 with CUDA's
MARGIN = 1.1  # a step needs this many times its estimate to be tried
# What is measured. Of the ways to train all weights, the first that fits.
MEASURED = (
    (Way("LoRA"),),
    (Way("all weights"), Way("all weights", checkpointing=True), Way("all weights", optimizer=False)),
)


def one_step(sizes: dict, way: dict, limit: int, side: int) -> dict:
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

    from course_utils.adapters import add_lora
    from course_utils.checkpoints import checkpoint
    from course_utils.maintain.memory_need import configuration
    from course_utils.profiles import load_profile

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
    torch.manual_seed(0)
    lender = checkpoint(load_profile("tiny").embedder)  # of the tokenizer and the processor
    model = SentenceTransformer(lender, device="cpu")
    model[0].processing_kwargs |= {"image": {"size": {"shortest_edge": 32 * 32, "longest_edge": side * side}}}
    start = time.perf_counter()
    model[0].model = AutoModel.from_config(configuration(sizes), dtype=torch.bfloat16, attn_implementation="sdpa")
    built = time.perf_counter() - start
    if way["trained"] == "LoRA":
        add_lora(model)
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
    return {"estimate_gb": estimate, "peak_gb": found.peak_mib * 2**20 / 1e9, **found.value}


def full_size(say: Callable[[str], None], sizes: dict[str, dict[str, Any]] = TRUE, side: int = PAGE) -> None:
    """Measure what fits and say the table. Raises CourseError, at the end, if nothing fitted."""
    model, measured = architecture(sizes), 0
    count, adapters = model.parameters / 1e9, model.adapters / 1e6
    say(f"{count:.2f} B parameters, {adapters:.2f} M more with LoRA of rank {RANK}; random weights, bf16, CPU")
    for ways in MEASURED:
        for way in ways:
            say(f"{way.name}: about {estimate_gb(model, way, side):.1f} GB (computed), {free_gb():.1f} GB free")
            try:
                found = measure(model, way, side)
            except CourseError as error:
                say(str(error))
                continue
            say(
                f"{way.name}: {found['peak_gb']:.1f} GB at most (measured), {found['seconds']:.0f} s a step on two pages of "
                f"{found['image_tokens']} tokens, after {found['built_seconds']:.0f} s to build it; loss {found['loss']:.3f}"
            )
            measured += 1
            break
    for line in lines(gpu_table(model)):
        say(line)
    say("\nfp16: LoRA only, or float32 master weights. The scaler of `fp16=True` refuses gradients in fp16.")
    if not measured:
        raise CourseError("Nothing was measured; the table is computed: free memory and run it again.")
