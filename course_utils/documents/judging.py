"""Judgements by hand: a widget that shows a query with a page, and a CSV that keeps each answer at once."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from course_utils.errors import CourseError
from course_utils.files import atomic_write

if TYPE_CHECKING:
    import ipywidgets as widgets

COLUMNS = ["query", "page", "grade"]


def read_judgements(file: Path) -> dict[tuple[str, str], int]:
    """(query, page id) to grade: 1 if the page answers the query, else 0; empty if there is no file.

    Raises CourseError for a file without the columns query, page, grade, or with another grade.
    """
    if not Path(file).exists():
        return {}
    try:
        table = pd.read_csv(file, usecols=COLUMNS, dtype={"query": str, "page": str, "grade": int})
    except (ValueError, pd.errors.ParserError) as error:
        raise CourseError(f"{file} needs the columns query, page, grade: {error}") from error
    if not table["grade"].isin((0, 1)).all():
        raise CourseError(f"{file} has a grade that is neither 0 nor 1: correct it.")
    return {(row.query, row.page): row.grade for row in table[COLUMNS].itertuples(index=False)}


def read_queries(file: Path, pages: pd.DataFrame) -> list[tuple[str, str]]:
    """(query, page id) for each row of a CSV with the columns query, file, page; empty if there is no CSV.

    `pages` is the table of `read_folder`; a row that names none of its pages is left out. Raises CourseError for a CSV
    without these columns.
    """
    if not Path(file).exists():
        return []
    try:
        table = pd.read_csv(file, usecols=["query", "file", "page"], dtype={"query": str, "file": str, "page": int})
    except (ValueError, pd.errors.ParserError) as error:
        raise CourseError(f"{file} needs the columns query, file, page: {error}") from error
    ids = dict(zip(zip(pages["file"], pages["page"], strict=True), pages.index, strict=True))
    found = [(row.query, ids.get((row.file, row.page))) for row in table.itertuples()]
    return [(query, page) for query, page in found if page]


def write_judgements(file: Path, judgements: Mapping[tuple[str, str], int]) -> Path:
    """Write the CSV that `read_judgements` reads."""
    rows = [(query, page, grade) for (query, page), grade in judgements.items()]
    return atomic_write(file, pd.DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n"))


def judge(pairs: Iterable[tuple[str, str]], images: Mapping[str, str], file: Path) -> "widgets.VBox":
    """A widget that asks, for each pair of query and page id without a judgement in `file`, if the page answers.

    images: the image file of each page id. Each click writes `file`.
    """
    import ipywidgets as widgets  # only here: reading judgements does without

    known = read_judgements(file)
    open_pairs = [pair for pair in dict.fromkeys(pairs) if pair not in known]
    question, image = widgets.HTML(), widgets.Image(format="png", width=420)
    buttons = [widgets.Button(description=name) for name in ("answers", "does not", "skip")]
    box = widgets.VBox([question, widgets.HBox(buttons), image])

    def show() -> None:
        if not open_pairs:
            question.value = "All pairs have a judgement."
            box.children = [question]
            return
        query, page = open_pairs[0]
        question.value = f"{len(open_pairs)} left. Does this page answer <b>{_escaped(query)}</b>? ({_escaped(page)})"
        image.value = Path(images[page]).read_bytes()

    def clicked(button: "widgets.Button") -> None:
        pair = open_pairs.pop(0)
        if button.description != "skip":
            grade = int(button.description == "answers")
            write_judgements(file, read_judgements(file) | {pair: grade})  # another widget may have written meanwhile
        show()

    for button in buttons:
        button.on_click(clicked)
    show()
    return box


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
