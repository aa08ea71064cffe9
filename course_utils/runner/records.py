"""What is kept of each run of a lesson: `build/<lesson>/run.json`, beside the lesson's own `metrics.json`."""

import json
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from course_utils import machine
from course_utils.files import atomic_write
from course_utils.paths import ROOT

FINISHED, FAILED, INTERRUPTED = "finished", "failed", "interrupted"
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
    """One run of one lesson, interrupted until it ends; times in minutes, `started` in ISO 8601 with its time zone."""

    lesson: str
    title: str
    profile: str
    parameters: dict[str, Any]
    variant: str
    fingerprint: str
    expected_minutes: float | None = None
    status: str = INTERRUPTED
    minutes: float | None = None
    failure: dict[str, str] | None = None
    started: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))
    versions: dict[str, str] = field(
        default_factory=lambda: {"python": platform.python_version(), **machine.versions()}
    )
    machine: str = field(default_factory=lambda: " · ".join(machine.describe().values()))
    commit: str = field(default_factory=git_commit)

    def same_run(self, other: "Record") -> bool:
        """Whether `other` would run the same cells with the same settings and packages."""
        names = ("fingerprint", "variant", "profile", "parameters", "versions")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def record_path(build: Path, lesson: str) -> Path:
    return Path(build) / lesson / "run.json"


def write_record(build: Path, record: Record) -> Path:
    return atomic_write(record_path(build, record.lesson), json.dumps(asdict(record), indent=2))


def read_record(build: Path, lesson: str) -> Record | None:
    """The lesson's last run; None if there is none, or only a file that is damaged or of another version."""
    try:
        return Record(**json.loads(record_path(build, lesson).read_text(encoding="utf-8")))
    except UNREADABLE:
        return None


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
