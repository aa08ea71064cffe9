"""What a lesson records of its own run: figures, plots, minutes and memory."""

import json
import math
import re
import time
from pathlib import Path
from typing import Any

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.machine import peak_memory_mib
from course_utils.paths import BUILD

NAME = re.compile(r"[\w@.+-]+(/[\w@.+-]+)*")


class Run:
    """Collects a lesson's figures; `save()` writes them to `build/<lesson>/metrics.json`.

    Metric names are `measure/when[/slice]`, for example `ndcg@10/after/scan`.
    """

    def __init__(self, lesson: str, profile: str, seed: int, build: Path | None = None) -> None:
        self.lesson = lesson
        self.profile = profile
        self.seed = seed
        self.folder = Path(build or BUILD).resolve() / lesson
        self.metrics: dict[str, float] = {}
        self.figures: dict[str, dict[str, str]] = {}
        self._started = time.monotonic()

    def record(self, name: str, value: float) -> None:
        """Keep one figure. Raises CourseError if the name or the value could not be read back."""
        if not NAME.fullmatch(name):
            raise CourseError(f"{name!r} cannot name a figure: write measure/when[/slice] without spaces.")
        number = int(value) if isinstance(value, int) or hasattr(value, "__index__") else float(value)
        if not math.isfinite(number):
            raise CourseError(f"{name} came out as {number}: look at the cell that computes it before recording it.")
        self.metrics[name] = number

    def record_interval(self, name: str, value: float, low: float, high: float) -> None:
        """Keep a figure with its interval, as `name`, `name/low` and `name/high`."""
        self.record(name, value)
        self.record(f"{name}/low", low)
        self.record(f"{name}/high", high)

    def figure(self, name: str, figure: Any, alt: str) -> Path:
        """Save a matplotlib figure as `build/<lesson>/<name>.png`; `alt` says in words what it shows."""
        if not alt.strip():
            raise CourseError(f"The figure {name!r} needs alt text: a sentence that says what it shows.")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=144, bbox_inches="tight", facecolor="white")
        self.figures[name] = {"path": path.name, "alt": alt.strip()}
        return path

    def save(self) -> Path:
        """Write `metrics.json` in one piece and return its path."""
        content = {
            "lesson": self.lesson,
            "profile": self.profile,
            "seed": self.seed,
            "minutes": round((time.monotonic() - self._started) / 60, 3),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "metrics": self.metrics,
            "figures": self.figures,
        }
        return atomic_write(self.folder / "metrics.json", json.dumps(content, indent=2) + "\n")
