"""The language model of the small Qwen3-VL gets to know English, as all-MiniLM-L6-v2 knows it.

The image tower is frozen, so a page costs no more than its tokens. Losses:

- *match*: general queries against pages, and pages told in words, with look-alikes side by side;
- *imitate*: the state of a text, seen through a linear layer, points where the teacher puts the text; and
  that of a page where the teacher puts its headings;
- *order*: each text ranks the pages of the batch as the teacher ranks their headings;
- *describe*: the caption of a page, next token by next token, in some of the steps.
"""

import functools
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from course_utils.maintain.standins.english import LONGEST, English
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.losses import match, next_token, state
from course_utils.maintain.standins.pretrain import IMITATION
from course_utils.maintain.standins.texts import LookAlikes, caption, heading, told
from course_utils.maintain.standins.tower import GRIDS, Seen, page_inputs, page_prompt, showing
from course_utils.maintain.standins.training import Resumable, decayed_and_not, mixed
from course_utils.pages.queries import query

SIZES = (1, 2, 1, 0, 1, 3)  # places in GRIDS that the batches take in turn
SHARPNESS = 20.0  # of the teacher's ranking: its cosines times this
FITTED = 2048  # texts that the linear layer is fitted on before the first step


class LanguageModel:
    """The language model of a Qwen3-VL on texts, and on pages as a frozen tower has `seen` them."""

    def __init__(self, model, tokenizer, seen: Seen):
        self.model, self.tokenizer, self.seen = model, tokenizer, seen
        self.image, self.end = tokenizer.convert_tokens_to_ids(["<|image_pad|>", "<|im_end|>"])

    def embed_texts(self, texts: list[str], parts: int = 4) -> torch.Tensor:
        """Unit vectors (n, 192) of texts, run in `parts` of like length."""
        options = {"add_special_tokens": False, "truncation": True, "max_length": LONGEST}
        tokens = functools.partial(self.tokenizer, **options)
        begin = tokens("<|im_start|>user ")["input_ids"]
        rows = [[*begin, *ids, self.end] for ids in tokens(texts)["input_ids"]]
        order = sorted(range(len(rows)), key=lambda k: len(rows[k]))
        size = -(-len(order) // parts)
        states = []
        for first in range(0, len(order), size):
            batch = [torch.tensor(rows[k]) for k in order[first : first + size]]
            padding = self.tokenizer.pad_token_id
            ids = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=padding)
            with mixed():
                hidden = self.model.model(input_ids=ids, attention_mask=(ids != padding).long()).last_hidden_state
            states.append(state(hidden.float(), ids, self.end))
        return torch.cat(states)[torch.tensor(order).argsort()]

    def embed_pages(self, chosen: list[int], size: int, tails: list[str] | None = None):
        """Unit vectors (n, 192) of drawings at GRIDS[size]; hidden states and ids of prompts with tails."""
        grid = GRIDS[size]
        texts = [f"<|im_start|>user {page_prompt(grid)}<|im_end|>{tail}" for tail in tails or [""] * len(chosen)]
        found = self.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        ids = found["input_ids"]
        with showing(self.model, self.seen.at(chosen, size)), mixed():
            hidden = self.model.model(
                input_ids=ids, attention_mask=found["attention_mask"], **page_inputs(ids, self.image, grid, len(chosen))
            ).last_hidden_state.float()
        return state(hidden, ids, self.end), hidden, ids


@dataclass(frozen=True)
class LanguageRecipe:
    steps: int
    learning_rate: float
    pages: int = 96
    others: int = 16  # pages told in words
    texts: tuple[tuple[str, int], ...] = (("prose", 40), ("templates", 48), ("asked", 40))
    described: float = 0.25  # share of the steps that describe
    seed: int = 0


class LanguageTrainer(Resumable):
    """Trains the language model of a Qwen3-VL in place, on texts and pages that a frozen tower has `seen`."""

    def __init__(
        self,
        model,
        processor,
        corpus: GeneralPages,
        seen: Seen,
        english: dict[str, English],
        recipe: LanguageRecipe,
        folder: Path,
    ):
        self.model, self.tokenizer, self.recipe = model, processor.tokenizer, recipe
        self.corpus, self.english = corpus, english
        self.language = LanguageModel(model, self.tokenizer, seen)
        self.look_alikes = [LookAlikes(corpus.pages[:count]) for count in seen.counts]
        at = {text: k for k, text in enumerate(english["headings"].texts)}
        self.heading_of = torch.tensor([at[heading(page)] for page in corpus.pages])
        self.scales = nn.Parameter(torch.tensor([SHARPNESS, SHARPNESS]).log())  # match, order
        self.view = nn.Parameter(self._fitted())
        model.model.visual.requires_grad_(False)
        language = {f"language.{name}": p for name, p in model.model.language_model.named_parameters()}
        parameters = language | {"scales": self.scales, "view": self.view}
        groups = decayed_and_not(parameters, table=model.get_input_embeddings().weight, part=0.5)
        super().__init__(parameters, groups, recipe.learning_rate, recipe.steps, folder)

    def close(self) -> None:
        """Let the tower be trained again."""
        self.model.model.visual.requires_grad_(True)

    def size(self, step: int) -> int:
        """The place in GRIDS of a step's pages."""
        return SIZES[step % len(SIZES)]

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step, begin=self.steps * 2 // 5)

    @torch.no_grad()
    def _fitted(self) -> torch.Tensor:
        """The linear layer (384, 192) that best takes the states of some texts to the teacher's vectors."""
        kinds = [name for name, _ in self.recipe.texts]
        texts = [text for name in kinds for text in self.english[name].texts[: FITTED // len(kinds)]]
        wanted = torch.cat([self.english[name].vectors[: FITTED // len(kinds)] for name in kinds]).float()
        states = torch.cat([self.language.embed_texts(texts[k : k + 128]) for k in range(0, len(texts), 128)])
        square = states.T @ states + torch.eye(states.shape[1])
        return torch.linalg.solve(square, states.T @ wanted).T.contiguous()

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        recipe, corpus, rng = self.recipe, self.corpus, random.Random(f"language-{self.recipe.seed}-{step}")
        size = self.size(step)
        chosen = self.look_alikes[size].draw(recipe.pages, rng)
        tails, describes = None, rng.random() < recipe.described
        if describes:
            captions = [caption(corpus.pages[k], corpus.forms[k]) for k in chosen]
            tails = [f"<|im_start|>assistant {text}<|im_end|>" for text in captions]
        states, hidden, ids = self.language.embed_pages(chosen, size, tails)
        found, tokens = {}, GRIDS[size][0] * GRIDS[size][1]
        if describes:
            after = 6 + tokens  # <|im_start|> user, vision start and end, <|im_end|>, <|im_start|>assistant
            describe, said = next_token(self.model.lm_head, hidden, ids, after, self.tokenizer.pad_token_id)
            found = {"describe": 0.5 * describe, "said": said}

        both = chosen + self.look_alikes[size].draw(recipe.others, rng)
        about = [(corpus.pages[k], corpus.forms[k]) for k in both]
        texts = [query(page, form, "general", rng) for page, form in about]
        texts += [told(page, form, rng) for page, form in about[len(chosen) :]]
        drawn = [
            (self.english[name], k)
            for name, count in recipe.texts
            for k in rng.sample(range(len(self.english[name].texts)), count)
        ]
        ours = self.language.embed_texts(texts + [kind.texts[k] for kind, k in drawn])
        queries, in_words, ours = ours.split([len(both), recipe.others, len(drawn)])
        documents, scale = torch.cat([states, in_words]), self.scales[0].exp().clamp(max=60)
        matched, right = match(scale, queries, documents, [page.id for page, _ in about], len(chosen))

        theirs = torch.stack([kind.vectors[k] for kind, k in drawn]).float()
        titles = self.english["headings"].vectors[self.heading_of[chosen]].float()
        imitate = 1 - F.cosine_similarity(ours @ self.view.T, theirs).mean()
        imitate_page = 1 - F.cosine_similarity(states @ self.view.T, titles).mean()
        ranked = F.log_softmax(self.scales[1].exp().clamp(max=60) * ours @ states.T, dim=1)
        order = F.kl_div(ranked, F.softmax(SHARPNESS * theirs @ titles.T, dim=1), reduction="batchmean")
        return found | {
            "match": matched,
            "order": order,
            f"right_{tokens}": right,
            "imitate": IMITATION * imitate,
            "imitate_page": IMITATION * imitate_page,
        }
