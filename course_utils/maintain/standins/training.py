"""Training that stops and goes on: steps, a checkpoint now and then, and the same weights as in one go."""

import hashlib
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn


def mixed() -> torch.autocast:
    """Within it, products of matrices are in bfloat16 if the processor has instructions for that; it is slow without."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu.get_capabilities().get("avx512_bf16", False))


def decayed_and_not(
    parameters: dict[str, torch.Tensor], decay: float = 0.02, table: torch.Tensor | None = None, part: float = 1.0
) -> list[dict]:
    """Groups for AdamW: weight decay for matrices, none for vectors and scalars; each at the full learning rate.

    A word `table` among them is a group of its own, without decay, at `part` of the rate.
    """
    rest = [p for p in parameters.values() if p is not table]
    groups = [
        {"params": [p for p in rest if (p.ndim > 1) == matrices], "weight_decay": decay * matrices, "part": 1.0}
        for matrices in (True, False)
    ]
    return groups if table is None else [*groups, {"params": [table], "weight_decay": 0.0, "part": part}]


def digest_of(module: nn.Module) -> str:
    """Twelve hex digits that name a module's weights (float32)."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()[:12]


class Resumable:
    """Trains named parameters in place with AdamW; subclasses give the `losses` of a step.

    `groups` are AdamW's, each with its `part` of the learning rate. Checkpoints go to `folder/training.safetensors`.
    """

    def __init__(
        self, parameters: dict[str, torch.Tensor], groups: list[dict], learning_rate: float, steps: int, folder: Path
    ):
        self.parameters, self.learning_rate, self.steps, self.folder = parameters, learning_rate, steps, folder
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
        self.step = 0
        self.state: dict[str, torch.Tensor] = {}  # what else a checkpoint has to keep

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        """The losses of a step, as tensors to be added up, and figures to show, as floats. Depends on `step` alone."""
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """A share of the learning rate."""
        raise NotImplementedError

    def rising_and_falling(self, step: int, begin: int = 0) -> float:
        """A rate that rises for 60 steps and falls from `begin` to the last step as half a cosine, to 0.03."""
        fallen = max(0, step - begin) / (self.steps - begin)
        return min(1.0, (step + 1) / 60) * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * fallen)))

    def run(self, stop_at: int | None = None, save_every: int = 150) -> Iterator[str]:
        """Train to the last step (or `stop_at`), going on from the newest checkpoint; yields lines of figures."""
        self.load()
        began, first = time.time(), self.step
        while self.step < (stop_at or self.steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate * group["part"] * self.rate(self.step)
            found = self.losses(self.step)
            self.optimizer.zero_grad(set_to_none=True)
            sum(value for value in found.values() if isinstance(value, torch.Tensor)).backward()
            nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
            self.optimizer.step()
            self.step += 1
            if self.step % 20 == 0:
                speed = (time.time() - began) / (self.step - first)
                yield f"step {self.step}/{self.steps} {speed:.2f} s/step " + " ".join(
                    f"{name} {value.item() if isinstance(value, torch.Tensor) else value:.3f}"
                    for name, value in found.items()
                )
            if self.step % save_every == 0 or self.step == self.steps:
                self.save()

    def save(self) -> None:
        """Weights and optimizer state at this step, in one safetensors file that is replaced whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = dict(self.state)
        for name, parameter in self.parameters.items():
            tensors[f"weight/{name}"] = parameter.detach().contiguous()
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value.contiguous()
        temporary = self.folder / "training.partial"
        save_file(tensors, temporary)
        temporary.replace(self.folder / "training.safetensors")

    def take_over(self, other: "Resumable") -> None:
        """Start with the weights of another training of the same parameters."""
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(other.parameters[name])

    def load(self) -> None:
        """Go on from the newest checkpoint, if there is one."""
        path = self.folder / "training.safetensors"
        if not path.exists():
            return
        tensors = load_file(path)
        self.state = {name: tensors[name] for name in self.state}
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(tensors[f"weight/{name}"])
                state = {
                    key: tensors[f"{key}/{name}"]
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if f"{key}/{name}" in tensors
                }
                if state:
                    self.optimizer.state[parameter] = state
                    self.step = max(self.step, int(state["step"]))
