"""What `course list` and `course clean` do."""

import re
import shutil
from datetime import datetime
from pathlib import Path

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.profiles import Profile
from course_utils.runner.lessons import Lesson, find_lessons
from course_utils.runner.records import FINISHED, RUNNING, read_record
from course_utils.runner.report import format_minutes, read_metrics

RESULT = re.compile(r"\d\d_\w+(\.ipynb|\.html)?|index\.html|bench|rehearsal|full-size\.json")
KEPT = ("standins", "lock-tools")  # hours of training, and what `make lock` needs


def overview(profile: Profile, build: Path) -> list[str]:
    """A line for each lesson: title, expected minutes and memory in this profile, and how its last run went."""
    rows = [("lesson", "minutes", "memory", "status")]
    for lesson in find_lessons(paths.NOTEBOOKS):
        minutes = profile.minutes.get(lesson.number)
        rows.append(
            (lesson.title(), f"{minutes:g}" if minutes else "–", _memory(lesson, profile), _status(lesson, build))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{title:<{widths[0]}}  {minutes:>{widths[1]}}  {memory:<{widths[2]}}  {status}"
        for title, minutes, memory, status in rows
    ]


def _memory(lesson: Lesson, profile: Profile) -> str:
    """What the lesson's first cell says of this profile's memory."""
    line = re.search(r"^\*\*Memory\*\*(.*)$", lesson.cells()[0]["source"], re.MULTILINE)
    found = re.search(rf"\b{profile.name}\b ([^·(]+)", line[1]) if line else None
    return found[1].strip() if found else "–"


def _status(lesson: Lesson, build: Path) -> str:
    try:
        record = read_record(build, lesson.name)
    except CourseError:
        return "its record cannot be read"
    if record is None:
        return "not run yet"
    if record.status == RUNNING:
        return "running"
    parts = [f"{record.status} in {format_minutes(record.minutes)}" if record.minutes else record.status]
    metrics = read_metrics(build, record)
    if record.status == FINISHED and metrics and metrics["peak_memory_mib"]:
        parts.append(f"{metrics['peak_memory_mib']:,.0f} MiB")
    parts += [record.profile, f"{datetime.fromisoformat(record.started):%d %B %Y}"]
    return ", ".join(parts)


def clean(build: Path, cache: bool = False, everything: bool = False) -> list[str]:
    """Remove what runs left in `build`, and say what each thing freed. data/models is never touched.

    cache: the drawn pages in data/cache, too; everything: also what is kept otherwise, KEPT. Other files in
    `build` stay. Raises CourseError while a run is working there.
    """
    here = sorted(build.iterdir()) if build.is_dir() else []
    chosen = [path for path in here if RESULT.fullmatch(path.name) or (everything and path.name in KEPT)]
    for path in chosen:
        if path.is_dir() and _is_running(build, path.name):
            raise CourseError(
                f"Lesson {path.name[:2]} is running in {build}: wait for it to end, or stop it with Ctrl-C."
            )
    if cache:
        chosen += [path for path in [paths.CACHE] if path.exists()]
    freed = [(path, _size(path)) for path in chosen]
    for path, _ in freed:
        _remove(path)
    lines = [f"{_name(path, build)}: {_megabytes(size)}" for path, size in freed]
    kept = [path.name for path in here if path not in chosen and path.name in KEPT]
    lines.append(
        f"Freed {_megabytes(sum(size for _, size in freed))}." + (f" Kept: {', '.join(kept)}." if kept else "")
    )
    return lines


def _is_running(build: Path, lesson: str) -> bool:
    try:
        record = read_record(build, lesson)
    except CourseError:
        return False
    return record is not None and record.status == RUNNING


def _size(path: Path) -> int:
    files = [path] if path.is_symlink() or path.is_file() else path.rglob("*")
    return sum(file.lstat().st_size for file in files if not file.is_dir() or file.is_symlink())


def _remove(path: Path) -> None:
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)
    except OSError as error:
        raise CourseError(f"{path} cannot be removed ({error.strerror}): close the programs that use it.") from error


def _name(path: Path, build: Path) -> str:
    return "data/cache" if path == paths.CACHE else f"{build.name}/{path.name}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
