"""The course's data set on disk: page images and triplets, laid out as a published data set that `datasets` loads."""

import hashlib
import json
import multiprocessing
import random
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.machine import cores
from course_utils.pages.drawing import Drawn, draw_page, possible_forms
from course_utils.pages.facts import pages, wordings
from course_utils.pages.layouts import COURSE
from course_utils.pages.queries import query
from course_utils.pages.splits import splits

SCANS = 0.25
PER_TOPIC = {"unseen": 2, "natural": 4}  # queries over test pages in words of no training
SPLITS = ("train", "dev", "test")
CONFIGS = {"train": "train", "dev": "dev", "eval": "test"} | {kind: kind for kind in PER_TOPIC}  # published names first
MAX_PROCESSES = 61  # Windows allows no more
WAIT = 1800  # seconds that one process waits for another to draw
VERSION_FILE = paths.DATA / "version.json"


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

    @property
    def file(self) -> str:
        """The image's path in the data set: a PNG, a scan a grey JPEG."""
        return f"images/{self.page_id}.{'jpg' if self.scan else 'png'}"

    def draw(self) -> Drawn:
        """The page as the course shows it: 448 x 576 pixels, RGB, a scan grey."""
        layout = next(layout for layout in COURSE if layout.name == self.layout)
        return draw_page(pages()[self.page_id], layout, "course", self.form, self.scan)


def sheets() -> dict[str, Sheet]:
    """All pages of train, dev and test by id. Forms are kept even: each page takes the least used that suits it."""
    parts, made = splits(), {}
    for split in SPLITS:
        used: dict[str, int] = {}
        positives = [row.positive for row in getattr(parts, split)]
        for page_id in positives + sorted(parts.page_ids(split) - set(positives)):
            page, rng = pages()[page_id], random.Random(f"sheet-{page_id}")
            form = min(possible_forms(page), key=lambda form: (used.get(form, 0), form))
            used[form] = used.get(form, 0) + 1
            layout = rng.choice(COURSE).name
            unseen = page.country.code in parts.unseen_countries
            scan = rng.random() < SCANS
            made[page_id] = Sheet(page_id, split, page.country.name, page.topic, form, layout, scan, unseen)
    return made


def rows(split: str, drawn: dict[str, Sheet]) -> pd.DataFrame:
    """The rows of train, dev or test (query, image, negative_0 … negative_3), unseen or natural (query, image).

    Images are page ids.
    """
    if split in PER_TOPIC:
        return _reworded(split, drawn)
    made = []
    for row in getattr(splits(), split):
        rng = random.Random(f"query-{row.positive}")
        asked = query(pages()[row.positive], drawn[row.positive].form, "course", rng)
        negatives = {f"negative_{k}": page for k, page in enumerate(row.negatives)}
        made.append({"query": asked, "image": row.positive} | negatives)
    return pd.DataFrame(made)


def _reworded(kind: str, drawn: dict[str, Sheet]) -> pd.DataFrame:
    """A few queries a topic over test pages, in phrases that share no content word with any wording of a training."""
    made = []
    for topic, phrases in wordings().items():
        found = sorted(sheet.page_id for sheet in drawn.values() if sheet.split == "test" and sheet.topic == topic)
        rng = random.Random(f"{kind}-{topic}")
        for page_id in rng.sample(found, min(PER_TOPIC[kind], len(found))) if phrases[kind] else ():
            made.append({"query": query(pages()[page_id], drawn[page_id].form, kind, rng), "image": page_id})
    return pd.DataFrame(made)


def data_version() -> int:
    """The version of what is drawn; a maintainer raises it whenever pages or queries change."""
    return json.loads(VERSION_FILE.read_text(encoding="utf-8"))["version"]


def pages_folder(cache: Path | None = None) -> Path:
    """The folder of this version's data set, drawn or not."""
    return (cache or paths.CACHE) / f"factbook-{data_version()}"


def build_pages(cache: Path | None = None) -> Path:
    """Draw the data set (about two minutes, on two cores) unless it is there, and return its folder.

    The folder has the version in its name and `complete.json`, written last, with the size of each file. Where that
    is missing or a file has another size, all is drawn again. One process draws, others wait for it; CourseError
    after half an hour. Folders of earlier versions are removed.
    """
    folder = pages_folder(cache)
    if not is_whole(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder.with_suffix(".lock"), timeout=WAIT):
                if not is_whole(folder):
                    _build(folder)
        except Timeout:
            raise CourseError(
                "Another process has been drawing pages for half an hour: stop it, then try again."
            ) from None
    _write_card(folder)
    return folder


def _build(folder: Path) -> None:
    for older in (path for path in folder.parent.glob("factbook-*") if path.is_dir()):
        shutil.rmtree(older)
    (folder / "images").mkdir(parents=True)
    drawn = sheets()
    with ProcessPoolExecutor(min(cores(), MAX_PROCESSES), multiprocessing.get_context("spawn")) as pool:
        texts = pool.map(_draw, drawn.values(), [folder] * len(drawn), chunksize=32)
        texts = list(tqdm(texts, "drawing pages", len(drawn), unit="page"))
    side = pd.DataFrame([asdict(sheet) | {"file": sheet.file} for sheet in drawn.values()]).assign(text=texts)
    side.to_parquet(folder / "pages.parquet", index=False)
    for config, split in CONFIGS.items():
        table = rows(split, drawn)
        for column in table.columns.drop("query"):
            table[column] = [drawn[page].file for page in table[column]]
        named = table.rename(columns=lambda name: name if name == "query" else f"{name}_file_name")
        atomic_write(folder / f"{config}.jsonl", named.to_json(orient="records", lines=True, force_ascii=False))
    files = ["pages.parquet", *(f"{config}.jsonl" for config in CONFIGS), *(sheet.file for sheet in drawn.values())]
    atomic_write(folder / "complete.json", json.dumps({file: (folder / file).stat().st_size for file in files}))


def _draw(sheet: Sheet, folder: Path) -> str:
    """Draw one page into the folder and return its text layer."""
    drawn = sheet.draw()
    drawn.image.save(folder / sheet.file, **({"quality": 88} if sheet.scan else {"optimize": False}))
    return drawn.text


def is_whole(folder: Path) -> bool:
    """True where every file that `complete.json` lists is there with its size."""
    try:
        sizes = json.loads((folder / "complete.json").read_text(encoding="utf-8"))
        return all((folder / file).stat().st_size == size for file, size in sizes.items())
    except (OSError, ValueError):
        return False


def _write_card(folder: Path) -> None:
    """The card that names the configurations, which `datasets` reads as a folder of images with metadata.

    `datasets` keeps its copy of a data set by the card's content, not by its place, and that copy has the images'
    full paths. The description tells apart folders at different places and tables of different content.
    """
    tables = b"".join((folder / f"{config}.jsonl").read_bytes() for config in CONFIGS)
    mark = hashlib.sha256(str(folder.resolve()).encode() + tables).hexdigest()[:16]
    samples = sorted(path.name for path in (folder / "images").glob("*.png"))[:2]
    card = "---\nconfigs:\n"
    for config in CONFIGS:
        # two images beside the table tell the loader that this is a folder of images
        files = ", ".join([f"{config}.jsonl", *(f"images/{name}" for name in samples)])
        card += f"- config_name: {config}\n  description: {mark}\n  metadata_filenames: [{config}.jsonl]\n"
        card += f"  data_files:\n  - split: train\n    path: [{files}]\n"
    card += "---\nPages drawn from the World Factbook (2015) for the course; see data/README.md.\n"
    path = folder / "README.md"
    if not path.exists() or path.read_text(encoding="utf-8") != card:
        atomic_write(path, card)
