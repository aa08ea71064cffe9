"""Run lessons as `t4` and `full` run them, on a pretended GPU, and hold what was asked of a small hub against their needs."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from course_utils import paths
from course_utils.files import atomic_write
from course_utils.machine import cores
from course_utils.maintain.rehearsal.hub import Hub, serving_hub
from course_utils.maintain.rehearsal.small_models import build_hub
from course_utils.profiles import Profile
from course_utils.runner.lessons import Lesson
from course_utils.runner.records import FINISHED, read_record

GUARD = Path(__file__).parent / "only_this_machine"
SECONDS = 1800  # that a lesson may take
FETCHES = re.compile(r"(?:checkpoint|snapshot_download|from_pretrained)\(\s*P\.(\w+)")
# What a lesson's cells name but do not fetch in these profiles, and why.
NOT_FETCHED = {
    ("04", "t4", "text_tower"): "the published pages have no text layer",
    ("04", "full", "text_tower"): "the published pages have no text layer",
    ("10", "t4", "text_tower"): "the published pages have no text layer",
    ("10", "full", "text_tower"): "the published pages have no text layer",
    ("08", "full", "embedder"): "lesson 07 saved a whole model",
    ("09", "full", "embedder"): "lesson 07 saved a whole model",
}
OURS = ("HF_", "HUGGING", "TRANSFORMERS_", "DATASETS_")


@dataclass
class Rehearsal:
    """How one lesson went in one profile; `problems` is empty where all is as it should be."""

    lesson: str
    profile: str
    minutes: float = 0.0
    fetched: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        line = f"{self.lesson[:2]} {self.profile:<4} {self.minutes:5.1f} min  fetched: {', '.join(self.fetched) or 'nothing'}"
        return "\n".join([line, *(f"   {problem}" for problem in self.problems)])


def needed(lesson: Lesson, profile: Profile) -> set[str]:
    """The published names that a lesson fetches in a profile, read from its cells."""
    code = "\n".join(cell["source"] for cell in lesson.cells() if cell["cell_type"] == "code")
    fields = [name for name in FETCHES.findall(code) if (lesson.number, profile.name, name) not in NOT_FETCHED]
    fields += ["dataset"] * ("prepare_dataset(P)" in code)
    return {getattr(profile, name) for name in fields}


def rehearse(lessons: list[Lesson], profiles: list[Profile], rows: int, say: Callable[[str], None]) -> list[Rehearsal]:
    """Run every lesson in every profile, a process and an empty HF_HOME each, in build/rehearsal/<profile>.

    The profiles' values are as they are; `rows` is the lessons' ROWS. Later lessons find what earlier ones left.
    Profiles run side by side, and share the cores.
    """
    folder = paths.BUILD.resolve() / "rehearsal"
    served = build_hub(folder / "hub")
    results, busy = [], {profile.name for profile in profiles}

    def in_order(profile: Profile) -> None:
        for lesson in lessons:
            threads = max(1, cores() // len(busy))
            results.append(result := _rehearse(lesson, profile, served, folder / profile.name, rows, threads))
            say(str(result))
        busy.remove(profile.name)

    with ThreadPoolExecutor(len(profiles)) as pool:
        list(pool.map(in_order, profiles))
    return results


def _rehearse(lesson: Lesson, profile: Profile, served: Path, build: Path, rows: int, threads: int) -> Rehearsal:
    result = Rehearsal(lesson.name, profile.name)
    home, refused = build / "home", build / f"{lesson.name}-refused.txt"
    for old in (home, refused):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    home.mkdir(parents=True)
    command = [sys.executable, "-m", "course_utils", "run", lesson.number, "--profile", profile.name, "--solutions"]
    if "ROWS" in lesson.parameters():
        command += ["-p", "ROWS", str(rows)]
    started = time.monotonic()
    with serving_hub(served) as hub:
        variables = environment(hub, home, build, refused) | {"OMP_NUM_THREADS": str(threads)}
        variables["REHEARSAL_GPU"] = str(gpu_gb(profile))
        try:
            done = subprocess.run(
                command, cwd=paths.ROOT, env=variables, capture_output=True, text=True, timeout=SECONDS
            )
            ended = (done.stderr or done.stdout)[-500:] if done.returncode else ""
        except subprocess.TimeoutExpired:
            ended = f"it was stopped after {SECONDS // 60} minutes"
    result.minutes = round((time.monotonic() - started) / 60, 2)
    atomic_write(build / f"{lesson.name}-requests.jsonl", "".join(json.dumps(asdict(line)) + "\n" for line in hub.log))
    shutil.rmtree(home)
    result.fetched = sorted(fetched(hub))
    result.problems = problems(hub, needed(lesson, profile), refused)
    record = read_record(build, lesson.name)
    if ended or record is None or record.status != FINISHED:
        said = record.failure if record and record.failure else {"cell": "", "error": ended}
        result.problems.insert(0, f"did not finish: {said['cell']} {said['error']}")
    return result


def gpu_gb(profile: Profile) -> int:
    """The memory of the GPU that a profile is for."""
    return int(re.search(r"(\d+) GB GPU", profile.hardware)[1])


def environment(hub: Hub, home: Path, build: Path, refused: Path) -> dict[str, str]:
    """Variables of a process to which only `hub` exists: an empty HF_HOME, no token, no proxy, no other machine."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(OURS) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(home),
        "COURSE_BUILD": str(build),
        "REHEARSAL_REFUSED": str(refused),
        "PYTHONPATH": paths.search_path(GUARD),
        "NO_PROXY": "127.0.0.1",
    }


def fetched(hub: Hub) -> set[str]:
    """The repositories of which a file was got."""
    return {
        line.repo
        for line in hub.log
        if line.method == "GET" and line.file and line.status == 200 and "/resolve/" in line.path
    }


def problems(hub: Hub, names: set[str], refused: Path) -> list[str]:
    """What is wrong with the log: a name that was not fetched, and whatever else was asked for."""
    found = [f"{name} was not fetched" for name in sorted(names - fetched(hub))]
    served = hub.repositories()  # asking for the size of one that is there, as `course check` does, is no fault
    asked = {line.repo for line in hub.log if line.repo and (line.file or line.repo not in served)}
    found += [f"{name} was asked for and is not needed" for name in sorted(asked - names)]
    strays = {f"{line.method} {line.path}" for line in hub.log if not line.repo and line.path != "/"}
    found += [f"asked of the hub: {stray}" for stray in sorted(strays)]
    found += [f"hub error {line.status}: {line.path}" for line in hub.log if line.status >= 500]
    if refused.exists():
        found += [
            f"another machine was asked for: {host}"
            for host in sorted(set(refused.read_text(encoding="utf-8").split()))
        ]
    return found
