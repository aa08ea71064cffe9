"""What a lesson records of its own run: figures, plots, minutes and memory."""

import hashlib
import json
import math
import re
import shutil
import time
from numbers import Integral
from pathlib import Path
from typing import Any

from course_utils.checkpoints import fingerprint, hub_commit
from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.files import atomic_write
from course_utils.machine import peak_memory_mib
from course_utils.paths import BUILD
from course_utils.profiles import PROFILES, Profile

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

    def record(self, name: str, value: float | Interval) -> None:
        """Keep one figure; of an `Interval`, its mean as `name`, its ends as `name/low` and `name/high`.

        Raises CourseError if the name or the value could not be read back.
        """
        if isinstance(value, Interval):
            for end, number in (("", value.mean), ("/low", value.low), ("/high", value.high)):
                self.record(name + end, number)
            return
        if not NAME.fullmatch(name):
            raise CourseError(f"{name!r} cannot name a figure: write measure/when[/slice] without spaces.")
        number = int(value) if isinstance(value, Integral) else float(value)
        if not math.isfinite(number):
            raise CourseError(f"{name} came out as {number}: look at the cell that computes it before recording it.")
        self.metrics[name] = number

    def figure(self, name: str, figure: Any, alt: str) -> Path:
        """Save a matplotlib figure as `build/<lesson>/<name>.png`; `alt` says in words what it shows."""
        if not alt.strip():
            raise CourseError(f"The figure {name!r} needs alt text: a sentence that says what it shows.")
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=144, bbox_inches="tight", facecolor="white")
        self.figures[name] = {"path": path.name, "alt": alt.strip()}
        return path

    def training_folder(self, *settings: object, resume: bool = False) -> tuple[Path, Path | None]:
        """Where a training with these settings keeps its checkpoints, and the newest whole checkpoint, or None.

        The profile, its models and the seed count as settings, so a training never goes on from another one's
        weights. Unless `resume` is True, the folder is emptied.
        """
        models = [fingerprint(name) for name in _models(PROFILES[self.profile])]
        stamp = hashlib.sha256("".join(models).encode()).hexdigest()[:12]
        name = "-".join(map(str, (self.profile, stamp, self.seed, *settings)))
        folder = self.folder / "training" / re.sub(r"[^\w.-]+", "_", name)
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        whole = [state.parent for state in folder.glob("checkpoint-*/trainer_state.json")]  # which is written last
        return folder, max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)

    def save(self) -> None:
        """Write `metrics.json` in one piece."""
        content = {
            "lesson": self.lesson,
            "profile": self.profile,
            "seed": self.seed,
            "minutes": round((time.monotonic() - self._started) / 60, 3),
            "peak_memory_mib": round(peak_memory_mib(), 1),
            "commits": self._commits(),
            "metrics": self.metrics,
            "figures": self.figures,
        }
        atomic_write(self.folder / "metrics.json", json.dumps(content, indent=2) + "\n")

    def _commits(self) -> dict[str, str]:
        """The commit of each model and data set of the profile that a hub gave."""
        profile = PROFILES[self.profile]
        kinds = dict.fromkeys(_models(profile), "model") | {profile.dataset: "dataset"}
        found = {name: hub_commit(name, kind) for name, kind in kinds.items()}
        return {name: commit for name, commit in found.items() if commit}


def _models(profile: Profile) -> tuple[str, ...]:
    return profile.embedder, profile.raw_vlm, profile.reranker, profile.text_tower, profile.image_tower
