"""A folder with every wheel that one platform needs, to install the course where no package index can be reached.

Markers of the lock are evaluated for the platform that is chosen, not for this machine: pip would take this machine's.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import parse_wheel_filename

from course_utils import lock
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
INSTALL = """Install the course without a network, in the course's folder:

    python -m pip install --no-index --find-links WHEELS --require-hashes -r WHEELS/requirements.txt
    python -m pip install --no-index --no-deps --no-build-isolation -e .

WHEELS is this folder. These wheels are for {}.
"""


@dataclass(frozen=True)
class Platform:
    """The tags of a platform's wheels, and the values of its markers."""

    tags: tuple[str, ...]
    markers: dict[str, str]


def _markers(sys_platform: str, system: str, machine: str, os_name: str = "posix") -> dict[str, str]:
    return {"sys_platform": sys_platform, "platform_system": system, "platform_machine": machine, "os_name": os_name}


PLATFORMS = {
    "linux": Platform(
        tuple(f"manylinux_2_{minor}_x86_64" for minor in range(5, 35)) + ("manylinux2014_x86_64", "linux_x86_64"),
        _markers("linux", "Linux", "x86_64"),
    ),
    "macos": Platform(("macosx_14_0_arm64", "macosx_14_0_universal2"), _markers("darwin", "Darwin", "arm64")),
    "windows": Platform(("win_amd64",), _markers("win32", "Windows", "AMD64", "nt")),
}


def _newest(python: str) -> str:
    """A late release of a Python such as `3.11`: pip takes `3.11` for 3.11.0, which some packages refuse."""
    return f"{python}.9"


def pins(platform: str, python: str, cuda: bool) -> list[str]:
    """The lock's pins for a platform and a Python such as `3.11`, as `name==version`."""
    markers = PLATFORMS[platform].markers | {"python_version": python, "python_full_version": _newest(python)}
    return [str(pin) for pin in lock.pins(markers) if cuda or not pin.name.startswith(lock.CUDA)]


def make_wheelhouse(
    folder: Path, platform: str, python: str, cuda: bool, say: Callable[[str], None], index: str = CPU_INDEX
) -> Path:
    """Download the wheels into `folder`, with hashes for pip to check, and return the file of requirements.

    torch comes from `index`, without CUDA packages, unless `cuda`.
    Raises CourseError if a wheel cannot be had (then there is no file of requirements), or if the folder has wheels for
    another platform.
    """
    folder = Path(folder)
    readme, what = folder / "README.txt", f"{platform}, Python {python}{', with CUDA' if cuda else ''}"
    if readme.exists() and readme.read_text(encoding="utf-8") != INSTALL.format(what):
        raise CourseError(f"{folder} has wheels for another platform or Python: give another folder for {what}.")
    atomic_write(readme, INSTALL.format(what))
    requirements = folder / "requirements.txt"
    requirements.unlink(missing_ok=True)
    wanted = pins(platform, python, cuda)
    own = [] if cuda or platform != "linux" else [pin for pin in wanted if pin.startswith(("torch==", "torchvision=="))]
    say(f"Fetching {len(wanted)} wheels for {what}, into {folder} …")
    _download(folder, platform, python, [pin for pin in wanted if pin not in own], [])
    if own:
        _download(folder, platform, python, own, ["--index-url", index])
    hashes: dict[tuple[str, str], list[str]] = {}
    for wheel in sorted(folder.glob("*.whl")):
        name, version, *_ = parse_wheel_filename(wheel.name)
        hashes.setdefault((name, version.public), []).append(f"=={version} --hash=sha256:{sha256(wheel)}")
    lines = []
    for pin in wanted:
        name, version = pin.split("==")
        if (name, version) not in hashes:
            raise CourseError(f"No wheel of {pin} came for {what}: run the command again.")
        lines += [name + line for line in hashes[name, version][:1]]
    say(f"{len(lines)} wheels, {sum(path.stat().st_size for path in folder.glob('*.whl')) / 1e9:.1f} GB: {folder}")
    return atomic_write(requirements, "\n".join(lines) + "\n")


def _download(folder: Path, platform: str, python: str, wanted: list[str], options: list[str]) -> None:
    tags = [word for tag in PLATFORMS[platform].tags for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *tags]
    command += ["--python-version", _newest(python), "--implementation", "cp", "--dest", str(folder), *options, *wanted]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode:
        said = next((line for line in reversed(done.stderr.splitlines()) if "ERROR" in line), done.stderr[-200:])
        raise CourseError(f"A wheel could not be had ({said.strip()}): check the connection, then run this again.")
