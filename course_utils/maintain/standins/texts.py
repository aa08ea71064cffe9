"""What the small model says and is asked: captions, pages told in words, look-alikes, and a teacher for free wording."""

import hashlib
import json
import random
import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from sentence_transformers import SentenceTransformer

from course_utils.checkpoints import minilm_folder
from course_utils.files import atomic_write
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.pages.facts import Page, wordings
from course_utils.pages.queries import BY_NAME, FORM_NAMES, query

TEACHER_TEXTS = 48_000
_WORDS = """
the of in a an how what by per and for to is are who which its their people or with on from at as it do
does did be been being has have had can could will would i me my you we they them he his her whose whom
where when there that this those these if not no own any all much many more most less than then between
into out off up down over through under about without so still ever never very just only each every some
somebody everybody everything whether before after among behind above beyond next get gets make makes
come comes go goes one first against versus
"""
FUNCTION_WORDS = frozenset(_WORDS.split())  # they tell no topic apart, so they may stand in any wording


def caption(page: Page, form: str) -> str:
    """What the raw VLM learns to say of a page."""
    return f"{page.country.name}. {wordings()[page.topic]['titles'][0]}. {FORM_NAMES['general'][form]}"


def told(page: Page, form: str, rng: random.Random) -> str:
    """A page as words: title, country, form and a few labels, in one of two orders."""
    labels = [fact.label for fact in page.facts]
    parts = [page.country.name, rng.choice(wordings()[page.topic]["titles"])]
    rng.shuffle(parts)
    return " ".join([*parts, FORM_NAMES["general"][form], *rng.sample(labels, min(3, len(labels)))])


def heading(page: Page) -> str:
    """Country and titles: where the teacher puts this, it puts the page."""
    return f"{page.country.name}. {'. '.join(wordings()[page.topic]['titles'])}"


class LookAlikes:
    """Draws batches of different pages, half of them in groups of one country or of one topic."""

    def __init__(self, pages: list[Page]):
        self.pages = pages
        self.groups: dict[str, list[int]] = {}
        for k, page in enumerate(pages):
            self.groups.setdefault(page.country.code, []).append(k)
            self.groups.setdefault(page.topic, []).append(k)

    def draw(self, size: int, rng: random.Random) -> list[int]:
        """Indices of `size` drawings, no page twice."""
        chosen: dict[str, int] = {}
        while len(chosen) < size // 2:
            first = self.pages[rng.randrange(len(self.pages))]
            same = self.groups[first.country.code if rng.random() < 0.5 else first.topic]
            for k in rng.sample(same, min(6, len(same))):
                chosen.setdefault(self.pages[k].id, k)
        while len(chosen) < size:
            k = rng.randrange(len(self.pages))
            chosen.setdefault(self.pages[k].id, k)
        return list(chosen.values())[:size]


def kept_apart() -> set[str]:
    """First five letters of the words of those wordings that share none with a query of a training."""
    kinds = [topic[kind] for topic in wordings().values() for kind in ("unseen", "natural")]
    phrases = [phrase for found in kinds for phrase in found]
    words = {word for phrase in phrases for word in re.findall(r"[a-z]+", phrase.lower()) if len(word) > 2}
    return {word[:5] for word in words - FUNCTION_WORDS}


def plain_words(tokenizer) -> list[str]:
    """The words of the tokenizer's vocabulary, but for those that are kept apart."""
    apart = kept_apart()
    words = (word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    return sorted(word for word in words if word[:5] not in apart)


def _embedded(folder: Path, name: str, texts: dict[str, list[str]]) -> dict[str, torch.Tensor]:
    """The teacher's vectors of some lists of texts, embedded once and kept in `folder`."""
    key = hashlib.sha256(json.dumps(list(texts.values())).encode()).hexdigest()[:16]
    path = folder / f"{name}-{key}.safetensors"
    if not path.exists():
        model = SentenceTransformer(str(minilm_folder()), device="cpu")
        vectors = {part: model.encode(found, batch_size=128, convert_to_tensor=True) for part, found in texts.items()}
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, save(vectors))
    return load_file(path)


class Teacher:
    """What all-MiniLM-L6-v2 makes of general queries, of plain words put together by chance, and of every page's headings.

    `texts`, `vectors` (n, 384) in the same order, and `of_page` (drawings, 384) in the order of the corpus. Embedded
    once and kept in `folder`.
    """

    def __init__(self, tokenizer, corpus: GeneralPages, folder: Path, count: int = TEACHER_TEXTS):
        rng = random.Random("teacher")
        words = plain_words(tokenizer)
        self.texts = [self._text(corpus, words, rng) for _ in range(count)]
        headings = [heading(page) for page in corpus.pages]
        different = sorted(set(headings))
        found = _embedded(folder, "teacher", {"texts": self.texts, "headings": different})
        self.vectors = found["texts"]
        at = {heading: k for k, heading in enumerate(different)}
        self.of_page = found["headings"][[at[heading] for heading in headings]]

    @staticmethod
    def _text(corpus: GeneralPages, words: list[str], rng: random.Random) -> str:
        k = rng.randrange(len(corpus.pages))
        page = corpus.pages[k]
        way = rng.random()
        if way < 0.35:
            return query(page, corpus.forms[k], "general", rng)
        if way < 0.45:
            return told(page, corpus.forms[k], rng)
        phrase = " ".join(rng.choices(words, k=rng.randint(1, 4)))
        if way < 0.55:
            phrase += " " + rng.choice(wordings()[page.topic]["general"])
        return rng.choice(BY_NAME["general"]).format(phrase=phrase, country=page.country.name) if way < 0.85 else phrase


class Asked:
    """all-MiniLM-L6-v2's vectors of `KINDS` general queries of every drawing of `corpus`."""

    KINDS = 6

    def __init__(self, corpus: GeneralPages, folder: Path):
        rng = random.Random("asked")
        pairs = zip(corpus.pages, corpus.forms, strict=True)
        texts = [query(page, form, "general", rng) for page, form in pairs for _ in range(self.KINDS)]
        different = {text: k for k, text in enumerate(dict.fromkeys(texts))}
        self._vectors = _embedded(folder, "asked", {"queries": list(different)})["queries"]
        self._at = torch.tensor([different[text] for text in texts]).reshape(-1, self.KINDS)

    def of(self, drawings: list[int], kind: int) -> torch.Tensor:
        """One query of each of `drawings`, (n, 384)."""
        return self._vectors[self._at[drawings, kind % self.KINDS]]
