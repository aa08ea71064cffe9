"""The models that a rehearsed lesson holds at once, counted at their published sizes against the profile's memory.

The rule. A network whose architecture and width are those of a published one counts with the published number of
parameters; any other with its own. What counts is what lies on the GPU: weights in the type that they have there, and
three times the bytes of all parameters that have a gradient (the gradient and AdamW's two moments). A tenth of the
memory stays free for activations, CUDA's context and gaps. What only reference cycles hold counts as freed.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch
from weakref import WeakSet

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from course_utils.maintain.rehearsal.pretended_gpu import GPU, place

PUBLISHED = {("qwen3_vl", 2048): 2.13e9, ("siglip", 768): 375e6, ("bert", 384): 22.7e6}  # by type and width
USABLE = 0.9
STATE = 3  # times a trained parameter: its gradient and AdamW's two moments


def alive() -> list[torch.nn.Module]:
    """The networks with a configuration of transformers that are alive, those inside another excepted."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.nn.Module)]
    networks = [module for module in found if hasattr(getattr(module, "config", None), "model_type")]
    inside = {id(part) for network in networks for part in network.modules() if part is not network}
    return [network for network in networks if id(network) not in inside]


def gigabytes(network: torch.nn.Module) -> float:
    """What a network takes of the GPU at its published size, in GB of 10^9 bytes."""
    parameters = list(network.parameters())
    own = sum(parameter.numel() for parameter in parameters)
    held = 0
    for parameter in parameters:
        if place(parameter) == GPU:
            held += parameter.numel() * parameter.element_size() * (1 + STATE * (parameter.grad is not None))
    return held / 1e9 * PUBLISHED.get(_kind(network.config), own) / max(own, 1)


def check(memory_gb: float) -> None:
    """Raises torch.OutOfMemoryError, naming the models, where those alive need more than a GPU of that size has."""
    needs = {network: size for network in alive() if (size := gigabytes(network))}
    if sum(needs.values()) > USABLE * memory_gb:
        listed = ", ".join(f"{type(network).__name__} {size:.1f} GB" for network, size in needs.items())
        raise torch.OutOfMemoryError(
            f"CUDA out of memory. {len(needs)} models are alive at once and need {sum(needs.values()):.1f} GB of the "
            f"{USABLE * memory_gb:.1f} GB that a {memory_gb:g} GB GPU has for them: {listed}."
        )


@contextmanager
def watched(memory_gb: float) -> Iterator[None]:
    """In this block, check whenever a module moves to the GPU and after the first step of every optimizer."""
    move = torch.nn.Module.to
    seen: WeakSet[torch.optim.Optimizer] = WeakSet()

    def to(module, *args, **kwargs):
        moved = move(module, *args, **kwargs)
        if any(place(parameter) == GPU for parameter in module.parameters()):
            check(memory_gb)
        return moved

    def stepped(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer not in seen:
            seen.add(optimizer)
            check(memory_gb)

    hook = register_optimizer_step_post_hook(stepped)
    with patch.object(torch.nn.Module, "to", to):
        yield
    hook.remove()


def _kind(config: Any) -> tuple[str, int]:
    text = getattr(config, "text_config", config)
    return config.model_type, getattr(text, "hidden_size", 0)
