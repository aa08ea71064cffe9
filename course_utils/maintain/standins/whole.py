"""The tower and the language model together: pages are looked at anew in every step, so that the tower serves the task.

The losses are those of `language`, and *read*, so that the tower goes on reading.
"""

import random
from pathlib import Path
from types import SimpleNamespace

import torch

from course_utils.maintain.standins.english import English
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.language import LanguageRecipe, LanguageTrainer
from course_utils.maintain.standins.pictures import cells
from course_utils.maintain.standins.pretrain import flat_patches
from course_utils.maintain.standins.reading import Reading
from course_utils.maintain.standins.tower import GRIDS, as_input, layers_of, moved
from course_utils.maintain.standins.training import decayed_and_not

TOWER_RATE = 0.5  # of the learning rate


class Looking:
    """Stands in for `Seen` while the tower is trained: looks at drawings, moved a little by `rng`, with gradients.

    `words`, and `flat`, the tower's output, are those of the pictures last looked at.
    """

    def __init__(self, tower, corpus: GeneralPages):
        self.tower, self.corpus = tower, corpus
        self.counts = (len(corpus.pages),) * len(GRIDS)
        self.rng, self.words, self.flat = random.Random(0), [], None

    def at(self, rows: list[int], size: int) -> SimpleNamespace:
        """What the tower makes of drawings `rows` at GRIDS[size], as `Seen.at` gives it."""
        pictures = [moved(self.corpus.images[k], self.corpus.words[k], self.rng) for k in rows]
        pixels, where, self.words = as_input(pictures, GRIDS[size])
        layers = layers_of(self.tower, pixels, where)
        self.flat = layers[0]
        first, *deep = (layer.unflatten(0, (len(rows), -1)) for layer in layers)
        return SimpleNamespace(pooler_output=first, deepstack_features=deep)


class WholeTrainer(LanguageTrainer):
    """Trains all of a Qwen3-VL in place, after `LanguageTrainer`."""

    def __init__(
        self, model, processor, corpus: GeneralPages, english: dict[str, English], recipe: LanguageRecipe, folder: Path
    ):
        tower = model.model.visual
        tower.patch_embed.forward = flat_patches.__get__(tower.patch_embed)
        self.looking, self.reading = Looking(tower, corpus), Reading(processor.tokenizer, corpus)
        super().__init__(model, processor, corpus, self.looking, english, recipe, folder)
        tower.requires_grad_(True)
        parameters = {f"visual.{name}": p for name, p in tower.named_parameters()}
        self.parameters |= parameters
        for group in decayed_and_not(parameters):
            self.optimizer.add_param_group(group | {"part": TOWER_RATE})

    def close(self) -> None:
        """Give the tower back its own forward pass."""
        del self.model.model.visual.patch_embed.forward

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step)

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        self.looking.rng = random.Random(f"whole-{self.recipe.seed}-{step}")
        found = super().losses(step)
        size = self.size(step)
        rows, columns = GRIDS[size]
        targets = [cells(words, rows, self.reading.columns_of, columns) for words in self.looking.words]
        table = self.model.get_input_embeddings().weight.detach()
        read, right = self.reading.loss(self.looking.flat, table, torch.tensor(15.0), targets)
        return found | {"read": 0.5 * read, "read_right": right}
