"""The checks of `course check`: what this machine has, what a profile needs, and the command that mends it."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from course_utils import paths
from course_utils.checkpoints import HASHES, checkpoint
from course_utils.errors import CourseError
from course_utils.machine import cores, memory_gb
from course_utils.profiles import Profile, find_profile
from course_utils.runner.downloads import Download, cache_folder, downloads
from course_utils.runner.lessons import find_lessons

OK, WARN, FAIL = "OK", "WARN", "FAIL"
HUB_SECONDS = 3.0


@dataclass(frozen=True)
class Needs:
    """What a profile needs, in GB (10^9 bytes); the figures of `t4` and `full` are estimates."""

    disk: float
    memory: float
    gpu: float = 0.0


NEEDS = {"tiny": Needs(1, 8), "t4": Needs(30, 16, 16), "full": Needs(60, 64, 80)}
SLACK = 0.9  # a machine sold with 8 GB reports a little less
LINE = 100e6  # bits a second
LEAST_MEMORY = 4.0  # the hungriest lesson in `tiny`


@dataclass(frozen=True)
class Finding:
    """One line of the check: OK, WARN (lessons run, but) or FAIL (they will not), and what mends it."""

    status: str
    name: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<4}  {self.name:<11}  {self.text}"
        return f"{line}\n{'':19}→ {self.mend}" if self.mend else line


def check_setup(profile: str = "tiny") -> list[Finding]:
    """Every check, in the order to mend them. No check raises, and none waits for a network for long."""
    values = find_profile(profile)
    checks = {
        "Python": _python,
        "packages": _packages,
        "disk": _disk,
        "memory": _memory,
        "cores": _cores,
        "device": _device,
        "checkpoints": _checkpoints,
        "results": _results,
        "pages": _pages,
        "hub": _hub,
        "profile": _profile,
    }
    if values.network:
        found = cache(lambda: downloads(values, ask=_online()))  # asked once, for all three
        more = {"download": _download, "room": _room, "minutes": _minutes}
        checks |= {name: lambda profile, check=check: check(profile, found()) for name, check in more.items()}
    return [_guarded(name, check, values) for name, check in checks.items()]


def summary(findings: list[Finding]) -> str:
    """One sentence on all the findings."""
    fails, warns = (sum(finding.status == status for finding in findings) for status in (FAIL, WARN))
    if fails:
        return f"Not ready: mend what says FAIL ({fails}), from the top."
    return "Ready." if not warns else f"Ready; read what says WARN ({warns})."


def recommended_profile(gpu_gb: float | None = None) -> str:
    """The largest profile whose GPU is here; gpu_gb: memory of the GPU, by default this machine's."""
    gpu_gb = gpu()[1] if gpu_gb is None else gpu_gb
    return next((name for name in ("full", "t4") if gpu_gb >= SLACK * NEEDS[name].gpu), "tiny")


def gpu() -> tuple[str, float]:
    """Name and memory in GB of the first GPU that torch can use; ("", 0.0) where there is none."""
    import torch

    if not torch.cuda.is_available():
        return "", 0.0
    return torch.cuda.get_device_name(0), round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1)


def hub_answers(seconds: float = HUB_SECONDS) -> bool:
    """Whether the Hugging Face Hub answers within `seconds`. Never raises; a lookup that hangs is left behind."""
    from huggingface_hub import constants

    answers = threading.Event()
    threading.Thread(target=_ask, args=(constants.ENDPOINT, seconds, answers), daemon=True).start()
    return answers.wait(seconds)


def _ask(address: str, seconds: float, answers: threading.Event) -> None:
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    try:
        urlopen(Request(address, method="HEAD"), timeout=seconds).close()
    except HTTPError:
        pass  # an answer, too
    except (OSError, ValueError):
        return
    answers.set()


def _guarded(name: str, check: Callable[[Profile], tuple[str, ...]], profile: Profile) -> Finding:
    try:
        status, text, *mend = check(profile)
    except Exception as error:  # a broken installation can raise anything; the other lines still help
        status, text, mend = FAIL, f"could not be checked ({type(error).__name__}: {error})"[:200], [_install()]
    return Finding(status, name, text, *mend)


def _install() -> str:
    """The command that installs the pins; without CUDA packages where torch came without them."""
    try:
        without_cuda = "+" in version("torch")
    except PackageNotFoundError:
        without_cuda = False
    return f"python -m pip install {'-c' if without_cuda else '-r'} requirements.lock -e .  (in the course's folder)"


def _python(profile: Profile) -> tuple[str, ...]:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):
        return FAIL, f"{found}, the course needs 3.11 or newer", "make course PYTHON=/path/to/python3.11"
    return OK, found


def _packages(profile: Profile) -> tuple[str, ...]:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    pins = [Requirement(line) for line in (paths.ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()]
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {canonicalize_name(Requirement(text).name) for text in project["dependencies"]}
    pins = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    missing, other = [], []
    for pin in pins:
        try:
            found = version(pin.name)
        except PackageNotFoundError:
            missing.append(pin.name)
            continue
        if not pin.specifier.contains(found, prereleases=True):
            other.append(f"{pin.name} {found} instead of {str(pin.specifier).removeprefix('==')}")
    if "torch" not in missing and "+" in version("torch"):  # a build without CUDA asks for none of its packages
        missing = [name for name in missing if not name.startswith(("nvidia-", "cuda-", "triton"))]
    if missing or other:
        status = FAIL if direct & set(missing) else WARN
        return status, _some([f"{name} is missing" for name in missing] + other), _install()
    return OK, f"{len(pins)} as pinned in requirements.lock"


def _some(texts: list[str], count: int = 3) -> str:
    more = len(texts) - count
    return ", ".join(texts[:count]) + (f" and {more} more" if more > 0 else "")


def _disk(profile: Profile) -> tuple[str, ...]:
    folders = [_existing(folder) for folder in (paths.CACHE, paths.BUILD)]
    closed = next((folder for folder in folders if not os.access(folder, os.W_OK)), None)
    if closed:
        return FAIL, f"{closed} cannot be written", f"chmod u+w {closed}, or set COURSE_BUILD to another folder"
    free = min(shutil.disk_usage(folder).free for folder in folders) / 1e9
    needed = NEEDS[profile.name].disk
    if free < needed:
        return FAIL, f"{free:.1f} GB free, {profile.name} needs {needed:.0f} GB", "course clean"
    return OK, f"{free:.0f} GB free, {profile.name} needs {needed:.0f} GB"


def _existing(folder: Path) -> Path:
    """The folder, or its nearest parent that is there."""
    return next(place for place in (folder, *folder.resolve().parents) if place.exists())


def _memory(profile: Profile) -> tuple[str, ...]:
    import psutil

    total, free = memory_gb(), psutil.virtual_memory().available / 1e9
    needed = NEEDS[profile.name].memory
    text = f"{total:.1f} GB, {free:.1f} GB of it free; {profile.name} needs {needed:.0f} GB"
    close = "shut down other notebooks (Kernel, Shut Down All Kernels) and close other programs"
    if 0 < total < SLACK * LEAST_MEMORY:
        return FAIL, text, "use a machine or a container with more memory"
    if 0 < total < SLACK * needed or free < LEAST_MEMORY:
        return WARN, text, close
    return OK, text


def _cores(profile: Profile) -> tuple[str, ...]:
    if cores() < 2:
        return WARN, "1 core, lessons are timed on two", "expect twice the minutes, or give the container two CPUs"
    return OK, f"{cores()}"


def _device(profile: Profile) -> tuple[str, ...]:
    name, memory = gpu()
    needed = NEEDS[profile.name].gpu
    found = f"{name}, {memory:.0f} GB" if name else "CPU"
    if not needed:
        return OK, f"{found}; {profile.name} needs no GPU"
    if not name:
        return (
            FAIL,
            f"no GPU that torch can use; {profile.name} needs one with {needed:.0f} GB",
            "course run --profile tiny",
        )
    if memory < SLACK * needed:
        return (
            WARN,
            f"{found}; {profile.name} was planned for {needed:.0f} GB",
            f"course run --profile {recommended_profile(memory)}",
        )
    return OK, found


def _checkpoints(profile: Profile) -> tuple[str, ...]:
    mend = "git checkout data/models"
    try:
        names = list(json.loads((paths.MODELS / HASHES).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return FAIL, f"data/models/{HASHES} is missing or damaged", mend
    for name in names:
        try:
            checkpoint(name)
        except CourseError:
            return FAIL, f"data/models/{name} is not as the course ships it", mend
    return OK, f"{len(names)} stand-ins, every file as the course ships it (SHA-256)"


def _results(profile: Profile) -> tuple[str, ...]:
    from course_utils import finetuned

    try:
        label = finetuned.finetuned("tiny").label
        finetuned.seeds()
    except CourseError as error:
        return FAIL, str(error), "git checkout data/precomputed"
    return OK, "lesson 07's embeddings: " + (f"{label}, until you run it" if label else "your own, in build/")


def _pages(profile: Profile) -> tuple[str, ...]:
    from course_utils.pages.dataset import cache_key

    if (paths.CACHE / f"documents-{cache_key()}" / "complete.json").exists():
        return OK, "drawn, in data/cache"
    return (
        OK,
        "not drawn yet: the first lesson draws them in about two minutes",
        "course build-pages  (now, if you like)",
    )


def _hub(profile: Profile) -> tuple[str, ...]:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        text, mend = "the Hugging Face Hub was not asked, since HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
    elif hub_answers():
        return OK, "the Hugging Face Hub answers"
    else:
        text, mend = "the Hugging Face Hub does not answer", "check the connection"
    if not profile.network:
        return OK, f"{text}; {profile.name} needs no network"
    return WARN, text, f"{mend}, or: course run --profile tiny"


def _download(profile: Profile, found: list[Download]) -> tuple[str, ...]:
    left, size = (sum(getattr(one, name) for one in found) / 1e9 for name in ("left", "size"))
    return OK, "\n".join([f"{left:.1f} GB to fetch, of {size:.1f} GB", *(f"{'':19}{one}" for one in found)])


def _room(profile: Profile, found: list[Download]) -> tuple[str, ...]:
    unpacked = next(one for one in found if one.name == profile.dataset)
    needed = (sum(one.left for one in found) + (unpacked.size if unpacked.left else 0)) / 1e9
    free = shutil.disk_usage(_existing(cache_folder())).free / 1e9
    place = str(cache_folder()).replace(str(Path.home()), "~")
    text = f"{needed:.1f} GB to be written to {place} (computed: what is to fetch, and the data once more, unpacked); {free:.1f} GB free"
    if free < needed:
        return FAIL, text, "make room, or set HF_HOME to a folder on a larger disk"
    return OK, text


def _minutes(profile: Profile, found: list[Download]) -> tuple[str, ...]:
    left = sum(one.left for one in found)
    lessons = {lesson.number: lesson.minutes(profile.name) for lesson in find_lessons(paths.NOTEBOOKS)}
    known = [f"{number}: {minutes:g}" for number, minutes in lessons.items() if minutes]
    fetching = f"about {left * 8 / LINE / 60:.0f} to fetch at {LINE / 1e6:.0f} Mbit/s (computed)"
    return OK, f"{fetching}; of the lessons (estimates, neither measured here nor published) {', '.join(known)}"


def _online() -> bool:
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and hub_answers()


def _profile(profile: Profile) -> tuple[str, ...]:
    name = recommended_profile()
    return OK, f"{name} is the one for this machine: {find_profile(name).hardware}"
