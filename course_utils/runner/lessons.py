"""Finding lessons and reading their parameters."""

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from course_utils.errors import CourseError

FILE_NAME = re.compile(r"(\d\d)_\w+\.ipynb")


class UsageError(CourseError):
    """A command that asks for something that is not there."""


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

    def title(self) -> str:
        """The heading of the first cell, for example `07 · Finetune a visual document retriever`."""
        heading = re.match(r"#\s+(.+)", next((cell["source"] for cell in self.cells()), ""))
        return heading.group(1).strip() if heading else self.name.replace("_", " ")

    def minutes(self, profile: str) -> float | None:
        """The minutes that the first cell gives for a profile; None where it gives none."""
        line = re.search(r"^\*\*Time\*\*(.*)$", next((cell["source"] for cell in self.cells()), ""), re.MULTILINE)
        found = re.search(rf"\b{profile}\b (?:about )?([\d.]+) (min|h)", line[1]) if line else None
        return float(found[1]) * (60 if found[2] == "h" else 1) if found else None

    def parameters(self) -> dict[str, Any]:
        """Names and default values in the cell tagged `parameters`."""
        for cell in self.cells():
            if "parameters" in cell.get("metadata", {}).get("tags", []):
                return _assignments(cell["source"])
        return {}

    def fingerprint(self) -> str:
        """SHA-256 over what the cells say; outputs and execution counts do not count."""
        content = [[cell["cell_type"], cell["source"]] for cell in self.cells()]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _assignments(source: str) -> dict[str, Any]:
    """Names assigned in `source` with their values, None for a value that is no literal."""
    try:
        body = ast.parse(source).body
    except SyntaxError as error:
        raise CourseError(f"The parameters cell is not Python at line {error.lineno}: {error.text!r}.") from error
    found = {}
    for node in body:
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    found[target.id] = ast.literal_eval(node.value)
                except ValueError:
                    found[target.id] = None
    return found


def find_lessons(folder: Path, wanted: list[str] | tuple[str, ...] = ()) -> list[Lesson]:
    """The lessons in `folder` in order, or only the `wanted` ones, by number (`7`, `07`) or name.

    Raises UsageError naming the lessons there are when one of them is not there.
    """
    lessons = sorted(
        (Lesson(path) for path in Path(folder).glob("*.ipynb") if FILE_NAME.fullmatch(path.name)),
        key=lambda lesson: lesson.name,
    )
    if not lessons:
        raise CourseError(f"There are no lessons in {folder}: write them with `course notebooks`.")
    chosen = set()
    for word in wanted:
        matches = {lesson.name for lesson in lessons if word.zfill(2) == lesson.number or word == lesson.name}
        if not matches:
            there_are = ", ".join(lesson.number for lesson in lessons)
            raise UsageError(f"There is no lesson {word}; there are {there_are}.")
        chosen |= matches
    return [lesson for lesson in lessons if lesson.name in chosen] if wanted else lessons


def parse_parameters(lesson: Lesson, pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Values for `-p NAME VALUE` pairs, of the type of the lesson's own value.

    Raises UsageError for a name that the lesson does not have or a value of another type.
    """
    known = lesson.parameters()
    values = {}
    for name, text in pairs:
        if name not in known:
            there_are = ", ".join(known) or "none"
            raise UsageError(f"Lesson {lesson.number} has no parameter {name}; its parameters are: {there_are}.")
        if name == "PROFILE":
            raise UsageError("Choose the profile with --profile, for example `--profile t4`, instead of `-p PROFILE`.")
        values[name] = _parse_value(name, text, known[name])
    return values


def _parse_value(name: str, text: str, default: Any) -> Any:
    if isinstance(default, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(text.lower(), text))
    except (ValueError, SyntaxError):
        value = text
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if default is not None and type(value) is not type(default):
        raise UsageError(
            f"{name} is {default!r} in the lesson, so {text!r} does not fit: "
            f"give a value of type {type(default).__name__}."
        )
    return value
