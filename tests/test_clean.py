"""`course clean` removes what runs left and nothing else."""

import pytest
from click.testing import CliRunner

from course_utils import paths
from course_utils.runner.clean import clean
from course_utils.runner.cli import main


@pytest.fixture
def build(tmp_path, monkeypatch):
    """A build folder with a run, a training of stand-ins and a file of the learner's own; a cache; models."""
    build = tmp_path / "build"
    inside = [
        "07_toy/model.bin",
        "07_toy.ipynb",
        "07_toy.html",
        "index.html",
        "book/html/index.html",
        "standins/weights",
        "judgements/manual.csv",
        "notes.txt",
    ]
    for path in (*(build / name for name in inside), tmp_path / "cache" / "page.png", tmp_path / "models" / "weights"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 500_000)
    monkeypatch.setattr(paths, "BUILD", build)
    monkeypatch.setattr(paths, "CACHE", tmp_path / "cache")
    return build


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_clean_removes_results_and_pages_and_says_that_it_keeps_what_takes_hours_or_hands(build):
    ran = CliRunner().invoke(main, ["clean"])
    assert ran.exit_code == 0 and "07_toy" in ran.output
    assert all(str(build / name) in ran.output for name in ("standins", "judgements"))
    assert left(build) == ["judgements", "notes.txt", "standins"] and left(build.parent) == ["build", "models"]


def test_clean_follows_no_link_out_of_the_build(build):
    try:
        (build / "08_link").symlink_to(build.parent / "models")
    except OSError:
        pytest.skip("this system lets this user make no links")
    clean(build, build.parent / "cache")
    assert left(build.parent / "models") == ["weights"] and not (build / "08_link").is_symlink()


def test_nothing_to_clean_is_no_error(tmp_path):
    assert "nothing" in clean(tmp_path / "nowhere", tmp_path / "nothing")
