"""Country reports as PDFs, printed from drawn pages of the course: one a country, some pages scans without text."""

import json
from pathlib import Path

import pandas as pd
from filelock import FileLock
from PIL import Image
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from tqdm.auto import tqdm

from course_utils import paths
from course_utils.documents.reading import slug
from course_utils.files import atomic_write
from course_utils.pages.build import build_pages
from course_utils.pages.facts import wordings

POINTS = 0.75  # of a pixel: pages of 448 x 576 pixels are 336 x 432 points
QUERIES = 3  # that the course's test asks of a country, or its report is not for testing


def print_reports(cache: Path | None = None) -> Path:
    """Print the reports, unless they are there, and return their folder: PDFs, `queries.csv` and `log.csv`.

    The 30 countries of which the course's test asks most have reports of *test* pages only, and those queries are in
    `queries.csv` (query, file, page). The reports of all other countries have *train* pages only, and `log.csv` has the
    course's training queries for them, as a search that has run for a while would have logged. So no page and no query
    of a test stands in a report that a training may use. Takes about half a minute.
    """
    data = build_pages()
    folder = (cache or paths.CACHE) / f"reports-{data.name.split('-')[-1]}"
    with FileLock(folder.with_suffix(".lock")):
        if not all((folder / name).exists() for name in ("log.csv", "queries.csv")):  # written last
            _print(data, folder)
    return folder


def plan(data: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """What is printed: the pages (rows of the side table, by page id), the test's queries, the logged ones.

    Both tables of queries have the columns query and page (its id).
    """
    table = pd.read_parquet(data / "pages.parquet").set_index("page_id")

    def asked(split: str) -> pd.DataFrame:
        rows = map(json.loads, (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines())
        return pd.DataFrame([{"query": row["query"], "page": Path(row["image_file_name"]).stem} for row in rows])

    queries = asked("eval")
    counts = table["country"][queries["page"]].value_counts()
    test = set(counts.index[counts >= QUERIES])
    own_split = table["country"].isin(test).map({True: "test", False: "train"})
    pages = table[table["split"] == own_split]
    return pages, *(rows[rows["page"].isin(pages.index)] for rows in (queries, asked("train")))


def _print(data: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pages, queries, logged = plan(data)
    pdfmetrics.registerFont(TTFont("text", str(paths.DATA / "fonts" / "LiberationSans-Regular.ttf")))
    places = {}
    for country, rows in tqdm(pages.groupby("country"), "printing reports", unit="report"):
        file, rows = f"{slug(country)}.pdf", rows.sort_values("topic")
        _report(data, folder / file, country, rows)
        places |= {page: (file, number) for number, page in enumerate(rows.index, start=1)}
    for name, asked in (("log.csv", logged), ("queries.csv", queries)):
        found = [(row.query, *places[row.page]) for row in asked.itertuples(index=False)]
        atomic_write(folder / name, pd.DataFrame(found, columns=["query", "file", "page"]).to_csv(index=False))


def _report(data: Path, file: Path, country: str, rows: pd.DataFrame) -> None:
    """One page for each row, as large as its image; under the image of a page with text, that text, invisible."""
    canvas = Canvas(str(file), pageCompression=1, invariant=1)
    canvas.setTitle(f"{country}: facts and figures, 2015")
    for number, (page_id, row) in enumerate(rows.iterrows(), start=1):
        image = data / row["file"]
        width, height = (side * POINTS for side in Image.open(image).size)
        canvas.setPageSize((width, height))
        canvas.drawImage(str(image), 0, 0, width, height)  # a JPEG stays as it is
        if not row["scan"]:
            words = canvas.beginText(10, height - 20)
            words.setFont("text", 6)
            words.setTextRenderMode(3)  # invisible, as under a scan with OCR
            listed = row["text"].split()
            for k in range(0, len(listed), 12):
                words.textLine(" ".join(listed[k : k + 12]))
            canvas.drawText(words)
            canvas.bookmarkPage(page_id)
            title = wordings()[row["topic"]]["titles"][number % 2]
            canvas.addOutlineEntry(f"{country}: {title}", page_id, level=0)
        canvas.showPage()
    canvas.save()
