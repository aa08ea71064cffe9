"""What an evaluator asks for, made from triplet rows: queries, pages each once, merged judgements."""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from course_utils.evaluation import deduplicate_by_content, merge_judgements


@dataclass(frozen=True)
class Corpus:
    """`queries` id to text, `corpus` id to page (a path or an image), `relevant` query id to page ids.

    `paths` maps page ids to image paths where pages are files.
    """

    queries: dict[str, str]
    corpus: dict[str, Any]
    relevant: dict[str, set[str]]
    paths: dict[str, str] = field(default_factory=dict)

    def image(self, page_id: str) -> Image.Image:
        """The page as a PIL image."""
        return _open(self.corpus[page_id])

    def ask(self, rows) -> "Corpus":
        """The same pages under other queries: `rows` have `query` and `image`, a path of one of the pages."""
        ids = {path: page for page, path in self.paths.items()}
        queries = {f"q{k}": row["query"] for k, row in enumerate(rows)}
        return Corpus(queries, self.corpus, {f"q{k}": {ids[row["image"]]} for k, row in enumerate(rows)}, self.paths)


def _open(page: Any) -> Image.Image:
    return page if isinstance(page, Image.Image) else Image.open(page)


def _content(page: Any) -> str:
    """Hex hash of a page's file, or of an image's pixels."""
    if isinstance(page, str):
        return hashlib.sha256(Path(page).read_bytes()).hexdigest()
    buffer = io.BytesIO()
    page.convert("RGB").save(buffer, "BMP")
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def build_corpus(rows) -> Corpus:
    """A corpus of all pages of `rows` (query, image, negative_0 …), a page that appears twice kept once."""
    columns = [name for name in rows.column_names if name == "image" or name.startswith("negative_")]
    pages, queries, relevant = {}, {}, {}
    for k, row in enumerate(rows):
        for column in columns:
            page = row[column]
            pages[Path(page).stem if isinstance(page, str) else f"p{k}-{column}"] = page
        positive = row["image"]
        queries[f"q{k}"] = row["query"]
        relevant[f"q{k}"] = {Path(positive).stem if isinstance(positive, str) else f"p{k}-image"}
    kept = deduplicate_by_content([_content(page) for page in pages.values()], list(pages))
    corpus = {page_id: pages[page_id] for page_id in dict.fromkeys(kept.values())}
    paths = {page_id: page for page_id, page in corpus.items() if isinstance(page, str)}
    return Corpus(queries, corpus, merge_judgements(relevant, kept), paths)


def first_images(rows, count: int) -> list[Image.Image]:
    """The first `count` positive pages of `rows`, as PIL images."""
    return [_open(row["image"]) for row in rows.select(range(count))]
