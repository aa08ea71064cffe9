"""What `requirements.lock` pins, and what of it is installed."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

from course_utils.paths import ROOT

CUDA = ("nvidia-", "cuda-", "triton")  # how the names of torch's CUDA packages begin


def pins(markers: Mapping[str, str] | None = None) -> list[Requirement]:
    """The lock's pins, without markers, for this system and Python, or for those that `markers` describe."""
    found = map(Requirement, (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines())
    return [
        Requirement(f"{one.name}{one.specifier}") for one in found if not one.marker or one.marker.evaluate(markers)
    ]


def installed(name: str) -> str:
    """The version of a package that is installed, "" if it is not."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
