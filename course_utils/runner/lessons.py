"""Finding lessons, and reading what their first cells and their parameters say."""

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from course_utils.errors import CourseError

FILE_NAME = re.compile(r"(\d\d)_\w+\.ipynb")
UNITS = {"s": 1 / 60, "min": 1, "h": 60}  # minutes in each unit


@dataclass(frozen=True)
class Header:
    """A lesson's first cell: `minutes` and `memory` (GB; of the GPU where the profile has one) by name of profile.

    `learning` are the minutes that a learner takes, None where the cell does not say.
    """

    title: str
    goal: str
    learning: float | None
    minutes: dict[str, float]
    memory: dict[str, float]


def read_header(text: str) -> Header:
    """What a first cell says; "" or no entries for what it does not say."""

    def values(name: str, units: str) -> list[tuple[str, str, str]]:
        line = re.search(rf"^\*\*{name}\*\*(.*)$", text, re.MULTILINE)
        return re.findall(rf"\b(\w+) (?:about )?([\d.]+) ({units})\b", line[1]) if line else []

    title, goal = re.search(r"^# +(.+)", text), re.search(r"^- +(.+)", text, re.MULTILINE)
    learning = re.search(r"^\*\*Learning time\*\* about (\d+) min$", text, re.MULTILINE)
    return Header(
        title=title[1].strip() if title else "",
        goal=goal[1].strip() if goal else "",
        learning=float(learning[1]) if learning else None,
        minutes={profile: float(number) * UNITS[unit] for profile, number, unit in values("Time", "s|min|h")},
        memory={profile: float(number) for profile, number, _ in values("Memory", "GB")},
    )


def format_minutes(value: float | None) -> str:
    """`30 s`, `5 min`, `2.5 min`, `3 h`; a dash for nothing."""
    if value is None:
        return "–"
    number, unit = (value * 60, "s") if value < 1 else (value / 60, "h") if value >= 120 else (value, "min")
    return f"{number:.0f} {unit}" if unit == "s" or number >= 10 else f"{round(number, 1):g} {unit}"


@dataclass(frozen=True)
class Lesson:
    """One notebook: `07_name` at `path`."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def number(self) -> str:
        return self.name[:2]

    def cells(self) -> list[dict[str, Any]]:
        """The notebook's cells, each source as one string. Raises CourseError for a file that is no notebook."""
        try:
            cells = json.loads(self.path.read_text(encoding="utf-8"))["cells"]
            return [{**cell, "source": "".join(cell["source"])} for cell in cells]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CourseError(
                f"{self.path} cannot be read as a notebook: write it again with `course notebooks`."
            ) from error

    def header(self) -> Header:
        """What the first cell says."""
        return read_header(next((cell["source"] for cell in self.cells()), ""))

    def parameters(self) -> dict[str, Any]:
        """Names and default values, which are literals, in the cell tagged `parameters`."""
        import papermill

        self.cells()  # says what to do about a damaged file
        found = papermill.inspect_notebook(str(self.path))
        return {name: ast.literal_eval(parameter["default"]) for name, parameter in found.items()}

    def fingerprint(self) -> str:
        """SHA-256 over what the cells say; outputs and execution counts do not count."""
        content = [[cell["cell_type"], cell["source"]] for cell in self.cells()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def find_lessons(folder: Path, wanted: list[str] | tuple[str, ...] = ()) -> list[Lesson]:
    """The lessons in `folder` in order, or only those with the numbers `wanted` (`7` or `07`).

    Raises CourseError for a folder without lessons, click.UsageError for a number that no lesson has.
    """
    lessons = [Lesson(path) for path in sorted(Path(folder).glob("*.ipynb")) if FILE_NAME.fullmatch(path.name)]
    if not lessons:
        raise CourseError(f"There are no lessons in {folder}: write them with `course notebooks`.")
    numbers = {word.zfill(2) for word in wanted}
    if unknown := numbers - {lesson.number for lesson in lessons}:
        there_are = ", ".join(lesson.number for lesson in lessons)
        raise click.UsageError(f"There is no lesson {min(unknown)}; there are {there_are}.")
    return [lesson for lesson in lessons if lesson.number in numbers or not wanted]


def parse_parameters(lesson: Lesson, pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Values for `-p NAME VALUE` pairs, of the type of the lesson's own value.

    Raises click.UsageError for a name that the lesson does not have or a value of another type.
    """
    known = lesson.parameters() if pairs else {}
    values = {}
    for name, text in pairs:
        if name == "PROFILE":
            raise click.UsageError("Choose the profile with --profile, for example `--profile t4`, not `-p PROFILE`.")
        if name not in known:
            there_are = ", ".join(known) or "none"
            raise click.UsageError(f"Lesson {lesson.number} has no parameter {name}; its parameters are: {there_are}.")
        try:
            values[name] = click.types.convert_type(type(known[name]))(text)
        except click.BadParameter as error:
            raise click.UsageError(f"{name} is {known[name]!r} in the lesson: {error.message}") from error
    return values
