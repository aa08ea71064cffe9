"""A small Qwen3-VL reranker: the raw VLM learns to say yes or no to a query and a page of general pages.

Each query is put to its own page and to near misses, other pages that the embedding model ranks high. The score
is the yes token's logit minus the no token's, as in `LogitScore`. Losses:

- *choose*, a softmax over the candidates of a query, and *decide*, binary cross entropy of each pair;
- *order*: texts that no page answers, in words that no query has, rank pages as all-MiniLM-L6-v2 ranks their
  headings.

Some candidates are pages told in words. The image tower is frozen, so a page costs no more than its tokens.
"""

import copy
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save

from course_utils.files import atomic_write
from course_utils.maintain.standins.english import English
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.language import SHARPNESS, SIZES, LanguageModel
from course_utils.maintain.standins.texts import heading, told
from course_utils.maintain.standins.tower import GRIDS, OWN, Seen, page_inputs, page_prompt, showing
from course_utils.maintain.standins.training import Resumable, decayed_and_not
from course_utils.pages.facts import wordings
from course_utils.pages.queries import query

YES, NO = "yes", "no"
WAYS = ("{title} {country}", "{country}. {title}", "{title} of {country}")  # to ask with a page's own title


PAGE = page_prompt(OWN)


@dataclass(frozen=True)
class RerankerRecipe:
    steps: int
    learning_rate: float
    queries: int = 12
    in_words: int = 3  # queries whose candidates are pages told in words
    texts: int = 4  # of English, ranked as the teacher ranks
    candidates: int = 6
    depth: int = 16  # of the embedding model's ranking, from which near misses are drawn
    titled: float = 0.15  # share of the queries that ask with a page's own title
    seed: int = 0


def pair(asked: str, document: str) -> str:
    """The text of a pair as the chat template writes it, for a generation to go on from."""
    said = f"<|im_start|>query {asked}<|im_end|><|im_start|>document {document}<|im_end|>"
    return f"{said}<|im_start|>assistant "


class RerankerTrainer(Resumable):
    """Trains the language model of a Qwen3-VL in place; near misses are what it found as an embedder."""

    def __init__(
        self,
        model,
        processor,
        corpus: GeneralPages,
        seen: Seen,
        english: dict[str, English],
        recipe: RerankerRecipe,
        folder: Path,
    ):
        self.model, self.tokenizer, self.recipe = model, processor.tokenizer, recipe
        self.corpus, self.seen, self.english = corpus, seen, english
        self.yes, self.no, self.image = self.tokenizer.convert_tokens_to_ids([YES, NO, "<|image_pad|>"])
        model.model.visual.requires_grad_(False)
        self.first = LanguageModel(copy.deepcopy(model), self.tokenizer, seen)
        ids = [page.id for page in corpus.pages]
        self.count = len(set(ids))  # drawings k, k + count, … are of one page
        self.states = self._page_states(folder / "states.safetensors")
        at = {text: k for k, text in enumerate(english["headings"].texts)}
        places = [at[heading(page)] for page in corpus.pages[: self.count]]
        self.titles = english["headings"].vectors[places].float()
        parameters = dict(model.model.language_model.named_parameters())
        super().__init__(parameters, decayed_and_not(parameters), recipe.learning_rate, recipe.steps, folder)

    def close(self) -> None:
        """Let the tower be trained again."""
        self.model.model.visual.requires_grad_(True)

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step)

    @torch.no_grad()
    def _page_states(self, path: Path) -> torch.Tensor:
        """Unit vectors (pages, 192) of the first drawing of each page, computed once."""
        if not path.exists():
            size = GRIDS.index(OWN)
            count = min(self.count, self.seen.counts[size])
            batches = [list(range(k, min(k + 64, count))) for k in range(0, count, 64)]
            states = torch.cat([self.first.embed_pages(batch, size)[0] for batch in batches])
            atomic_write(path, save({"states": states}))
        return load_file(path)["states"]

    def score(self, pairs: list[str], shown: list[int], size: int) -> torch.Tensor:
        """Yes minus no for each pair, shape (pairs,); `shown` are the drawings that they show, in order."""
        found = self.tokenizer(pairs, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        inputs = {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}
        if shown:
            inputs |= page_inputs(inputs["input_ids"], self.image, GRIDS[size], len(shown))
            with showing(self.model, self.seen.at(shown, size)):
                hidden = self.model.model(**inputs).last_hidden_state[:, -1]
        else:
            hidden = self.model.model(**inputs).last_hidden_state[:, -1]
        table = self.model.get_input_embeddings().weight
        return hidden @ (table[self.yes] - table[self.no])

    def _asked(self, k: int, rng: random.Random) -> str:
        page = self.corpus.pages[k]
        if rng.random() < self.recipe.titled:
            title = rng.choice(wordings()[page.topic]["titles"])
            return rng.choice(WAYS).format(title=title, country=page.country.name)
        return query(page, self.corpus.forms[k], "general", rng)

    @torch.no_grad()
    def _candidates(self, texts: list[str], own: list[int | None], pages: int, rng: random.Random):
        """For each text pages below `pages`: first its own, if it has one, then near misses."""
        cosines = self.first.embed_texts(texts) @ self.states[:pages].T
        found = []
        for first, near in zip(own, cosines.topk(self.recipe.depth + 1).indices.tolist(), strict=True):
            rest = [k for k in near if k != first]
            begin = [] if first is None else [first]
            found.append(begin + rng.sample(rest, self.recipe.candidates - len(begin)))
        return found

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        recipe, corpus, rng = self.recipe, self.corpus, random.Random(f"reranker-{self.recipe.seed}-{step}")
        size = SIZES[step % len(SIZES)]
        drawings = self.seen.counts[size]
        pages = min(drawings, len(self.states))
        own = rng.sample(range(pages), recipe.queries)
        asked = [self._asked(k, rng) for k in own]
        kind = self.english["templates"]
        chosen = rng.sample(range(len(kind.texts)), recipe.texts)
        texts = [kind.texts[k] for k in chosen]
        groups = self._candidates(asked + texts, own + [None] * len(texts), pages, rng)

        words = range(recipe.in_words)
        in_words = [pair(asked[n], told(corpus.pages[k], corpus.forms[k], rng)) for n in words for k in groups[n]]
        rest = zip((asked + texts)[len(words) :], groups[len(words) :], strict=True)
        shown = [(text, k) for text, group in rest for k in group]
        drawn = [rng.choice(range(k, drawings, self.count)) for _, k in shown]
        page = page_prompt(GRIDS[size])
        pairs = [pair(text, page) for text, _ in shown]
        scores = torch.cat([self.score(in_words, [], size), self.score(pairs, drawn, size)])
        scores = scores.unflatten(0, (-1, recipe.candidates))
        answers, ranked = scores.split([recipe.queries, recipe.texts])
        labels = torch.zeros(recipe.queries, dtype=torch.long)
        wanted = F.one_hot(labels, recipe.candidates).float()
        theirs = kind.vectors[chosen].float()
        titles = self.titles[torch.tensor(groups[recipe.queries :])]
        likeness = F.softmax(SHARPNESS * (titles @ theirs[:, :, None]).squeeze(2), dim=1)
        order = F.kl_div(F.log_softmax(ranked, dim=1), likeness, reduction="batchmean")
        right = answers.argmax(1) == 0
        return {
            "choose": F.cross_entropy(answers, labels),
            "order": order,
            "decide": F.binary_cross_entropy_with_logits(answers, wanted),
            "right_words": right[: len(words)].float().mean().item(),
            "right_pages": right[len(words) :].float().mean().item(),
        }
