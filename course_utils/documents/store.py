"""A collection that is searched: vectors beside each document's images, and an engine that follows its folder."""

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from course_utils import paths
from course_utils.checkpoints import checkpoint, fingerprint
from course_utils.documents.reading import read_folder
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256
from course_utils.machine import device
from course_utils.profiles import load_profile

if TYPE_CHECKING:
    from course_utils.search import Engine

LESSON = "12_your_own_documents"
MANUAL = paths.DATA / "manual"


def embed_pages(pages: pd.DataFrame, name: str, encode: Callable) -> tuple[np.ndarray, int]:
    """Vectors (n, d) of all pages, float32, and how many pages were embedded now.

    Each document's vectors are kept beside its images, under `name`; documents that have them are not embedded again.
    encode takes a list of image files. Name the model and all that changes its vectors.
    """
    parts, embedded = [], 0
    for _, rows in pages.groupby("document", sort=False):
        file = Path(rows["image"].iloc[0]).with_name(f"{name}.npy")
        vectors = None
        with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or not whole
            vectors = np.load(file)
        if vectors is None or len(vectors) != len(rows):
            vectors, embedded = np.asarray(encode(rows["image"].tolist()), dtype=np.float32), embedded + len(rows)
            content = io.BytesIO()
            np.save(content, vectors)
            atomic_write(file, content.getvalue())
        parts.append(vectors)
    return np.concatenate(parts), embedded


def mark(model: str) -> str:
    """A short name for the vectors of a model: a hash of its weights, or of a checkpoint's name or files."""
    weights = sorted(Path(model).rglob("*.safetensors"))
    return sha256(weights[0])[:12] if weights else fingerprint(model)


def save_collection(folder: Path, **facts: str | int) -> Path:
    """Write `collection.json`: pdfs (their folder), pixels, profile, model and text_model (a folder or name)."""
    return atomic_write(Path(folder) / "collection.json", json.dumps(facts, indent=1))


def load_collection(name: str | Path) -> tuple["Engine", int]:
    """The search of a collection that lesson 12 saved, by name or folder, and how many pages were embedded for it.

    The folder of PDFs is read anew: a PDF that was added is embedded, one that was removed is gone from images, vectors
    and index. Scans are found by the page model. Raises CourseError if there is no such collection.
    """
    folder = Path(name) if isinstance(name, Path) else paths.BUILD / LESSON / name
    try:
        facts = json.loads((folder / "collection.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise CourseError(f"There is no collection {name}: run `course run 12`, which saves what it made.") from None
    from sentence_transformers import SentenceTransformer  # takes seconds, and reading PDFs does without

    from course_utils.corpus import Corpus
    from course_utils.search import Engine
    from course_utils.search.engine import unit
    from course_utils.search.load import asker, lazy_model

    profile = load_profile(facts["profile"])
    pages = read_folder(facts["pdfs"], folder / "pages", facts["pixels"]).pages
    models = {"before": profile.embedder} | ({"after": facts["model"]} if facts["model"] else {})
    embed = {when: asker(lazy_model(profile, name)) for when, name in models.items()}
    vectors, embedded = {}, 0
    for when, name in models.items():
        vectors[when], count = embed_pages(pages, mark(name), lambda images, ask=embed[when]: unit(ask(images)))
        embedded = max(embedded, count)
    texts = pages["text"][pages["text"] != ""]
    reader = SentenceTransformer(facts["text_model"] or checkpoint(profile.text_tower), device=device())
    shutil.rmtree(folder / "index", ignore_errors=True)  # old versions of a table would keep removed pages
    ids = list(pages.index)
    engine = Engine(
        folder=folder / "index",
        corpus=Corpus({}, dict(pages["image"]), {}, dict(pages["image"])),
        pages=vectors,
        embed=embed,
        texts=(list(texts.index), unit(reader.encode(texts.tolist())), reader.encode) if len(texts) else None,
        titles={page: f"{pages.at[page, 'file']}, page {pages.at[page, 'page']}" for page in ids},
    )
    return engine, embedded
