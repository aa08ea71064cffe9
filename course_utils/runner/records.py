"""What is kept of each run of a lesson: `build/<lesson>/run.json`, beside the lesson's own `metrics.json`."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from course_utils import machine
from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.paths import ROOT

RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)  # what a damaged JSON file can raise


@cache
def git_commit() -> str:
    """Short commit of the course's checkout, with `+ changes` when files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(ROOT), *words]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + (" + changes" if git("status", "--porcelain") else "")
    except (OSError, subprocess.SubprocessError):
        return "no commit"


@dataclass
class Record:
    """One run of one lesson; times in minutes, `started` in ISO 8601 with its time zone."""

    lesson: str
    title: str
    profile: str
    parameters: dict[str, Any]
    variant: str
    fingerprint: str
    expected_minutes: float | None = None
    status: str = RUNNING
    minutes: float | None = None
    failure: dict[str, str] | None = None
    started: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))
    process: list[float] = field(default_factory=lambda: [os.getpid(), psutil.Process().create_time()])
    versions: dict[str, str] = field(
        default_factory=lambda: {"python": platform.python_version(), **machine.versions()}
    )
    machine: str = field(default_factory=lambda: " · ".join(machine.describe().values()))
    commit: str = field(default_factory=git_commit)

    def same_run(self, other: "Record") -> bool:
        """Whether `other` would run the same cells with the same settings and packages."""

        def settings(record: Record) -> tuple[Any, ...]:
            parameters = {name: value for name, value in record.parameters.items() if name != "RESUME"}
            return record.fingerprint, record.variant, record.profile, parameters, record.versions

        return settings(self) == settings(other)


def record_path(build: Path, lesson: str) -> Path:
    return Path(build) / lesson / "run.json"


def write_record(build: Path, record: Record) -> Path:
    return atomic_write(record_path(build, record.lesson), json.dumps(asdict(record), indent=2))


def read_record(build: Path, lesson: str) -> Record | None:
    """The lesson's last run, or None if there is none. A run whose process is gone counts as interrupted.

    Raises CourseError when the file is damaged or of another version of the course.
    """
    path = record_path(build, lesson)
    try:
        record = Record(**json.loads(path.read_text(encoding="utf-8")))
        datetime.fromisoformat(record.started)
        if record.status == RUNNING and not _is_alive(*record.process):
            record.status = INTERRUPTED
        return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except UNREADABLE as error:
        raise CourseError(f"{path} is damaged or from another version of the course, so it does not count.") from error


def _is_alive(pid: float, created: float) -> bool:
    """Whether that very process still runs, and not another one with its number."""
    try:
        return abs(psutil.Process(int(pid)).create_time() - created) < 1
    except psutil.Error:
        return False


def read_metrics(build: Path, record: Record) -> dict[str, Any] | None:
    """The lesson's `metrics.json` if this very run wrote it, else None."""
    path = record_path(build, record.lesson).with_name("metrics.json")
    try:
        if path.stat().st_mtime + 1 < datetime.fromisoformat(record.started).timestamp():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content["metrics"], dict) else None
    except UNREADABLE:
        return None


def memory_text(metrics: dict[str, Any] | None) -> str:
    """Peak memory of a lesson's process in GB; "" where it is not known."""
    mib = (metrics or {}).get("peak_memory_mib")
    return f"{mib * 2**20 / 1e9:.1f} GB" if mib else ""
