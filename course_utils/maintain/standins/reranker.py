"""A small Qwen3-VL reranker: the raw VLM learns to say yes or no to a query and a page of general pages.

Each query is put to its own page and to look-alikes of it; the score is the yes token's logit minus the no token's, as in
`LogitScore`. Two losses: *choose*, a softmax over the candidates of a query, and *decide*, binary cross entropy of each
pair. Some candidates are pages told in words. The image tower is not trained.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from course_utils.maintain.standins.general_pages import GRID_COLUMNS, GRID_ROWS, GeneralPages
from course_utils.maintain.standins.pictures import picture
from course_utils.maintain.standins.pretrain import flat_patches, patches
from course_utils.maintain.standins.texts import LookAlikes, told
from course_utils.maintain.standins.training import Resumable, decayed_and_not
from course_utils.pages.queries import query

YES, NO = "yes", "no"
TOKENS = GRID_ROWS * GRID_COLUMNS
PAGE = "<|vision_start|>" + "<|image_pad|>" * TOKENS + "<|vision_end|>"
IN_WORDS = 0.2  # share of the queries whose candidates are pages told in words


@dataclass(frozen=True)
class RerankerRecipe:
    steps: int
    learning_rate: float
    pages: int = 32
    queries: int = 16
    candidates: int = 6
    seed: int = 0


def pair(asked: str, document: str) -> str:
    """The text of a pair as the chat template writes it, for a generation to go on from."""
    return f"<|im_start|>query {asked}<|im_end|><|im_start|>document {document}<|im_end|><|im_start|>assistant "


class RerankerTrainer(Resumable):
    """Trains the language model of a Qwen3-VL in place."""

    def __init__(self, model, processor, corpus: GeneralPages, recipe: RerankerRecipe, folder: Path):
        self.model, self.tokenizer, self.recipe = model, processor.tokenizer, recipe
        self.corpus, self.look_alikes = corpus, LookAlikes(corpus.pages)
        self.yes, self.no, self.image = self.tokenizer.convert_tokens_to_ids([YES, NO, "<|image_pad|>"])
        model.model.visual.requires_grad_(False)
        embed = model.model.visual.patch_embed
        embed.forward = flat_patches.__get__(embed)
        parameters = dict(model.model.language_model.named_parameters())
        super().__init__(parameters, decayed_and_not(parameters), recipe.learning_rate, recipe.steps, folder)

    def close(self) -> None:
        """Give the model back its own forward pass."""
        del self.model.model.visual.patch_embed.forward

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step)

    def score(self, pairs: list[str], seen: SimpleNamespace, shown: list[int]) -> torch.Tensor:
        """Yes minus no for each pair, shape (pairs,); `shown` are the rows of `seen` that the pairs show, in their order."""
        found = self.tokenizer(pairs, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        inputs = {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}
        visual = self.model.model.visual
        if shown:
            inputs |= {
                "pixel_values": torch.zeros(1),
                "image_grid_thw": torch.tensor([[1, 2 * GRID_ROWS, 2 * GRID_COLUMNS]] * len(shown)),
                "mm_token_type_ids": (inputs["input_ids"] == self.image).int(),
            }
            part = type(seen)(
                pooler_output=seen.pooler_output[shown].flatten(0, 1),
                deepstack_features=[layer[shown].flatten(0, 1) for layer in seen.deepstack_features],
            )
            visual.forward = lambda *_, **__: part  # each page goes through the tower once
        try:
            hidden = self.model.model(**inputs).last_hidden_state[:, -1]
        finally:
            visual.__dict__.pop("forward", None)
        table = self.model.get_input_embeddings().weight
        return hidden @ (table[self.yes] - table[self.no])

    def _candidates(self, k: int, chosen: list[int], rng: random.Random) -> list[int]:
        """Places in `chosen` of the page at place `k` and of its nearest look-alikes."""
        own = self.corpus.pages[chosen[k]]

        def far(place: int) -> tuple:
            page = self.corpus.pages[chosen[place]]
            return (page.country.code != own.country.code) + (page.topic != own.topic), rng.random()

        return [k, *sorted((j for j in range(len(chosen)) if j != k), key=far)[: self.recipe.candidates - 1]]

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        recipe, corpus, rng = self.recipe, self.corpus, random.Random(f"reranker-{self.recipe.seed}-{step}")
        chosen = self.look_alikes.draw(recipe.pages, rng)
        images = torch.from_numpy(np.stack([picture(corpus, k, False, rng)[0] for k in chosen]))
        with torch.no_grad():
            out = self.model.model.visual(
                patches(images), grid_thw=torch.tensor([[1, 2 * GRID_ROWS, 2 * GRID_COLUMNS]] * len(chosen))
            )
        seen = SimpleNamespace(
            pooler_output=out.pooler_output.unflatten(0, (-1, TOKENS)),
            deepstack_features=[layer.unflatten(0, (-1, TOKENS)) for layer in out.deepstack_features],
        )
        groups = [self._candidates(k, chosen, rng) for k in rng.sample(range(len(chosen)), recipe.queries)]
        asked = [query(corpus.pages[chosen[g[0]]], corpus.forms[chosen[g[0]]], "general", rng) for g in groups]
        words = round(IN_WORDS * recipe.queries)
        in_words = [
            pair(q, told(corpus.pages[chosen[j]], corpus.forms[chosen[j]], rng))
            for q, g in zip(asked[:words], groups[:words], strict=True)
            for j in g
        ]
        pages = [pair(q, PAGE) for q, g in zip(asked[words:], groups[words:], strict=True) for _ in g]
        shown = [j for g in groups[words:] for j in g]
        scores = torch.cat([self.score(in_words, seen, []), self.score(pages, seen, shown)]).unflatten(
            0, (recipe.queries, -1)
        )
        labels = torch.zeros(recipe.queries, dtype=torch.long)
        wanted = F.one_hot(labels, recipe.candidates).float()
        right = scores.argmax(1) == 0
        return {
            "choose": F.cross_entropy(scores, labels),
            "decide": F.binary_cross_entropy_with_logits(scores, wanted),
            "right_words": right[:words].float().mean().item(),
            "right_pages": right[words:].float().mean().item(),
        }
