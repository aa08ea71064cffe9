"""The checks of `course check`: what this machine has, what a profile needs, and the command that fixes it."""

import json
import platform
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from course_utils import checkpoints, lock, machine, paths
from course_utils.errors import CourseError
from course_utils.profiles import PROFILES, PUBLISHED_DATA, Profile, find_profile
from course_utils.runner.lessons import find_lessons

OK, WARN, FAIL = "OK", "WARN", "FAIL"
HUB_SECONDS = 3.0
SLACK = 0.9  # a machine sold with 8 GB reports a little less
DISK = 1.0  # GB that `tiny` writes: the drawn pages and the results
# GB that the Hub sends. Computed: 2.13 billion parameters in bf16, 375 million in float32, and 51,500 pages (five a row)
# of 209 kB, the mean that llamaindex/vdr-multilingual-train publishes. Measured: MiniLM, in its package.
DOWNLOADS = {
    "Qwen/Qwen3-VL-Embedding-2B": 4.3,
    "Qwen/Qwen3-VL-2B-Instruct": 4.3,
    "Qwen/Qwen3-VL-Reranker-2B": 4.3,
    "google/siglip2-base-patch16-224": 1.5,
    "sentence-transformers/all-MiniLM-L6-v2": 0.1,
    PUBLISHED_DATA: 10.8,
}
ENOUGH = 0.9  # of a repository: the cache holds what is used, not every file


@dataclass(frozen=True)
class Finding:
    """One line of the check: OK, WARN (lessons run, but) or FAIL (they will not), and how to fix it."""

    status: str
    name: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.status:<4}  {self.name:<11}  {self.text}"
        return f"{line}\n{'':19}-> {self.fix}" if self.fix else line


@dataclass(frozen=True)
class Setup:
    """All findings, in the order to fix them, and `fits`: the profiles whose GPU is here, the smallest first."""

    findings: list[Finding]
    fits: list[str]

    def count(self, status: str) -> int:
        return sum(finding.status == status for finding in self.findings)

    def __str__(self) -> str:
        summary = f"Ready; read what says WARN ({self.count(WARN)})." if self.count(WARN) else "Ready."
        if self.count(FAIL):
            summary = f"Not ready: fix what says FAIL ({self.count(FAIL)}), from the top."
        return "\n".join([*map(str, self.findings), summary])


def check_setup(profile: str = "tiny") -> Setup:
    """Check this machine for a profile. A check that breaks is a finding; none waits for a network for long.

    Raises CourseError for a profile that is not there.
    """
    values = find_profile(profile)
    checks = [_packages, _disk, _memory, _checkpoints, *([_hub, _download] if values.network else []), _profile]
    return Setup([_guarded(check, values) for check in checks], fitting_profiles())


def as_json(setup: Setup, profile: str) -> str:
    """The findings as one line of JSON, with the machine's name, to collect from many machines."""
    faults = [asdict(finding) for finding in setup.findings if finding.status != OK]
    values = {"host": platform.node(), "profile": profile, "ready": not setup.count(FAIL), "faults": faults}
    return json.dumps(values | {"fits": setup.fits, "machine": machine.describe(), "versions": machine.versions()})


def fitting_profiles(gpu_gb: float | None = None) -> list[str]:
    """Profiles that fit a GPU of `gpu_gb` (by default this machine's), the smallest first."""
    gpu_gb = gpu()[1] if gpu_gb is None else gpu_gb
    needs = {name: max(_lesson_memory(name).values()) if p.network else 0.0 for name, p in PROFILES.items()}
    return [name for name, needed in needs.items() if gpu_gb >= SLACK * needed]


def gpu() -> tuple[str, float]:
    """Name and memory in GB of the first GPU that torch can use; ("", 0.0) where there is none."""
    import torch

    if not torch.cuda.is_available():
        return "", 0.0
    return torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory / 1e9


def _guarded(check: Callable[[Profile], tuple[str, ...]], profile: Profile) -> Finding:
    name = check.__name__.strip("_")
    try:
        status, text, *fix = check(profile)
    except Exception as error:  # a broken installation can raise anything; the other lines still help
        status, text, fix = FAIL, f"could not be checked ({type(error).__name__}: {error})"[:200], [_install()]
    return Finding(status, name, text, *fix)


def _lesson_memory(profile: str) -> dict[str, float]:
    """GB by lesson number, as the first cells say."""
    found = {lesson.number: lesson.header().memory for lesson in find_lessons(paths.NOTEBOOKS)}
    return {number: memory[profile] for number, memory in found.items() if profile in memory}


def _install() -> str:
    """The command that installs the pins; without CUDA packages where torch came without them."""
    return f"python -m pip install {'-c' if '+' in lock.installed('torch') else '-r'} requirements.lock -e .  (in the course's folder)"


def _packages(profile: Profile) -> tuple[str, ...]:
    from packaging.requirements import Requirement

    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {one.name for one in map(Requirement, project["dependencies"])}
    pins = lock.pins()
    found = {pin.name: lock.installed(pin.name) for pin in pins}
    missing = [name for name, installed in found.items() if not installed]
    if "+" in found["torch"]:  # a build without CUDA asks for none of its packages
        missing = [name for name in missing if not name.startswith(lock.CUDA)]
    other = [pin for pin in pins if found[pin.name] and not pin.specifier.contains(found[pin.name], prereleases=True)]
    faults = [f"{name} is missing" for name in missing] + [f"{pin.name} {found[pin.name]}" for pin in other]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        return FAIL if direct & set(missing) else WARN, ", ".join(faults[:3]) + more, _install()
    return OK, f"{len(pins)} as pinned in requirements.lock"


def _disk(profile: Profile) -> tuple[str, ...]:
    free = _free(paths.BUILD)
    text = f"{free:.1f} GB free, pages and results need {DISK:.0f} GB"
    return (FAIL, text, "make room, for example with: course clean") if free < DISK else (OK, text)


def _free(folder: Path) -> float:
    """Free GB where the folder is, or will be."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free / 1e9


def _memory(profile: Profile) -> tuple[str, ...]:
    total, free = machine.memory_gb(), machine.free_gb()
    needs = _lesson_memory("tiny")  # the others' is the GPU's memory
    text = f"{total:.1f} GB, {free:.1f} GB of it free; lessons in tiny need up to {max(needs.values()):g} GB"
    too_large = [number for number, gb in needs.items() if min(total, free) < SLACK * gb]
    if too_large:
        fix = f"for {', '.join(too_large)}, close other programs and notebooks, or take a larger machine"
        return FAIL if len(too_large) == len(needs) else WARN, text, fix
    return OK, text


def _checkpoints(profile: Profile) -> tuple[str, ...]:
    names = checkpoints.hashes()
    for name in names:
        try:
            checkpoints.checkpoint(name)
        except CourseError as error:
            return FAIL, str(error), "git checkout data/models"
    if not names:
        return FAIL, f"data/models/{checkpoints.HASHES} is missing or damaged", "git checkout data/models"
    return OK, f"{len(names)} stand-ins, every file as the course ships it (SHA-256)"


def _hub(profile: Profile) -> tuple[str, ...]:
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return WARN, "the Hugging Face Hub was not asked, since HF_HUB_OFFLINE is set", "unset HF_HUB_OFFLINE"
    try:
        urlopen(Request(constants.ENDPOINT, method="HEAD"), timeout=HUB_SECONDS).close()
    except HTTPError:
        pass  # an answer, too
    except (OSError, ValueError):
        return WARN, "the Hugging Face Hub does not answer", "check the connection, or: course run --profile tiny"
    return OK, "the Hugging Face Hub answers"


def _download(profile: Profile) -> tuple[str, ...]:
    from huggingface_hub import constants, scan_cache_dir

    cache = Path(constants.HF_HUB_CACHE)
    here = {repo.repo_id: repo.size_on_disk / 1e9 for repo in scan_cache_dir(cache).repos} if cache.is_dir() else {}
    left = {name: size for name, size in DOWNLOADS.items() if here.get(name, 0) < ENOUGH * size}
    write = sum(left.values()) + left.get(PUBLISHED_DATA, 0)  # pages are unpacked, once more
    free = _free(cache)
    text = f"{sum(left.values()):.1f} GB to fetch (computed), {write:.1f} GB to write, {free:.1f} GB free in {cache}"
    text += "".join(f"\n{'':19}{name} {size:.1f} GB" for name, size in left.items())
    return (FAIL, text, "make room, or set HF_HOME to a folder on a larger disk") if free < write else (OK, text)


def _profile(profile: Profile) -> tuple[str, ...]:
    name, memory = gpu()
    found = f"{name}, {memory:.0f} GB" if name else "CPU"
    best = fitting_profiles(memory)[-1]
    text = f"{found}: {best} is the one for this machine"
    if profile.name in fitting_profiles(memory):
        return OK, text
    return WARN if name else FAIL, f"{text}; {profile.name} needs {profile.hardware}", f"course run --profile {best}"
