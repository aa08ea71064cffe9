"""On a hosted platform (Colab, Kaggle): install what the lessons miss there, and choose the profile.

A lesson's second code cell calls this, and only there. The platform's torch stays, since it fits the platform's GPU.
"""

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable
from importlib import invalidate_caches
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement

from course_utils.errors import CourseError
from course_utils.lock import installed, pins
from course_utils.paths import ROOT

STAY = {"torch", "torchvision", "numpy"}  # the platform's own: other packages there are built against them
UNUSED = {"jupyterlab", "jupytext", "papermill", "pytest", "pytest-xdist", "ruff"}  # what no lesson imports


def prepare(profile: str, install: Callable[[list[str], list[str]], None] | None = None) -> str:
    """Install what is missing, and return the profile to use: `t4` instead of `tiny` where its GPU is here.

    Prints one line. Raises CourseError if a package could not be had, and then nothing was changed, or if the session
    has to be restarted because it had imported a package that was replaced.
    """
    wanted, limits, torch = missing(), constraints(), installed("torch")
    before = {name: installed(name) for names in packages_distributions().values() for name in names}
    if wanted:
        print(f"Installing {len(wanted)} packages and what they need; torch {torch} stays.")
        (install or _pip)(wanted, limits)
        invalidate_caches()
        if left := missing():
            raise CourseError(f"{', '.join(left)} could not be installed: restart the session and run the cells again.")
        if stale := _stale(before):
            raise CourseError(f"{', '.join(stale)} came new: restart the session, then run the cells from the top.")
    from course_utils.runner.setup_check import fitting_profiles

    chosen = "t4" if profile == "tiny" and "t4" in fitting_profiles() else profile
    tested = next(str(pin.specifier)[2:] for pin in pins() if pin.name == "torch")
    print(f"The course is in {ROOT}. torch {torch} is the platform's (tested: {tested}). Profile: {chosen}.")
    return chosen


def missing() -> list[str]:
    """The pins of the direct dependencies that are not installed, or too old, as `name==version`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [Requirement(line) for line in project["dependencies"]]
    pinned = {pin.name: pin for pin in pins()}
    return [
        str(pinned[one.name])
        for one in wanted
        if one.name not in STAY | UNUSED
        and not (installed(one.name) and one.specifier.contains(installed(one.name), prereleases=True))
    ]


def constraints() -> list[str]:
    """What the installer has to respect: the platform's own packages stay, new ones come as pinned, none goes beyond."""
    lines = [f"{name}=={installed(name)}" for name in sorted(STAY) if installed(name)]
    for pin in pins():
        here = installed(pin.name)
        if pin.name not in STAY and (not here or _older(here, pin)):
            lines.append(f"{pin.name}{'<=' if here else '=='}{str(pin.specifier)[2:]}")
    return lines


def _older(here: str, pin: Requirement) -> bool:
    return Requirement(f"{pin.name}<={str(pin.specifier)[2:]}").specifier.contains(here, prereleases=True)


def _stale(before: dict[str, str]) -> list[str]:
    """Packages that this session imported in a version that is no longer installed."""
    loaded = {name for module, names in packages_distributions().items() if module in sys.modules for name in names}
    return sorted(name for name in loaded if before.get(name) and before[name] != installed(name))


def _pip(wanted: list[str], limits: list[str]) -> None:
    """Let pip install, which resolves and downloads everything before it changes anything."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "constraints.txt"
        file.write_text("\n".join(limits), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", str(file)]
        done = subprocess.run([*command, *wanted], capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), "no answer")
        raise CourseError(
            f"The packages could not be had, and nothing was changed ({said.strip()[:200]}): "
            "check the connection (on Kaggle, Settings, Internet), then run this cell again."
        )
