"""What is kept of each run of a lesson, in `build/<lesson>/run.json`."""

import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from course_utils import machine
from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.paths import ROOT

FORMAT = 1
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


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
    started: str = field(default_factory=lambda: datetime.now().astimezone().isoformat(timespec="seconds"))
    process: list[float] = field(default_factory=lambda: [os.getpid(), psutil.Process().create_time()])
    versions: dict[str, str] = field(default_factory=lambda: installed_versions())
    machine: str = field(default_factory=lambda: describe_machine())
    commit: str = field(default_factory=lambda: git_commit())
    slowest: list[dict[str, Any]] = field(default_factory=list)
    failure: dict[str, str] | None = None

    def same_run(self, other: "Record") -> bool:
        """Whether `other` would run the same cells with the same settings and packages."""

        def settings(record: Record) -> tuple[Any, ...]:
            parameters = {name: value for name, value in record.parameters.items() if name != "RESUME"}
            return record.fingerprint, record.variant, record.profile, parameters, record.versions

        return settings(self) == settings(other)


def record_path(build: Path, lesson: str) -> Path:
    return Path(build) / lesson / "run.json"


def write_record(build: Path, record: Record) -> Path:
    return atomic_write(record_path(build, record.lesson), json.dumps({"format": FORMAT, **asdict(record)}, indent=2))


def read_record(build: Path, lesson: str) -> Record | None:
    """The lesson's last run, or None if there is none. A run whose process is gone counts as interrupted.

    Raises CourseError when the file is damaged or of another version of the course.
    """
    path = record_path(build, lesson)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        record = Record(**content)
        if not (record.lesson == lesson and isinstance(record.parameters, dict) and isinstance(record.slowest, list)):
            raise ValueError("not a record of this lesson")
        datetime.fromisoformat(record.started)
        if record.status == RUNNING and not is_running(record):
            record.status = INTERRUPTED
        return record
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CourseError(f"{path} is damaged or from another version of the course, so it does not count.") from error


def is_running(record: Record) -> bool:
    """Whether the process that wrote the record is still alive (and is not another one with its number)."""
    pid, created = record.process
    try:
        return abs(psutil.Process(int(pid)).create_time() - created) < 1
    except psutil.Error:
        return False


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the figures."""
    return {"python": platform.python_version(), **machine.versions()}


def describe_machine() -> str:
    """Processor, cores, memory, GPU and system in one line, without loading torch and without names of hosts."""
    gpu = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()[:1]
    parts = [
        machine.cpu_model(),
        f"{machine.cores()} cores",
        f"{machine.memory_gb():.0f} GB memory",
        *gpu,
        f"{platform.system()} {platform.machine()}",
    ]
    return " · ".join(parts)


def git_commit() -> str:
    """Short commit of the course's checkout, with `+ changes` when files differ from it."""
    commit = _output("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    if not commit:
        return "no commit"
    return f"{commit} + changes" if _output("git", "-C", str(ROOT), "status", "--porcelain") else commit


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
