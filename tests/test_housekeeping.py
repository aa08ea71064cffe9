"""`course list` says how lessons stand, `course clean` removes what runs left and nothing else."""

import os

import pytest
from click.testing import CliRunner

from course_utils import paths
from course_utils.profiles import PROFILES
from course_utils.runner.cli import main
from course_utils.runner.housekeeping import clean, overview
from course_utils.runner.records import FINISHED, RUNNING, Record, write_record


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build folder with a run, a training of stand-ins and a file of the learner's own; a cache; models."""
    build = tmp_path / "build"
    for path in (
        "build/07_toy/model.bin",
        "build/07_toy.ipynb",
        "build/07_toy.html",
        "build/index.html",
        "build/standins/weights",
        "build/notes.txt",
        "cache/page.png",
        "models/weights",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"x" * 500_000)
    for name, folder in (("BUILD", build), ("CACHE", tmp_path / "cache"), ("MODELS", tmp_path / "models")):
        monkeypatch.setattr(paths, name, folder)
    return build


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def record(**values):
    return Record(
        lesson="07_toy", title="07 · Toy", profile="tiny", parameters={}, variant="learner", fingerprint="", **values
    )


def test_clean_removes_what_runs_left_and_keeps_the_rest(build):
    lines = clean(build)
    assert left(build) == ["notes.txt", "standins"] and left(build.parent) == ["build", "cache", "models"]
    assert "build/07_toy: 0.5 MB" in lines and lines[-1] == "Freed 2.0 MB. Kept: standins."


def test_clean_takes_pages_and_stand_in_training_only_when_asked_and_models_never(build):
    clean(build, cache=True, everything=True)
    assert left(build) == ["notes.txt"] and left(build.parent) == ["build", "models"]
    assert left(build.parent / "models") == ["weights"]


def test_clean_follows_no_link_out_of_the_build(build):
    (build / "08_link").symlink_to(build.parent / "models")
    clean(build)
    assert left(build.parent / "models") == ["weights"] and not (build / "08_link").is_symlink()


def test_nothing_to_clean_is_no_error(tmp_path):
    assert clean(tmp_path / "nowhere") == ["Freed 0.0 MB."]


def test_a_run_that_is_working_is_not_swept_away(build):
    write_record(build, record(status=RUNNING))
    ran = CliRunner().invoke(main, ["clean"])
    assert ran.exit_code == 1 and "Lesson 07 is running" in ran.output
    assert (build / "07_toy" / "model.bin").exists() and (build / "index.html").exists()


def test_the_list_names_every_lesson_with_minutes_memory_and_status(tmp_path):
    lines = overview(PROFILES["tiny"], tmp_path)
    assert lines[0].split() == ["lesson", "minutes", "memory", "status"]
    seven = next(line for line in lines if line.startswith("07 · "))
    assert f" {PROFILES['tiny'].minutes['07']:g}  " in seven and " GB " in seven and seven.endswith("not run yet")


@pytest.mark.parametrize(
    "status, minutes, words",
    [
        (FINISHED, 5.2, "finished in 5.2 min, tiny"),
        ("failed", 0.5, "failed in 30 s, tiny"),
        ("interrupted", None, "interrupted, tiny"),
    ],
)
def test_the_list_says_how_the_last_run_went(tmp_path, status, minutes, words):
    done = record(status=status, minutes=minutes)
    done.lesson = "07_finetune_qwen3_vl_embedding"
    write_record(tmp_path, done)
    assert any(words in line for line in overview(PROFILES["tiny"], tmp_path))


def test_a_record_that_cannot_be_read_is_said_to_be_so(tmp_path):
    folder = tmp_path / "07_finetune_qwen3_vl_embedding"
    os.makedirs(folder)
    (folder / "run.json").write_text("{")
    assert any(line.endswith("its record cannot be read") for line in overview(PROFILES["tiny"], tmp_path))
    assert clean(tmp_path)[-1].startswith("Freed")
