"""The book: executed lessons, the report and the pages of `docs/` as a website in `build/book/html`, made by Sphinx.

It needs no network, and neither do its pages. Sphinx takes one folder of sources, so this module fills one.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import nbformat
from nbformat import NotebookNode

from course_utils.errors import CourseError
from course_utils.paths import NOTEBOOKS, ROOT, SOLUTIONS
from course_utils.runner.lessons import Lesson, find_lessons
from course_utils.runner.platforms import launch_line
from course_utils.runner.records import read_metrics, read_record
from course_utils.runner.report import book_report
from course_utils.runner.run import as_page

DOCS = ROOT / "docs"
FIGURE = re.compile(r'run\.figure\(\s*"(\w+)"')
SECTIONS = "<!-- sections -->"  # the place for them in docs/teaching.md
SOLVED = re.compile(r"^ *# <solution>.*\n((?:.*\n)*?) *# </solution>", re.MULTILINE)
NOT_RUN = "```{note}\nThis lesson was not run for this book, so its cells have no outputs.\n```"
HIDDEN = {"injected-parameters"}  # tags of cells that tell a reader nothing


def make_book(build: Path, say: Callable[[str], None], docs: Path = DOCS) -> Path:
    """Write the website and return its first page. A lesson that was not run is shown without outputs, and says so.

    Raises CourseError if Sphinx is not installed or warns of anything, such as a link that leads nowhere.
    """
    folder = Path(build).resolve() / "book"
    source = folder / "source"
    for old in (source, folder / "html"):
        shutil.rmtree(old, ignore_errors=True)
    shutil.copytree(docs, source)
    shutil.copytree(NOTEBOOKS / "images", source / "images")
    lessons = find_lessons(NOTEBOOKS)
    for lesson in lessons:
        nbformat.write(book_page(lesson, build), source / lesson.path.name)
    solved = find_lessons(SOLUTIONS)
    for name, text in (
        ("report.txt", book_report(build, lessons)),
        ("answers.md", "\n\n".join(["# Answers to the exercises", *map(_answers, solved)])),
    ):
        (source / name).write_text(text, encoding="utf-8")
    teaching = source / "teaching.md"
    if teaching.exists():
        sections = "\n".join(map(_sections, lessons))
        teaching.write_text(teaching.read_text(encoding="utf-8").replace(SECTIONS, sections), encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "-d", folder / "doctrees"]
    done = subprocess.run([*command, source, folder / "html"], capture_output=True, encoding="utf-8", errors="replace")
    if "No module named sphinx" in done.stderr:
        raise CourseError("Sphinx is not installed: use `make book`, or `pip install -r docs/requirements.lock` first.")
    if done.returncode:
        raise CourseError(f"Sphinx did not finish:\n{done.stderr.strip()[-3000:]}")
    say(f"Book: {folder / 'html' / 'index.html'}")
    return folder / "html" / "index.html"


def book_page(lesson: Lesson, build: Path) -> NotebookNode:
    """The lesson's notebook as the book shows it: executed if it was run, with alt text on every picture."""
    record, executed = read_record(build, lesson.name), Path(build) / f"{lesson.name}.ipynb"
    ran = record is not None and executed.exists()
    notebook = as_page(nbformat.read(executed if ran else lesson.path, as_version=4))
    figures = ((read_metrics(build, record) if ran else None) or {}).get("figures", {})
    section = ""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            section = (re.findall(r"^#+ (.+)", cell.source, re.MULTILINE) or [section])[-1]
            continue
        if HIDDEN & set(cell.metadata.get("tags", [])):
            cell.metadata["tags"] = ["remove-cell"]
        if "# <solution>" in cell.source:
            cell.metadata["tags"] = ["hide-input"]
        alts = [figures[name]["alt"] for name in FIGURE.findall(cell.source) if name in figures]
        alts = alts or [f"Picture of the section “{section}”, made by {cell.source.strip().splitlines()[-1:]}"]
        cell.metadata["mystnb"] = {"image": {"alt": " ".join(alts).replace("\n", " ")}}
        for output in cell.outputs:
            if html := output.get("data", {}).get("text/html"):
                output["data"]["text/html"] = html.replace("<progress ", "<progress aria-label='training' ")
    if line := launch_line(lesson.path.name):
        notebook.cells[0].source += f"\n\n{line}"
    if not ran:
        notebook.cells.insert(1, nbformat.v4.new_markdown_cell(NOT_RUN))
    return notebook


def _sections(lesson: Lesson) -> str:
    """A line with the lesson's title and the headings of its sections."""
    texts = [cell["source"] for cell in lesson.cells() if cell["cell_type"] == "markdown"]
    headings = [line.removeprefix("## ") for text in texts for line in text.splitlines() if line.startswith("## ")]
    return f"- [{lesson.header().title}]({lesson.path.name}): {' · '.join(headings)}"


def _answers(lesson: Lesson) -> str:
    """The solved cell of each of the lesson's exercises, below the exercise's title."""
    parts, title = [f"## {lesson.header().title}"], ""
    for cell in lesson.cells():
        if found := re.match(r"### (Exercise.*)", cell["source"]):
            title = found[1]
        parts += [f"### {title}\n\n```python\n{dedent(code)}```" for code in SOLVED.findall(cell["source"])]
    return "\n\n".join(parts)
