"""General pages, drawn once at the size the model sees, with the place of every word."""

import json
import random
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from course_utils.files import atomic_write
from course_utils.machine import cores
from course_utils.pages.build import pages_folder
from course_utils.pages.drawing import draw_page
from course_utils.pages.facts import pages
from course_utils.pages.layouts import general_layout
from course_utils.pages.splits import splits

GRID_ROWS, GRID_COLUMNS = 9, 7  # cells of 32 x 32 px: one image token each
SCANS = 0.4
HEIGHT, WIDTH = 32 * GRID_ROWS, 32 * GRID_COLUMNS


def _draw(job: tuple[str, int, int, int]) -> tuple[np.ndarray, list, str]:
    page_id, variant, width, height = job
    seed = f"general-{variant}"
    rng = random.Random(f"{page_id}-{seed}")
    drawn = draw_page(pages()[page_id], general_layout(rng.getrandbits(40)), seed, scanned=rng.random() < SCANS)
    small = drawn.image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    wide, high = width / drawn.image.width, height / drawn.image.height
    words = [(word, [x0 * wide, y0 * high, x1 * wide, y1 * high]) for word, (x0, y0, x1, y1) in drawn.words]
    return np.asarray(small), words, drawn.form


class GeneralPages:
    """`variants` drawings of every general page (or of `ids`): `images` (n, `height`, `width`, 3) uint8, and for each its
    `words`, `forms` and `pages`."""

    def __init__(
        self, folder: Path, variants: int, ids: tuple[str, ...] | None = None, width: int = WIDTH, height: int = HEIGHT
    ):
        ids = splits().general if ids is None else ids
        jobs = [(page_id, variant, width, height) for variant in range(variants) for page_id in ids]
        self.pages = [pages()[page_id] for page_id, *_ in jobs]
        name = f"{pages_folder().name}-{width}x{height}-{len(jobs)}"
        done, raw, notes = (folder / f"{name}.{ending}" for ending in ("done", "raw", "json"))
        shape = (len(jobs), height, width, 3)
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            images = np.memmap(raw, np.uint8, "w+", shape=shape)
            words, forms = [], []
            with ProcessPoolExecutor(cores()) as pool:
                drawn = pool.map(_draw, jobs, chunksize=64)
                for k, (image, found, form) in enumerate(
                    tqdm(drawn, "drawing general pages", len(jobs), mininterval=10)
                ):
                    images[k] = image
                    words.append(found)
                    forms.append(form)
            images.flush()
            atomic_write(notes, json.dumps([words, forms]))
            atomic_write(done, "")
        self.images = np.memmap(raw, np.uint8, "c", shape=shape)
        self.words, self.forms = json.loads(notes.read_text(encoding="utf-8"))
