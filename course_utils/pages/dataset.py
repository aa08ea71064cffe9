"""The course's data set on disk: page images, triplets in the published schema, a side table, judgements."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.machine import cores
from course_utils.pages.drawing import draw_page, possible_forms
from course_utils.pages.facts import pages, wordings
from course_utils.pages.layouts import COURSE
from course_utils.pages.queries import query
from course_utils.pages.splits import Splits, splits

SCANS = 0.25
UNSEEN_PER_TOPIC = 2
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Sheet:
    """One line of the side table: what a page image shows and how it was drawn."""

    page_id: str
    split: str
    country: str
    topic: str
    form: str
    layout: str
    scan: bool
    unseen_country: bool


def sheets(parts: Splits) -> list[Sheet]:
    """All pages of train, dev and test. Forms are kept even: each page takes the least used that suits it."""
    made = []
    for split in SPLITS:
        used: dict[str, int] = {}
        rows = getattr(parts, split)
        ids = [row.positive for row in rows] + sorted(parts.page_ids(split) - {row.positive for row in rows})
        for page_id in ids:
            page, rng = pages()[page_id], random.Random(f"sheet-{page_id}")
            form = min(possible_forms(page), key=lambda form: (used.get(form, 0), form))
            used[form] = used.get(form, 0) + 1
            layout = rng.choice(COURSE).name
            unseen = page.country.code in parts.unseen_countries
            made.append(
                Sheet(page_id, split, page.country.name, page.topic, form, layout, rng.random() < SCANS, unseen)
            )
    return made


def _draw(job: tuple[Sheet, Path]) -> str:
    """Draw one page into the folder and return its text layer."""
    sheet, folder = job
    layout = next(layout for layout in COURSE if layout.name == sheet.layout)
    drawn = draw_page(pages()[sheet.page_id], layout, "course", sheet.form, sheet.scan)
    path = folder / image_name(sheet)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    drawn.image.save(temporary, **({"quality": 88} if sheet.scan else {"optimize": False}))
    temporary.replace(path)
    return drawn.text


def image_name(sheet: Sheet) -> str:
    """A clean page is a PNG, a scan a grey JPEG."""
    return f"{sheet.page_id}.{'jpg' if sheet.scan else 'png'}"


def cache_key() -> str:
    """Changes with every figure, wording, font or line of code that decides what a page or a query is."""
    digest = hashlib.sha256()
    code = Path(__file__).parent
    sources = [code / f"{name}.py" for name in ("facts", "layouts", "pages", "queries", "splits", "documents")]
    data = [paths.DATA / name for name in ("factbook_facts.csv", "factbook_countries.csv", "wordings.json")]
    for path in (*sources, *data, *sorted((paths.DATA / "fonts").glob("*.?tf"))):
        if not path.exists():
            raise CourseError(f"data/{path.name} is missing: restore it with `git checkout data`.")
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Documents:
    """Where the data set lies: `images/`, and one parquet file for each table."""

    folder: Path

    @property
    def train(self) -> str:
        """Parquet file: query, image, negative_0 … negative_3 (paths of images)."""
        return str(self.folder / "train.parquet")

    @property
    def dev(self) -> str:
        return str(self.folder / "dev.parquet")

    @property
    def test(self) -> str:
        return str(self.folder / "test.parquet")

    @property
    def unseen(self) -> str:
        """Parquet file: query, image; queries over the test pages in words that no training used."""
        return str(self.folder / "unseen.parquet")

    def side_table(self) -> pd.DataFrame:
        """One row a page, indexed by image path: page_id, split, country, topic, form, layout, scan, unseen_country, text."""
        return pd.read_parquet(self.folder / "pages.parquet").set_index("image")


def _rows(parts: Splits, split: str, by_id: dict[str, Sheet], folder: Path) -> pd.DataFrame:
    """One row a query in the published schema."""
    rows = []
    for row in getattr(parts, split):
        rng = random.Random(f"query-{row.positive}")
        asked = query(pages()[row.positive], by_id[row.positive].form, "course", rng)
        images = [str(folder / "images" / image_name(by_id[page])) for page in (row.positive, *row.negatives)]
        rows.append(
            {"query": asked, "image": images[0], **{f"negative_{k}": path for k, path in enumerate(images[1:])}}
        )
    return pd.DataFrame(rows)


def _unseen(by_id: dict[str, Sheet], folder: Path) -> pd.DataFrame:
    """Two queries a topic over test pages, in phrases that share no content word with any other wording."""
    rows = []
    for topic, phrases in wordings().items():
        found = sorted(s.page_id for s in by_id.values() if s.split == "test" and s.topic == topic)
        rng = random.Random(f"unseen-{topic}")
        for page_id in rng.sample(found, min(UNSEEN_PER_TOPIC, len(found))) if phrases["unseen"] else ():
            asked = query(pages()[page_id], by_id[page_id].form, "unseen", rng)
            rows.append({"query": asked, "image": str(folder / "images" / image_name(by_id[page_id]))})
    return pd.DataFrame(rows)


def build_documents(cache: Path | None = None) -> Documents:
    """Draw what is not drawn yet (about two minutes the first time, on two cores) and return where it lies.

    Images are moved into place whole, and `complete.json` notes the size of each as the drawing goes on; its last
    line of work is to name the folder. Until then, or where a file has another size, the folder is mended: what is
    whole is kept, the rest drawn again. Drawings of earlier versions of the data are removed.
    """
    folder = (cache or paths.CACHE) / f"documents-{cache_key()}"
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    done = folder / "complete.json"
    parts = splits()
    everything = sheets(parts)
    record = _read_record(done)
    sizes, texts = record.get("sizes", {}), record.get("texts", {})
    todo = [
        s for s in everything if s.page_id not in texts or not _is_whole(images / image_name(s), sizes.get(s.page_id))
    ]
    tables_whole = all(_is_whole(folder / f"{name}.parquet", sizes.get(name)) for name in (*SPLITS, "unseen", "pages"))
    if record.get("folder") == str(folder) and tables_whole and not todo:
        return Documents(folder)
    if todo:
        with ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool:
            drawn = pool.map(_draw, [(sheet, images) for sheet in todo], chunksize=32)
            progress = tqdm(drawn, "drawing pages", len(todo), unit="page")
            for k, (sheet, text) in enumerate(zip(todo, progress, strict=True)):
                texts[sheet.page_id] = text
                sizes[sheet.page_id] = (images / image_name(sheet)).stat().st_size
                if k % 256 == 255:
                    atomic_write(done, json.dumps({"sizes": sizes, "texts": texts}))
    by_id = {sheet.page_id: sheet for sheet in everything}
    side = pd.DataFrame(
        [asdict(s) | {"text": texts[s.page_id], "image": str(images / image_name(s))} for s in everything]
    )
    tables = {split: _rows(parts, split, by_id, folder) for split in SPLITS}
    tables |= {"unseen": _unseen(by_id, folder), "pages": side}
    for name, table in tables.items():
        sizes[name] = atomic_write(folder / f"{name}.parquet", table.to_parquet(index=False)).stat().st_size
    atomic_write(done, json.dumps({"folder": str(folder), "sizes": sizes, "texts": texts}))
    for older in folder.parent.glob("documents-*"):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    return Documents(folder)


def _read_record(path: Path) -> dict:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_whole(path: Path, size: int | None) -> bool:
    return size is not None and path.exists() and path.stat().st_size == size
