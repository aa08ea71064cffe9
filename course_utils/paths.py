"""Where things are, from any working folder."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
MODELS = DATA / "models"
CACHE = DATA / "cache"
NOTEBOOKS = ROOT / "notebooks"
SOURCES = NOTEBOOKS / "sources"
SOLUTIONS = NOTEBOOKS / "solutions"
BUILD = Path(os.environ.get("COURSE_BUILD", ROOT / "build"))


def search_path(*first: Path) -> str:
    """PYTHONPATH of a process that imports this checkout: `first`, the checkout, and what this process has."""
    return os.pathsep.join([*map(str, first), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
