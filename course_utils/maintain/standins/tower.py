"""The image tower learns to read at several sizes; then it is frozen and what it makes of pages is kept."""

import contextlib
import copy
import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from course_utils.files import atomic_write
from course_utils.maintain.standins.general_pages import GRID_COLUMNS, GRID_ROWS, GeneralPages
from course_utils.maintain.standins.pictures import Words, cells, sheet, strip
from course_utils.maintain.standins.pretrain import flat_patches, patches, title_words
from course_utils.maintain.standins.reading import Reading
from course_utils.maintain.standins.training import Resumable, decayed_and_not, digest_of, mixed

GRIDS = ((7, 6), (9, 7), (11, 8), (13, 10))  # image tokens of a page, rows and columns: 42, 63, 88 and 130
OWN = (GRID_ROWS, GRID_COLUMNS)  # the size that reading was learned at
SHIFT = 20  # px of a page's 448 x 576 by which it is moved at most


def at_size(image: np.ndarray, words: Words, grid: tuple[int, int]) -> tuple[np.ndarray, Words]:
    """A picture as the processor shows it in `grid` tokens, and its words where they are then."""
    rows, columns = grid
    small = Image.fromarray(image).resize((32 * columns, 32 * rows), Image.Resampling.BICUBIC)
    wide, high = 32 * columns / image.shape[1], 32 * rows / image.shape[0]
    placed = [(word, (x0 * wide, y0 * high, x1 * wide, y1 * high)) for word, (x0, y0, x1, y1) in words]
    return np.asarray(small), placed


def moved(image: np.ndarray, words: Words, rng: random.Random) -> tuple[np.ndarray, Words]:
    """A page moved by a few pixels, white where it was."""
    dx, dy = rng.randint(-SHIFT, SHIFT), rng.randint(-SHIFT, SHIFT)
    high, wide = image.shape[:2]
    out = np.full_like(image, 255)
    out[max(dy, 0) : high + min(dy, 0), max(dx, 0) : wide + min(dx, 0)] = image[
        max(-dy, 0) : high + min(-dy, 0), max(-dx, 0) : wide + min(-dx, 0)
    ]
    return out, [(word, (b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy)) for word, b in words]


def as_input(pictures: list[tuple[np.ndarray, Words]], grid: tuple[int, int]):
    """Pictures as a tower takes them at `grid`: pixels, their sizes in patches, and the words of each as they are then."""
    pictures = [at_size(image, words, grid) for image, words in pictures]
    pixels = patches(torch.from_numpy(np.stack([image for image, _ in pictures])))
    where = torch.tensor([[1, 2 * grid[0], 2 * grid[1]]] * len(pictures))
    return pixels, where, [words for _, words in pictures]


def layers_of(tower, pixels: torch.Tensor, where: torch.Tensor) -> list[torch.Tensor]:
    """What a tower makes of pixels, (image tokens, width) in float32: its last layer, then those for deepstack."""
    with mixed():
        out = tower(pixels, grid_thw=where)
    return [layer.float() for layer in (out.pooler_output, *out.deepstack_features)]


def page_prompt(grid: tuple[int, int]) -> str:
    """A page as the chat template writes it."""
    return "<|vision_start|>" + "<|image_pad|>" * (grid[0] * grid[1]) + "<|vision_end|>"


def page_inputs(ids: torch.Tensor, image: int, grid: tuple[int, int], pages: int) -> dict[str, torch.Tensor]:
    """What a model takes beside `ids` that hold `pages` pages, whose tokens are `image`, within `showing`."""
    return {
        "pixel_values": torch.zeros(1),
        "image_grid_thw": torch.tensor([[1, 2 * grid[0], 2 * grid[1]]] * pages),
        "mm_token_type_ids": (ids == image).int(),
    }


@dataclass(frozen=True)
class TowerRecipe:
    steps: int
    learning_rate: float
    pages: int = 8
    sheets: int = 8
    pool: int = 1500  # strips that sheets are put together from
    seed: int = 0


class TowerTrainer(Resumable):
    """Trains the image tower of a Qwen3-VL in place to read pages and sheets, a batch at one of GRIDS.

    At the size that it knew before, its output stays near to what it was: the language model knows no other.
    """

    def __init__(self, model, tokenizer, corpus: GeneralPages, recipe: TowerRecipe, folder: Path):
        self.tower, self.corpus, self.recipe = model.model.visual, corpus, recipe
        self.table = model.get_input_embeddings().weight.detach()
        self.reading, self.before = Reading(tokenizer, corpus), copy.deepcopy(self.tower)
        for tower in (self.tower, self.before):
            tower.patch_embed.forward = flat_patches.__get__(tower.patch_embed)
        self.scale = nn.Parameter(torch.tensor(15.0).log())
        parameters = {f"visual.{name}": p for name, p in self.tower.named_parameters()}
        parameters["scale"] = self.scale
        super().__init__(parameters, decayed_and_not(parameters), recipe.learning_rate, recipe.steps, folder)
        fixed, words = random.Random(f"tower-strips-{recipe.seed}"), title_words(corpus)
        self.strips = [strip(corpus, words, fixed, 1.0, 448, 64) for _ in range(recipe.pool)]

    def close(self) -> None:
        """Give the tower back its own forward pass."""
        del self.tower.patch_embed.forward

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step)

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        rng = random.Random(f"tower-{self.recipe.seed}-{step}")
        grid = GRIDS[step % len(GRIDS)]
        chosen = rng.sample(range(len(self.corpus.pages)), self.recipe.pages)
        pictures = [moved(self.corpus.images[k], self.corpus.words[k], rng) for k in chosen]
        pictures += [sheet(self.strips, rng) for _ in range(self.recipe.sheets)]
        pixels, where, placed = as_input(pictures, grid)
        now = layers_of(self.tower, pixels, where)
        targets = [cells(words, grid[0], self.reading.columns_of, grid[1]) for words in placed]
        read, right = self.reading.loss(now[0], self.table, self.scale.exp(), targets)
        found = {"read": read, f"read_right_{grid[0] * grid[1]}": right}
        if grid == OWN:
            with torch.no_grad():
                before = layers_of(self.before, pixels, where)
            found["keep"] = sum(
                F.mse_loss(new, old) / old.square().mean() for new, old in zip(now, before, strict=True)
            )
        return found


class Seen:
    """What a frozen tower makes of drawings of general pages, moved a little, at each of GRIDS.

    It is kept as float16 in a file named by the tower's weights and the size. The first `counts[g]` drawings are
    seen at `GRIDS[g]` (none at a size with no count); a larger count goes on where a smaller one ended.
    """

    def __init__(self, model, corpus: GeneralPages, counts: tuple[int, ...], folder: Path, batch: int = 24):
        tower, self.counts = model.model.visual, counts
        folder.mkdir(parents=True, exist_ok=True)
        weights = digest_of(tower)
        layers = 1 + len(tower.config.deepstack_visual_indexes)
        self.layers: dict[int, np.memmap] = {}
        for size, (grid, count) in enumerate(zip(GRIDS, counts, strict=True)):
            if not count:
                continue
            stem = folder / f"seen-{weights}-{grid[0] * grid[1]}"
            shape = (count, layers, grid[0] * grid[1], tower.config.out_hidden_size)
            raw, done = stem.with_suffix(".raw"), stem.with_suffix(".done")
            begin = int(done.read_text(encoding="utf-8")) if done.exists() else 0
            kept = np.memmap(raw, np.float16, "r+" if begin else "w+", shape=shape)
            for first in range(begin, count, batch):
                part = range(first, min(first + batch, count))
                kept[part.start : part.stop] = _look(tower, corpus, part, grid)
                if first // batch % 20 == 0 or part.stop == count:
                    kept.flush()
                    atomic_write(done, str(part.stop))
            self.layers[size] = kept

    def at(self, rows: list[int], size: int) -> SimpleNamespace:
        """The tower's output for drawings `rows` at GRIDS[size], float32, as the model asks for it."""
        found = torch.from_numpy(self.layers[size][rows]).float().transpose(0, 1)
        return SimpleNamespace(pooler_output=found[0], deepstack_features=list(found[1:]))


@contextlib.contextmanager
def showing(model, seen: SimpleNamespace):
    """Within it, the image tower of `model` gives `seen`, flat, whatever pixels it gets."""
    tower = model.model.visual
    flat = SimpleNamespace(
        pooler_output=seen.pooler_output.flatten(0, 1),
        deepstack_features=[layer.flatten(0, 1) for layer in seen.deepstack_features],
    )
    tower.forward = lambda *_, **__: flat
    try:
        yield
    finally:
        del tower.forward


@torch.no_grad()
def _look(tower, corpus: GeneralPages, part: range, grid: tuple[int, int]) -> np.ndarray:
    pictures = [moved(corpus.images[k], corpus.words[k], random.Random(f"seen-{k}-{grid}")) for k in part]
    pixels, where, _ = as_input(pictures, grid)
    forward, tower.patch_embed.forward = tower.patch_embed.forward, flat_patches.__get__(tower.patch_embed)
    try:
        layers = torch.stack(layers_of(tower, pixels, where))
    finally:
        tower.patch_embed.forward = forward
    return layers.unflatten(1, (len(part), -1)).transpose(0, 1).half().numpy()
