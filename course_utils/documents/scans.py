"""OCR for the pages that have no text layer."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from course_utils.files import atomic_write

MOST = 500  # pages in one go: OCR is the slowest part


def read_scans(pages: pd.DataFrame, ocr: Callable, most: int = MOST) -> tuple[pd.DataFrame, int]:
    """`pages` with the text that `ocr` reads on scans, and how many scans are left unread.

    ocr: a RapidOCR engine, or what takes a file and returns an object with `txts`. What was read before lies beside
    the page's image and is not read again.
    """
    pages, left = pages.copy(), 0
    for page in tqdm(pages.index[pages["scan"]], "reading scans", unit="page"):
        image = Path(pages.at[page, "image"])
        kept = image.with_suffix(".txt")
        if not kept.exists():
            if most <= 0:
                left += 1
                continue
            most -= 1
            found = ocr(str(image.with_name(f"{image.stem}-ocr.png")))
            atomic_write(kept, " ".join(found.txts or ()))
        pages.at[page, "text"] = kept.read_text(encoding="utf-8")
    return pages, left
