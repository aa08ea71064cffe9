"""Checkpoints are found by name and never loaded if altered."""

import pytest

from course_utils import checkpoints
from course_utils.errors import CourseError
from course_utils.files import sha256
from course_utils.pages.facts import read_json


def test_a_hub_name_is_left_as_it_is():
    assert checkpoints.checkpoint("Qwen/Qwen3-VL-Embedding-2B") == "Qwen/Qwen3-VL-Embedding-2B"


def test_a_hub_name_with_a_commit_is_the_folder_of_that_commit(monkeypatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **asked: f"{name} {asked}")
    found = checkpoints.checkpoint("Qwen/Qwen3-VL-Embedding-2B@feed")
    assert found == "Qwen/Qwen3-VL-Embedding-2B {'repo_type': 'model', 'revision': 'feed'}"


@pytest.mark.parametrize("file", ["config.json", "vocab.txt"])
def test_a_file_of_minilm_that_is_altered_or_missing_is_named(file, tmp_path, monkeypatch):
    names = ("config.json", "vocab.txt")
    for name in names:
        (tmp_path / name).write_text(name, encoding="utf-8")
    monkeypatch.setattr(checkpoints, "_minilm", lambda: tmp_path)
    hashes = {name: sha256(tmp_path / name) for name in names}
    monkeypatch.setattr(checkpoints, "read_json", lambda _: hashes)
    assert checkpoints.checkpoint(checkpoints.MINILM) == str(tmp_path)
    (tmp_path / file).write_text("altered", encoding="utf-8")
    with pytest.raises(CourseError, match=f"{file}.*reinstall"):
        checkpoints.checkpoint(checkpoints.MINILM)
    (tmp_path / file).unlink()
    with pytest.raises(CourseError, match=f"{file}.*reinstall"):
        checkpoints.checkpoint(checkpoints.MINILM)


def test_every_file_of_minilm_that_is_loaded_is_hashed():
    folder = checkpoints.minilm_folder()
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found - set(read_json("minilm_sha256.json")) == {".gitattributes", "README.md", "data_config.json"}
