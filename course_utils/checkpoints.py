"""The stand-in checkpoints that come with the course: found by name, and never loaded if altered."""

import hashlib
import json
from pathlib import Path

from . import paths
from .errors import CourseError
from .files import atomic_write, sha256

HASHES = "SHA256.json"


def checkpoint(name: str) -> str:
    """What to give `SentenceTransformer(...)`: the folder of a stand-in, its files checked, or a Hub name as it is.

    Raises CourseError where the folder or one of its files is missing or altered.
    """
    if "/" in name:
        return name
    folder = paths.MODELS / name
    expected = _hashes(paths.MODELS).get(name)
    if expected is None or not folder.is_dir():
        raise CourseError(
            f"data/models/{name} is missing: run `git checkout data/models`, or `course build-standins` to train it again."
        )
    for file, digest in expected.items():
        path = folder / file
        if not path.exists() or sha256(path) != digest:
            raise CourseError(
                f"data/models/{name}/{file} is missing or not the file that came with the course: "
                "run `git checkout data/models`."
            )
    return str(folder)


def fingerprint(name: str) -> str:
    """A short hash of a checkpoint: of a stand-in's files, its model card excepted, or of the Hub name."""
    files = _hashes(paths.MODELS).get(name)
    known = {file: digest for file, digest in files.items() if file != "README.md"} if files else name
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def seal(models: Path) -> None:
    """Write down the SHA-256 of every file of every stand-in in `models`."""
    found = {
        folder.name: {
            str(path.relative_to(folder)): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }
        for folder in sorted(models.iterdir())
        if folder.is_dir()
    }
    atomic_write(models / HASHES, json.dumps(found, indent=1) + "\n")


def _hashes(models: Path) -> dict[str, dict[str, str]]:
    path = models / HASHES
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
