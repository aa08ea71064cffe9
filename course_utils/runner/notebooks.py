"""One source per lesson: `sources/NN_name.py` becomes the learner's notebook and the solution notebook.

A solution region in a code cell stands between `# <solution>` and `# </solution>`. The solution notebook
keeps it; the learner's notebook has one line in its place, `...  # your code`, or what follows `stub:` in
`# <solution> stub: answer = ...`. The README's table of lessons, between `<!-- lessons -->` and `<!-- /lessons -->`,
is made from the lessons' first cells.
"""

import re
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.paths import NOTEBOOKS
from course_utils.runner.lessons import format_minutes, read_header

STUB = "...  # your code"
SOLUTION = re.compile(
    r"^(?P<indent> *)# <solution>(?: stub: (?P<stub>\S.*))?\n(?:(?!.*</?\s*solution).*\n)+? *# </solution>$",
    re.MULTILINE,
)
MARKER = re.compile(r"^.*</?\s*solution.*$", re.IGNORECASE | re.MULTILINE)
FILE_NAME = re.compile(r"\d\d_\w+\.py")
TABLE = re.compile(r"(<!-- lessons -->\n).*?(<!-- /lessons -->)", re.DOTALL)
TABLE_HEAD = (
    "| # | lesson | you will be able to, among other things | learning | `tiny` | memory | `t4` | `full` |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |",
)
SPACING = ("lines_to_next_cell", "lines_to_end_of_cell_marker")  # jupytext's notes on blank lines in the source
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def find_sources(folder: Path = NOTEBOOKS) -> list[Path]:
    """The sources below the notebooks' `folder`, in order of their numbers."""
    return sorted(path for path in (Path(folder) / "sources").glob("*.py") if FILE_NAME.fullmatch(path.name))


def build(source: Path) -> tuple[NotebookNode, NotebookNode]:
    """The learner's and the solution notebook of one percent-format `source`, both without outputs.

    The same source gives the same bytes: cell ids are counted. Raises CourseError for a source that cannot
    be read, or whose solution markers do not pair up.
    """
    source = Path(source)
    try:
        parsed = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, UnicodeDecodeError) as error:
        raise CourseError(f"{source} cannot be read ({error}): restore it with git.") from error
    learner, solution = _notebook(), _notebook()
    for number, cell in enumerate(parsed.cells):
        for notebook in (learner, solution):
            copy = nbformat.from_dict({**cell, "id": f"cell-{number:02d}"})
            for name in SPACING:
                copy.metadata.pop(name, None)
            if notebook is solution:
                copy.source = copy.source.replace("](images/", "](../images/")  # it lies one folder deeper
            else:
                copy.source = blank_solutions(cell.source, f"{source.name}, cell {number}", cell.cell_type == "code")
            notebook.cells.append(copy)
    nbformat.validate(learner)
    nbformat.validate(solution)
    return learner, solution


def blank_solutions(text: str, where: str = "this cell", code: bool = True) -> str:
    """`text` of a cell with every solution region replaced by its stub line.

    Raises CourseError, naming `where`, for markers that do not pair up, an empty region, or any marker in a
    cell that is not `code`.
    """
    blank = SOLUTION.sub(lambda found: found["indent"] + (found["stub"] or STUB), text) if code else text
    if left := MARKER.search(blank):
        raise CourseError(
            f"{where}, `{left[0].strip()}`: a solution stands in a code cell, between a line `# <solution>` or "
            "`# <solution> stub: …` and a line `# </solution>`."
        )
    return blank


def render_all(folder: Path = NOTEBOOKS) -> dict[Path, str]:
    """What every generated file must hold: its path to its text. Raises CourseError without sources."""
    texts, rows = {}, []
    for source in find_sources(folder):
        name = f"{source.stem}.ipynb"
        learner, solution = build(source)
        texts[Path(folder) / name] = _text(learner)
        texts[Path(folder) / "solutions" / name] = _text(solution)
        rows.append(_row(name, learner.cells[0].source))
    if not texts:
        raise CourseError(f"There are no lessons in {Path(folder) / 'sources'}: name one there like 07_finetune.py.")
    readme = Path(folder).parent / "README.md"
    if readme.exists():
        table = "\n".join([*TABLE_HEAD, *rows])
        texts[readme] = TABLE.sub(lambda found: found[1] + table + "\n" + found[2], readme.read_text(encoding="utf-8"))
    return texts


def _row(name: str, first_cell: str) -> str:
    """A lesson's row in the README's table."""
    header = read_header(first_cell)
    number, _, title = header.title.partition(" · ")
    times = [format_minutes(header.minutes.get(profile)) for profile in ("tiny", "t4", "full")]
    memory = f"{header.memory['tiny']:g} GB" if "tiny" in header.memory else "–"
    cells = [number, f"[{title}](notebooks/{name})", header.goal, format_minutes(header.learning), times[0], memory]
    return f"| {' | '.join([*cells, *times[1:]])} |"


def write_all(folder: Path = NOTEBOOKS) -> list[Path]:
    """Write the notebooks of every source; the paths written. Nothing is written if one source is faulty."""
    return [atomic_write(path, text) for path, text in render_all(folder).items()]


def check_all(folder: Path = NOTEBOOKS) -> list[str]:
    """What is out of step between sources and notebooks, one sentence each; empty if all is well."""
    texts = render_all(folder)
    differences = []
    for path, text in texts.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            differences.append(f"{path} differs from its source: edit the source, then run `course notebooks`.")
    there = {*Path(folder).glob("*.ipynb"), *(Path(folder) / "solutions").glob("*.ipynb")}
    differences += [f"{path} has no source: delete it." for path in sorted(there - texts.keys())]
    return differences


def _notebook() -> NotebookNode:
    return nbformat.v4.new_notebook(metadata=nbformat.from_dict(METADATA))


def _text(notebook: NotebookNode) -> str:
    return nbformat.writes(notebook).rstrip("\n") + "\n"
