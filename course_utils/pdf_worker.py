"""Reads PDFs in a process of its own, so that a file that crashes, hangs or swells takes nothing else with it.

Only `documents.reading` starts it; it imports little, since its memory is limited. A PDF is foreign input for a large C++ library: the parent watches the time, and the system
the memory.
"""

import contextlib
import errno
import json
import re
import sys
import unicodedata
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path

import numpy as np
import pypdfium2 as pdfium
from PIL import Image
from pypdfium2 import raw

MEMORY = 3 * 2**30  # bytes of address space, where the system can limit it
MAX_PAGES = 2000  # of a document
MAX_TEXT = 20_000  # characters of a page
MAX_TITLES = 5000  # outline entries of a document
MIN_LETTERS = 30  # fewer on a page, and it counts as a scan
LONGEST = 1600  # px, of a page for OCR
FLAT = 2.0  # spread of grey values under which a page without text is empty
POINTS = 20 * 72  # a side above it is huge: 20 inches
RATIO = 20  # of the sides; models refuse longer strips

PASSWORD = "needs a password: save a copy without one, then put that in its place."
DAMAGED = "is damaged, or no PDF: open it in a viewer and print it to a new PDF."


def main() -> None:
    """Answer jobs, one a line of JSON (file, first page, folder, pixels), until there are no more.

    An answer is a line (kind, page number, more); the last of a job has the kind "done", or "full" where the disk is.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))

    def send(*answer) -> None:
        print(json.dumps(answer), flush=True)

    for job in sys.stdin:
        _document(send, *json.loads(job))


def _document(send: Callable, file: str, first: int, folder: str, pixels: int) -> None:
    try:
        document = pdfium.PdfDocument(file)
        count = len(document)
    except pdfium.PdfiumError as error:
        locked = error.err_code in (raw.FPDF_ERR_PASSWORD, raw.FPDF_ERR_SECURITY)
        send("refused", 0, PASSWORD if locked else DAMAGED)
        return send("done", 0)
    except OSError:
        send("refused", 0, "cannot be read: check that it is there and that you may read it.")
        return send("done", 0)
    if not count:
        send("refused", 0, "has no pages.")
    if count > MAX_PAGES and first == 1:
        send("refused", 0, f"claims {count:,} pages: only the first {MAX_PAGES:,} are read. Split it.")
    titles, chapters = _outline(document)
    for number in range(first, min(count, MAX_PAGES) + 1):
        send("next", number)
        try:
            note, page = _page(document, number, Path(folder), pixels)
        except (pdfium.PdfiumError, MemoryError, ValueError, OSError) as error:
            if getattr(error, "errno", None) == errno.ENOSPC:
                return send("full", number)
            what = "is too large for the memory" if isinstance(error, MemoryError) else "is damaged"
            send("refused", number, f"{what}, so it is left out.")
            continue
        if note:
            send("noted" if page else "refused", number, note)
        if page:
            page["titles"] = titles.get(number, [])
            page["chapter"] = max((start for start in chapters if start <= number), default=0)
            send("page", number, page)
    document.close()
    send("done", count)


def _outline(document: pdfium.PdfDocument) -> tuple[dict[int, list[str]], list[int]]:
    """The outline's titles by page number, and the pages on which its top entries start."""
    titles, chapters = {}, []
    try:
        for k, entry in enumerate(document.get_toc(max_depth=4)):
            target = entry.get_dest()
            if k >= MAX_TITLES or target is None or target.get_index() is None:
                continue
            number = target.get_index() + 1
            titles.setdefault(number, []).append(_clean(entry.get_title())[:200])
            if entry.level == 0:
                chapters.append(number)
    except (pdfium.PdfiumError, ValueError):
        return {}, []
    return titles, chapters


def _page(document, number: int, folder: Path, pixels: int) -> tuple[str, dict | None]:
    """A note on the page ("" for none), and what is kept of it; nothing of an empty page or a strip."""
    page = document[number - 1]
    width, height = page.get_size()  # in points, turned as the page says
    if min(width, height) < 1 or max(width, height) > RATIO * min(width, height):
        return f"is a strip of {width:.0f} x {height:.0f} points, so it is left out.", None
    text, heading = _text(page)
    image = _render(page, (pixels / (width * height)) ** 0.5)
    letters = sum(letter.isalpha() for letter in text)
    strange = sum(unicodedata.category(letter) in ("Cc", "Cn", "Co") or letter == "\ufffd" for letter in text)
    layer = letters >= MIN_LETTERS and strange < 0.1 * len(text)
    if not letters and np.asarray(image.convert("L").resize((64, 64)), float).std() < FLAT:
        return "is empty, so it is left out.", None
    name = f"p{number:04d}"
    image.save(folder / f"{name}.png", compress_level=1)
    if not layer:  # OCR needs more pixels than the model
        pictures = [max(part.get_px_size()) for part in page.get_objects([raw.FPDF_PAGEOBJ_IMAGE], max_depth=3)]
        longest = min(LONGEST, max(max(pictures, default=LONGEST), *image.size))
        _render(page, longest / max(width, height)).convert("L").save(folder / f"{name}-ocr.png", compress_level=1)
    notes = [f"is turned by {page.get_rotation()}°"] if page.get_rotation() else []
    if max(width, height) > POINTS:
        notes.append(f"is huge ({width / 72:.0f} x {height / 72:.0f} inches)")
    if letters and not layer:
        notes.append("has a text layer of few or strange letters, so OCR reads it")
    page.close()
    kept = {"width": width, "height": height, "text": text if layer else "", "heading": heading if layer else ""}
    return f"{' and '.join(notes)}." if notes else "", kept | {"scan": not layer}


def _render(page, scale: float) -> Image.Image:
    bitmap = page.render(scale=scale)
    image = bitmap.to_pil().convert("RGB")
    bitmap.close()
    return image


def _text(page) -> tuple[str, str]:
    """The page's text, and its heading: the first lines that stand clearly taller than most, "" where none does."""
    layer = page.get_textpage()
    text = layer.get_text_range()[:MAX_TEXT] if layer.count_chars() else ""
    box, lines, at = raw.FS_RECTF(), [], 0
    for line in text.splitlines(keepends=True)[:300]:
        start = at + len(line) - len(line.lstrip())
        at += len(line)
        if line.strip() and raw.FPDFText_GetLooseCharBox(layer, min(start, layer.count_chars() - 1), box):
            lines.append((_clean(line), box.top - box.bottom))
    layer.close()
    usual = float(np.median([height for line, height in lines for _ in line])) if lines else 0.0
    tall = [height > 1.15 * usual and len(line) > 3 for line, height in lines]
    first = tall.index(True) if True in tall else len(lines)
    heading = " ".join(line for line, _ in takewhile(lambda line: line[1] > 1.15 * usual, lines[first : first + 3]))
    return re.sub(r"[^\S\n]+", " ", text.replace("\r", "")).strip(), heading[:200]


def _clean(words: str) -> str:
    """Printable, on one line."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())


if __name__ == "__main__":
    main()
