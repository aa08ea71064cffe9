"""What `course clean` and `make clean` remove: everything that runs can make again in minutes."""

import re
import shutil
from pathlib import Path

RESULT = re.compile(r"\d\d_\w+(\.ipynb|\.html)?|index\.html|images|book|rehearsal|search")
KEPT = {"standins": "hours of training", "judgements": "made by hand"}


def clean(build: Path, cache: Path) -> str:
    """Remove what runs left in `build`, and the drawn pages in `cache`; a sentence on what is gone and what was kept.

    Other files in `build` stay, and no link is followed.
    """
    found = [path for path in sorted(build.glob("*")) if RESULT.fullmatch(path.name)]
    found += [cache] if cache.exists() else []
    for path in found:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    kept = "".join(f" Kept: {build / name}, {why}." for name, why in KEPT.items() if (build / name).exists())
    return f"Removed: {', '.join(path.name for path in found) or 'nothing'}.{kept}"
