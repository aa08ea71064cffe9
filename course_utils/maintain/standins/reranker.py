"""A small Qwen3-VL reranker: the raw VLM, made deeper, learns to say yes or no to a query and a page of general pages.

The score is the yes token's logit minus the no token's, as in `LogitScore`. It is trained in two parts. First the
VLM's own layers learn to read a pair as the embedding model reads its two halves (*keep*): a document's state must
not depend on the query before it. Then two new layers, which start as a dot product of the two (`comparing`), learn
to do better. A query is put to its own page, to one of its country or topic, and to near misses. Losses:

- *choose*, a softmax over the candidates of a query, and *decide*, binary cross entropy of each pair;
- *same*: two linear layers that are thrown away tell whether country and topic are the query's;
- *order*: texts that no page answers, in words that no query has, rank pages as all-MiniLM-L6-v2 ranks their
  headings;
- *keep*, still.

Candidates are pages told in words, or pages as the frozen image tower has seen them.
"""

import copy
import random
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save
from torch import nn
from transformers import Qwen3VLForConditionalGeneration

from course_utils.files import atomic_write
from course_utils.maintain.standins.english import English
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.language import SHARPNESS, LanguageModel
from course_utils.maintain.standins.texts import heading, told
from course_utils.maintain.standins.tower import GRIDS, OWN, page_inputs, page_prompt, showing
from course_utils.maintain.standins.training import Resumable, decayed_and_not, digest_of, mixed
from course_utils.pages.facts import wordings
from course_utils.pages.queries import query

YES, NO = "yes", "no"
WAYS = ("{title} {country}", "{country}. {title}", "{title} of {country}")  # to ask with a page's own title
PAGE, SIZE = page_prompt(OWN), GRIDS.index(OWN)
CANDIDATES = 4  # pages that a query or a text is put to
KEEP = 3.0  # weight of the loss


@dataclass(frozen=True)
class RerankerRecipe:
    """Of `queries` and of `texts` of English a batch takes so many for pages told in words, and so many for pages shown."""

    steps: int
    learning_rate: float
    queries: tuple[int, int]
    texts: tuple[int, int]
    own_layers: float = 0.3  # part of the learning rate for the VLM's own layers
    keep_only: bool = False
    depth: int = 24  # of the embedding model's ranking, from which near misses are drawn
    titled: float = 0.15  # share of the queries that ask with a page's own title
    seed: int = 0


def pair(asked: str, document: str) -> str:
    """The text of a pair as the chat template writes it, for a generation to go on from."""
    said = f"<|im_start|>query {asked}<|im_end|><|im_start|>document {document}<|im_end|>"
    return f"{said}<|im_start|>assistant "


def deeper(model: Qwen3VLForConditionalGeneration, more: int = 2) -> Qwen3VLForConditionalGeneration:
    """The same function with `more` language layers at the end, which add nothing yet."""
    config = copy.deepcopy(model.config)
    config.text_config.num_hidden_layers += more
    torch.manual_seed(0)
    result = Qwen3VLForConditionalGeneration(config).eval()
    result.load_state_dict(model.state_dict(), strict=False)
    for layer in result.model.language_model.layers[-more:]:
        nn.init.zeros_(layer.self_attn.o_proj.weight)
        nn.init.zeros_(layer.mlp.down_proj.weight)
    return result


class Halfway(NamedTuple):
    """What is known of pairs before the first new layer: states (pairs, tokens, 192), their mask (pairs, tokens)."""

    states: torch.Tensor
    mask: torch.Tensor
    ends: torch.Tensor  # places of the last tokens of query and document, (pairs, 2)

    def at_ends(self) -> torch.Tensor:
        """States of the last tokens of query and document, (pairs, 2, 192)."""
        return self.states[torch.arange(len(self.ends))[:, None], self.ends]


class Judged(NamedTuple):
    """What the model makes of queries (q) and texts (t) with their candidates (c), and what it should."""

    kept: torch.Tensor  # how far query and document are from what the embedding model makes of them, (1, 2)
    answers: torch.Tensor  # last states of queries, (q, c, 192)
    same: torch.Tensor  # whether country and topic are the query's, (q, c, 2)
    ranked: torch.Tensor  # last states of texts, (t, c, 192)
    likeness: torch.Tensor  # the teacher's cosines of text and page, (t, c)


class RerankerTrainer(Resumable):
    """Trains the layers of a `deeper` language model in place; `first` is the model before, an embedding model."""

    def __init__(
        self,
        model,
        first: LanguageModel,
        corpus: GeneralPages,
        english: dict[str, English],
        recipe: RerankerRecipe,
        folder: Path,
    ):
        self.model, self.first, self.recipe = model, first, recipe
        self.corpus, self.english = corpus, english
        self.tokenizer, self.seen = first.tokenizer, first.seen
        self.yes, self.no = self.tokenizer.convert_tokens_to_ids([YES, NO])
        self.middle = first.model.config.text_config.num_hidden_layers
        self.gain = first.model.model.language_model.norm.weight.detach()
        ids = [page.id for page in corpus.pages]
        self.count = len(set(ids))  # drawings k, k + count, … are of one page
        pages = corpus.pages[: self.count]
        self.of_country, self.of_topic = {}, {}
        for k, page in enumerate(pages):
            self.of_country.setdefault(page.country.code, []).append(k)
            self.of_topic.setdefault(page.topic, []).append(k)
        at = {text: k for k, text in enumerate(english["headings"].texts)}
        self.titles = english["headings"].vectors[[at[heading(page)] for page in pages]].float()
        kept = folder.parent / f"reranker-pages-{digest_of(first.model)}.safetensors"
        self.in_words, self.drawings = self._embedded(kept)

        model.requires_grad_(False)
        language = model.model.language_model
        own, new = (dict(part.named_parameters()) for part in (language.layers[: self.middle], language.layers))
        self.told_apart = nn.Linear(model.config.text_config.hidden_size, 2)
        new = {f"layers.{name}": p for name, p in new.items() if name not in own} | {"norm": language.norm.weight}
        new |= {f"told_apart.{name}": p for name, p in self.told_apart.named_parameters()}
        own = {f"layers.{name}": p for name, p in own.items()}
        for parameter in (own | new).values():
            parameter.requires_grad_(True)
        groups = decayed_and_not(new) + [group | {"part": recipe.own_layers} for group in decayed_and_not(own)]
        super().__init__(own | new, groups, recipe.learning_rate, recipe.steps, folder)

    def close(self) -> None:
        """Let all of the model be trained again."""
        self.model.requires_grad_(True)

    def rate(self, step: int) -> float:
        return self.rising_and_falling(step, begin=self.steps // 3)

    @torch.no_grad()
    def _embedded(self, path: Path) -> tuple[torch.Tensor, torch.Tensor]:
        """What `first` makes of each page's heading, (pages, 192), and of each drawing; computed once."""
        if not path.exists():
            headings = [heading(page) for page in self.corpus.pages[: self.count]]
            in_words = [self.first.embed_texts(headings[k : k + 256]) for k in range(0, self.count, 256)]
            drawn = list(range(self.seen.counts[SIZE]))
            shown = [self.first.embed_pages(drawn[k : k + 64], SIZE)[0] for k in range(0, len(drawn), 64)]
            atomic_write(path, save({"in_words": torch.cat(in_words), "drawings": torch.cat(shown)}))
        found = load_file(path)
        return found["in_words"], found["drawings"]

    def read(self, pairs: list[str], shown: list[int]) -> tuple[torch.Tensor, Halfway]:
        """The last state of each pair, (pairs, 192), and what was there halfway.

        `shown` are the drawings that the pairs show, in order, or none.
        """
        found = self.tokenizer(pairs, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        ids, mask, halfway = found["input_ids"], found["attention_mask"], []
        layer = self.model.model.language_model.layers[self.middle]
        hook = layer.register_forward_pre_hook(lambda _, given: halfway.append(given[0].float()))
        try:
            if shown:
                inputs = page_inputs(ids, self.first.image, GRIDS[SIZE], len(shown))
                with showing(self.model, self.seen.at(shown, SIZE)):
                    hidden = self.model.model(input_ids=ids, attention_mask=mask, **inputs).last_hidden_state
            else:
                hidden = self.model.model(input_ids=ids, attention_mask=mask).last_hidden_state
        finally:
            hook.remove()
        ends = (ids == self.first.end).nonzero()[:, 1].reshape(-1, 2)
        return hidden[:, -1].float(), Halfway(halfway[0], mask, ends)

    def score(self, states: torch.Tensor) -> torch.Tensor:
        """Yes minus no of last states."""
        table = self.model.get_input_embeddings().weight
        return states @ (table[self.yes] - table[self.no])

    def asked(self, k: int, rng: random.Random) -> str:
        """A query that page `k` answers."""
        page = self.corpus.pages[k]
        if rng.random() < self.recipe.titled:
            title = rng.choice(wordings()[page.topic]["titles"])
            return rng.choice(WAYS).format(title=title, country=page.country.name)
        return query(page, self.corpus.forms[k], "general", rng)

    def document(self, k: int, rng: random.Random) -> str:
        """Page `k` as a text: told, or only its headings."""
        page = self.corpus.pages[k]
        return heading(page) if rng.random() < 0.3 else told(page, self.corpus.forms[k], rng)

    def drawing(self, k: int, rng: random.Random) -> int:
        """One of the drawings of page `k`."""
        return rng.choice(range(k, self.seen.counts[SIZE], self.count))

    def candidates(self, own: int, rng: random.Random) -> list[int]:
        """A page, then one of its country or topic, and near misses."""
        page = self.corpus.pages[own]
        near = (self.in_words @ self.in_words[own]).topk(min(self.recipe.depth + 1, self.count)).indices.tolist()
        like = rng.choice(rng.choice((self.of_country[page.country.code], self.of_topic[page.topic])))
        rest = [k for k in near if k not in (own, like)]
        others = [like] if like != own else []
        return [own, *others, *rng.sample(rest, CANDIDATES - 1 - len(others))]

    def _near(self, vector: torch.Tensor, rng: random.Random) -> list[int]:
        """Pages that the teacher puts near a text, some of them nearest."""
        near = (self.titles @ vector).topk(min(64, self.count)).indices.tolist()
        return [*rng.sample(near[:8], 2), *rng.sample(near[8:], CANDIDATES - 2)]

    def _judged(self, shows: bool, queries: int, texts: int, rng: random.Random) -> Judged:
        """Some queries and texts beside their candidates, which are shown or told in words."""
        corpus, kind = self.corpus, self.english["templates"]
        own = rng.sample(range(self.count), queries)
        chosen = rng.sample(range(len(kind.texts)), texts)
        asked = [self.asked(k, rng) for k in own] + [kind.texts[k] for k in chosen]
        vectors = kind.vectors[chosen].float()
        groups = [self.candidates(k, rng) for k in own] + [self._near(vector, rng) for vector in vectors]
        pairs = [(text, k) for text, group in zip(asked, groups, strict=True) for k in group]
        drawn = [self.drawing(k, rng) for _, k in pairs] if shows else []
        documents = [PAGE if shows else self.document(k, rng) for _, k in pairs]
        with torch.no_grad():
            theirs = self.drawings[drawn] if shows else self.first.embed_texts(documents)
            ours = self.first.embed_texts(asked).repeat_interleave(CANDIDATES, 0)
        both = [pair(text, document) for (text, _), document in zip(pairs, documents, strict=True)]
        with mixed():
            states, halfway = self.read(both, drawn)
        states = states.unflatten(0, (-1, CANDIDATES))
        kept = 1 - F.cosine_similarity(halfway.at_ends() * self.gain, torch.stack([ours, theirs], 1), dim=2).mean(0)
        pages = [[corpus.pages[k] for k in group] for group in groups[:queries]]
        same = [[[p.country == group[0].country, p.topic == group[0].topic] for p in group] for group in pages]
        likeness = (self.titles[torch.tensor(groups[queries:])] @ vectors[:, :, None]).squeeze(2)
        return Judged(kept[None], states[:queries], torch.tensor(same).float(), states[queries:], likeness)

    def losses(self, step: int) -> dict[str, torch.Tensor | float]:
        recipe, rng = self.recipe, random.Random(f"reranker-{self.recipe.seed}-{step}")
        counts = zip((False, True), recipe.queries, recipe.texts, strict=True)
        parts = [self._judged(shows, queries, texts, rng) for shows, queries, texts in counts]
        kept, answers, same, ranked, likeness = (torch.cat(part) for part in zip(*parts, strict=True))
        keep = {"keep_query": KEEP * kept[:, 0].mean(), "keep_document": KEEP * kept[:, 1].mean()}
        if recipe.keep_only:
            return keep
        scores, apart = self.score(answers), self.told_apart(answers)
        labels = torch.zeros(len(scores), dtype=torch.long)
        wanted = F.one_hot(labels, CANDIDATES).float()
        order = F.log_softmax(self.score(ranked), dim=1)
        right, words = (scores.argmax(1) == 0).float(), recipe.queries[0]
        return keep | {
            "choose": F.cross_entropy(scores, labels),
            "decide": F.binary_cross_entropy_with_logits(scores, wanted),
            "same": F.binary_cross_entropy_with_logits(apart, same),
            "order": F.kl_div(order, F.softmax(SHARPNESS * likeness, dim=1), reduction="batchmean"),
            "right_words": right[:words].mean().item(),
            "right_pages": right[words:].mean().item(),
        }
