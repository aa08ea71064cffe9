"""What an evaluator asks for, made from triplet rows: queries, pages each once, merged judgements."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
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
        page = self.corpus[page_id]
        return page if isinstance(page, Image.Image) else Image.open(page)

    def ask(self, rows: datasets.Dataset) -> "Corpus":
        """The same pages under other queries: `rows` have `query` and `image`, the file of one of the pages."""
        ids = {path: page for page, path in self.paths.items()}
        pages = [ids[page] for page in undecoded(rows)["image"]]
        queries = {f"q{k}": query for k, query in enumerate(rows["query"])}
        return Corpus(queries, self.corpus, {f"q{k}": {page} for k, page in enumerate(pages)}, self.paths)


def undecoded(rows: datasets.Dataset) -> dict[str, list]:
    """The columns of `rows` as lists, no image decoded: the path of an image that is a file, else its bytes."""
    images = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    for name in images:
        rows = rows.cast_column(name, datasets.Image(decode=False))
    columns = rows.with_format(None)[:]
    return columns | {name: [cell["bytes"] or cell["path"] for cell in columns[name]] for name in images}


def build_corpus(rows: datasets.Dataset) -> Corpus:
    """A corpus of all pages of `rows` (query, image, negative_0 …), a page that appears twice kept once.

    A page is a path where it is a file, and an image that is decoded on first use where it came as bytes. Files have
    their names as ids, so `q0` asks for a page like `kr-current-account`; others are called by row and column.
    """
    columns = undecoded(rows)
    names = [name for name in columns if name == "image" or name.startswith("negative_")]
    pages, relevant = {}, {}
    for k in range(len(rows)):
        for name in names:
            page = columns[name][k]
            page_id = Path(page).stem if isinstance(page, str) else f"p{k}-{name}"
            pages[page_id] = page
            if name == "image":
                relevant[f"q{k}"] = {page_id}
    kept = deduplicate_by_content(pages.values(), pages)
    paths = {page_id: page for page_id in dict.fromkeys(kept.values()) if isinstance(page := pages[page_id], str)}
    corpus = {page_id: paths.get(page_id) or _open(pages[page_id]) for page_id in dict.fromkeys(kept.values())}
    queries = {f"q{k}": query for k, query in enumerate(columns["query"])}
    return Corpus(queries, corpus, merge_judgements(relevant, kept), paths)


def first_images(rows: datasets.Dataset, count: int) -> list[Image.Image]:
    """The first `count` positive pages of `rows`, as PIL images."""
    return [_open(page) for page in undecoded(rows.select(range(count)).select_columns("image"))["image"]]


def _open(page: str | bytes) -> Image.Image:
    return Image.open(page if isinstance(page, str) else io.BytesIO(page))
