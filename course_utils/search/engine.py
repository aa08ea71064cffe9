"""The search itself: embed the query, find the nearest pages, fuse with text, rerank; milliseconds of each stage."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
from PIL import Image

from course_utils.corpus import Corpus
from course_utils.errors import CourseError

Embed = Callable[[str | Image.Image], np.ndarray]
Judge = Callable[[str, list], np.ndarray]
DEPTH = 100  # ranks of each list that fusion looks at
CANDIDATES = 20  # pages that the reranker reads
RANK_SHIFT = 60  # of reciprocal rank fusion (Cormack, Clarke & Büttcher 2009)
SCALE = 20.0  # of the cosine beside the reranker's logit, as lesson 07 trained with


class Refused(CourseError):
    """A request that cannot be answered: a sentence for the person who asked, and an HTTP status of 4xx."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Found:
    """Page ids and scores, best first, and the milliseconds of each stage."""

    hits: list[tuple[str, float]]
    milliseconds: dict[str, float]


@dataclass
class Engine:
    """A collection and what it is searched with; safe to use from many threads.

    folder: where the index is written, anew each time, so that it always belongs to these vectors.
    pages: for each model's name the vectors (n, d) of the corpus, float32, of length one.
    embed: for each model's name what embeds a query; a name may be missing where the model is not there.
    known: for each model's name, vectors of queries that can be asked without the model.
    texts: ids and vectors of the pages that have text, and what embeds a query for them; None for no fusion.
    judge: logits of a query with some pages; None for no reranking. weight: how much a logit counts.
    titles: a few words for each page id. examples: queries to try.
    """

    folder: Path
    corpus: Corpus
    pages: Mapping[str, np.ndarray]
    embed: Mapping[str, Embed]
    known: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    texts: tuple[Sequence[str], np.ndarray, Embed] | None = None
    judge: Judge | None = None
    weight: float = 1.0
    titles: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._one_at_a_time = threading.Lock()  # models share one processor, and tokenizers are not made for threads
        self._row = {page: k for k, page in enumerate(self.corpus.corpus)}
        index = lancedb.connect(str(self.folder))
        self._pages = _write(index, "pages", list(self._row), self.pages)
        if self.texts:
            self._readable = set(self.texts[0])
            self._texts = _write(index, "texts", self.texts[0], {"text": self.texts[1]})

    def image(self, page: str) -> Image.Image:
        """The page, RGB. Pillow decodes an image on its first use, which only one thread may do."""
        with self._one_at_a_time:
            return self.corpus.image(page).convert("RGB")

    def vector(self, query: str | Image.Image, model: str = "before") -> np.ndarray:
        """The query's vector (d,), float32, of length one. Raises Refused where the model is not here."""
        known = self.known.get(model, {}).get(query) if isinstance(query, str) else None
        if known is not None:
            return known
        if model not in self.embed:
            raise Refused(
                "The finetuned model is not here, so “after” answers only the examples: run `course run 07`.", 409
            )
        with self._one_at_a_time:
            return unit(self.embed[model](query))

    def search(
        self, query: str | Image.Image, model: str = "before", fuse: bool = False, rerank: bool = False, count: int = 5
    ) -> Found:
        """The best `count` pages for words, or for an image, which can be neither fused nor reranked.

        Scores are cosines; of fusion, sums of reciprocal ranks; of reranking, 20 times the cosine plus the weighted
        logit. With both, fusion chooses the candidates and the reranker orders them.
        """
        if fuse and (self.texts is None or not isinstance(query, str)):
            raise Refused("These pages or this query have no text, so there is nothing to fuse: switch it off.", 409)
        if rerank and (self.judge is None or not isinstance(query, str)):
            raise Refused("There is no reranker for this query: switch it off.", 409)
        clock = _Clock()
        asked = self.vector(query, model)
        clock.lap("embed")
        hits = _nearest(self._pages, model, asked, max(count, DEPTH if fuse else CANDIDATES if rerank else 0))
        clock.lap("search")
        if fuse:
            hits = self._fused(hits, query)
            clock.lap("fuse")
        if rerank:
            hits = self._reranked(hits[:CANDIDATES], query, asked @ self.pages[model].T)
            clock.lap("rerank")
        return Found(hits[:count], clock.laps)

    def _fused(self, hits: list[tuple[str, float]], query: str) -> list[tuple[str, float]]:
        """Reciprocal rank fusion; a page without text has the same rank in both lists, or text would push it out."""
        with self._one_at_a_time:
            asked = unit(self.texts[2](query))
        scores: dict[str, float] = {}
        for rank, (page, _) in enumerate(hits, start=1):
            scores[page] = (1 if page in self._readable else 2) / (RANK_SHIFT + rank)
        for rank, (page, _) in enumerate(_nearest(self._texts, "text", asked, DEPTH), start=1):
            scores[page] = scores.get(page, 0.0) + 1 / (RANK_SHIFT + rank)
        return sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))

    def _reranked(self, hits: list[tuple[str, float]], query: str, cosines: np.ndarray) -> list[tuple[str, float]]:
        pages = [page for page, _ in hits]
        with self._one_at_a_time:
            logits = self.judge(query, [self.corpus.corpus[page] for page in pages])
        scores = [
            SCALE * float(cosines[self._row[page]]) + self.weight * float(logit)
            for page, logit in zip(pages, logits, strict=True)
        ]
        return sorted(zip(pages, scores, strict=True), key=lambda hit: -hit[1])


class _Clock:
    """Milliseconds since the last lap, by name."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round(1000 * (now - self._last), 2)
        self._last = now


def _write(index, name: str, ids: Sequence[str], vectors: Mapping[str, np.ndarray]):
    """A table of ids and, for each name, a column of vectors (n, d)."""
    columns = {"page": pa.array(ids)}
    for column, rows in vectors.items():
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        columns[column] = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    return index.create_table(name, pa.table(columns), mode="overwrite")


def _nearest(table, column: str, vector: np.ndarray, count: int) -> list[tuple[str, float]]:
    """Ids and cosines of the nearest rows, best first; LanceDB's dot distance is one minus the product."""
    query = table.search(vector, vector_column_name=column).distance_type("dot").limit(count)
    rows = query.select(["page", "_distance"]).to_arrow()
    return [
        (page, 1 - distance)
        for page, distance in zip(rows["page"].to_pylist(), rows["_distance"].to_pylist(), strict=True)
    ]


def unit(vectors) -> np.ndarray:
    """Vectors (d,) or (n, d) as float32 of length one."""
    vectors = np.asarray(vectors, dtype=np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
