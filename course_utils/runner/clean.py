"""What `course clean` and `make clean` remove: everything that runs can make again in minutes."""

import re
import shutil
from pathlib import Path

from course_utils.errors import CourseError
from course_utils.runner.records import RUNNING, read_record

RESULT = re.compile(r"\d\d_\w+(\.ipynb|\.html)?|index\.html|bench|rehearsal|full-size\.json")
KEPT = "standins"  # hours of training


def clean(build: Path, cache: Path) -> str:
    """Remove what runs left in `build`, and the drawn pages in `cache`; a sentence on what was freed and kept.

    Other files in `build` stay. Raises CourseError while a run is working there.
    """
    here = sorted(path for path in build.iterdir() if RESULT.fullmatch(path.name)) if build.is_dir() else []
    for path in here:
        if path.is_dir() and _is_running(build, path.name):
            raise CourseError(
                f"Lesson {path.name[:2]} is running in {build}: wait for it to end, or stop it with Ctrl-C."
            )
    freed = sum(map(_remove, [*here, *([cache] if cache.exists() else [])]))
    kept = f" Kept: {build / KEPT}, hours of training." if (build / KEPT).exists() else ""
    return f"Freed {freed / 1e6:,.1f} MB.{kept}"


def _is_running(build: Path, lesson: str) -> bool:
    try:
        record = read_record(build, lesson)
    except CourseError:
        return False
    return record is not None and record.status == RUNNING


def _remove(path: Path) -> int:
    """Remove a file, a link or a folder; the bytes of it."""
    folder = path.is_dir() and not path.is_symlink()
    size = sum(file.lstat().st_size for file in (path.rglob("*") if folder else [path]))
    try:
        shutil.rmtree(path) if folder else path.unlink()
    except OSError as error:
        raise CourseError(f"{path} cannot be removed ({error.strerror}): close the programs that use it.") from error
    return size
