"""From a folder of PDFs to pages: an image and the text of each, and a sentence for all that could not be read."""

import contextlib
import errno
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from course_utils import paths, pdf_worker
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256
from course_utils.pdf_worker import DAMAGED

VERSION = 1  # of what is kept of a page; another one reads everything again
PAGE_SECONDS = 30  # for one page
START_SECONDS = 60  # for the reader to start and open a file
FILE_SECONDS = 900  # for one file
RESTARTS = 3  # of the worker, for one file
MAX_BYTES = 2**30  # of a file
SLOW = "takes too long"
COMMAND = [sys.executable, "-I", pdf_worker.__file__]  # alone: what else loads at its start takes of its memory
COLUMNS = ("document", "file", "page", "image", "width", "height", "scan", "text", "titles", "heading", "chapter")


@dataclass(frozen=True)
class Reading:
    """`pages` has a row for each page, indexed by page id ("name-p0012"); `notes` one for each sentence.

    pages: document (the id's first part), file (relative to the folder), page (from 1), image (path), width and
    height (points), scan (no text layer), text, titles (of the outline, that point here), heading, chapter (the page
    on which the outline's top entry starts, 0 for none). notes: file, page ("" for the whole file), refused (left
    out, where False is a remark) and what (a sentence).
    """

    pages: pd.DataFrame
    notes: pd.DataFrame


def read_folder(folder: str | Path, cache: str | Path, pixels: int, page_seconds: float = PAGE_SECONDS) -> Reading:
    """Read all PDFs in `folder` and below; each page is drawn with `pixels` pixels into `cache`.

    `cache` has a folder for each document. A file is known by its content: what is there is not read again, and the
    folder of a document that is no longer in `folder` is removed, with all that others wrote there. Each file is read
    in a worker process, with limits of time and memory. Raises CourseError if the folder is missing, has no PDF, or no
    page could be read, OSError if the disk is full.
    """
    folder, cache = Path(folder).expanduser(), Path(cache)
    files, notes = find_pdfs(folder)
    cache.mkdir(parents=True, exist_ok=True)
    known, names, records = {}, set(), []
    with _Worker(page_seconds) as worker:
        for file in tqdm(files, "reading PDFs", unit="file"):
            name = file.relative_to(folder).as_posix()
            key, refused = _key(file, pixels)
            if refused or key in known:
                notes.append((name, "", True, refused or f"is the same file as {known[key]}, which is read."))
                continue
            known[key], document = name, slug(file.relative_to(folder).with_suffix("").as_posix())
            document = document if document not in names else f"{document}-{key[:6]}"
            names.add(document)
            record = _stored(cache / document, key) or worker.read(file, cache / document, key, pixels)
            records.append((document, name, record))
    for left in {path for path in cache.iterdir() if path.is_dir()} - {cache / name for name in names}:
        shutil.rmtree(left)
    rows = [
        [
            document,
            name,
            page["page"],
            str(cache / document / f"p{page['page']:04d}.png"),
            *(page[c] for c in COLUMNS[4:]),
        ]
        for document, name, record in records
        for page in record["pages"]
    ]
    if not rows:
        raise CourseError(f"No page in {folder} could be read. The first reason: {_first_reason(records, notes)}")
    ids = [f"{row[0]}-p{row[2]:04d}" for row in rows]
    notes += [(name, *note) for _, name, record in records for note in record["notes"]]
    return Reading(
        pd.DataFrame(rows, index=pd.Index(ids, name="id"), columns=COLUMNS),
        pd.DataFrame(notes, columns=["file", "page", "refused", "what"]),
    )


def _first_reason(records: list, notes: list) -> str:
    notes = [(name, *note) for _, name, record in records for note in record["notes"]] + notes
    return f"{notes[0][0]} {notes[0][-1]}" if notes else "there is nothing on them."


def find_pdfs(folder: Path) -> tuple[list[Path], list[tuple]]:
    """The files that are PDFs by name or by content, in order, and a note for every other file."""
    if not folder.is_dir():
        raise CourseError(f"There is no folder {folder}: set FOLDER to a folder of PDFs, or leave it empty.")
    found, notes = [], []
    for file in sorted(path for path in folder.rglob("*") if not path.is_dir() or path.suffix.lower() == ".pdf"):
        if file.name.startswith(".") or file.name in ("queries.csv", "log.csv", "judgements.csv"):
            continue
        if file.suffix.lower() == ".pdf" or _starts_as_pdf(file):
            found.append(file)
        else:
            notes.append((file.relative_to(folder).as_posix(), "", True, "is no PDF, so it is not read."))
    if not found:
        raise CourseError(f"There is no PDF in {folder}: put some there, or leave FOLDER empty.")
    return found, notes


def _starts_as_pdf(file: Path) -> bool:
    try:
        with open(file, "rb") as stream:
            return b"%PDF-" in stream.read(1024)
    except OSError:
        return False


def _key(file: Path, pixels: int) -> tuple[str, str]:
    """A key for content and settings, and why the file is refused ("" if it is not)."""
    try:
        if file.is_dir():
            return "", "is a folder, not a file."
        if not file.stat().st_size:
            return "", "is empty: it has no bytes. Copy it again."
        if file.stat().st_size > MAX_BYTES:
            return "", f"is larger than {MAX_BYTES // 2**30} GB: split it."
        if not _starts_as_pdf(file):
            return "", DAMAGED
        return hashlib.sha256(f"{sha256(file)} {pixels} {VERSION}".encode()).hexdigest(), ""
    except OSError:
        return "", "cannot be read: check that it is there and that you may read it."


def slug(name: str) -> str:
    """A document's name in ids and folders: small letters, digits and hyphens, so that TREC's tools can read it."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60] or "document"


def _stored(folder: Path, key: str) -> dict | None:
    """The record of a file that was read before, whole and with all its images; else None."""
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        images = [folder / f"p{page['page']:04d}.png" for page in record["pages"]]
    except (OSError, ValueError, KeyError):
        return None
    return record if record["key"] == key and all(image.exists() for image in images) else None


class _Worker:
    """The process that reads; it is started again where it hangs or dies."""

    def __init__(self, page_seconds: float) -> None:
        self.page_seconds, self.process = page_seconds, None

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_) -> None:
        self._stop()

    def read(self, file: Path, folder: Path, key: str, pixels: int) -> dict:
        """The record of a file; it is written to the folder, beside the images."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pages, notes, at, end = [], [], 1, time.monotonic() + FILE_SECONDS
        for _ in range(RESTARTS + 1):
            job = (str(file), at, str(folder), pixels)
            at, why = self._answers(job, pages, notes, end)
            if not why:
                break
            self._stop()
            where = str(at) if at else ""
            again = f" To try again, remove {folder}." if why == SLOW else ""
            notes.append((where, True, f"{why}, so it is left out.{again}"))
            if not at:
                break
            if time.monotonic() > end:
                notes.append(("", True, f"took {FILE_SECONDS / 60:g} minutes: the pages after {at} are left out."))
                break
            at += 1
        else:
            notes.append(
                ("", True, f"made the reader stop {RESTARTS + 1} times: the pages after {at - 1} are left out.")
            )
        record = {"key": key, "pages": pages, "notes": _joined(notes)}
        atomic_write(folder / "record.json", json.dumps(record, ensure_ascii=False))
        return record

    def _answers(self, job: tuple, pages: list, notes: list, end: float) -> tuple[int, str]:
        """Collect the answers to a job; the page at which it stopped and why, "" where it came to its end."""
        at, patience = 0, self.page_seconds
        if self.process is not None and self.process.poll() is not None:  # it died after its last answer
            self._stop()
        if self.process is None:
            self._start()
            patience = START_SECONDS
        with contextlib.suppress(OSError):  # of a worker that has died: its answers end
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        while True:
            try:
                line = self.answers.get(timeout=max(0.1, min(patience, end - time.monotonic())))
            except queue.Empty:
                return at, SLOW
            if line is None:
                return at, "needs too much memory, or is damaged"
            kind, number, *rest = json.loads(line)
            patience = self.page_seconds
            if kind == "done":
                return at, ""
            if kind == "full":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), job[2])
            if kind == "next":
                at = number
            elif kind == "page":
                pages.append({"page": number} | rest[0])
            else:
                notes.append((str(number or ""), kind == "refused", rest[0]))

    def _start(self) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each of its threads claims address space
        self.process = subprocess.Popen(COMMAND, cwd=paths.ROOT, env=environment, text=True, encoding="utf-8", **pipes)
        self.answers: queue.Queue = queue.Queue()
        arguments = (self.process.stdout, self.answers)
        threading.Thread(target=_collect, args=arguments, daemon=True).start()

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            with contextlib.suppress(OSError):  # what a dead worker did not read
                self.process.stdin.close()
            self.process = None


def _collect(lines: Iterable[str], answers: queue.Queue) -> None:
    """Put each whole line into the queue, and None at the end."""
    for line in lines:
        if line.endswith("\n"):
            answers.put(line)
    answers.put(None)


def _joined(notes: list[tuple[str, bool, str]]) -> list[tuple[str, bool, str]]:
    """Notes with the same words on pages in a row as one, "3–9" in place of its page."""
    joined: list[list] = []
    for page, refused, what in notes:
        if joined and page and joined[-1][1:3] == [refused, what] and joined[-1][3] == int(page) - 1:
            joined[-1][3] = int(page)
        else:
            joined.append([page, refused, what, int(page or -1)])
    return [
        (page if not page or int(page) == last else f"{page}–{last}", refused, what)
        for page, refused, what, last in joined
    ]
