"""The cell for Colab and Kaggle fetches the course there, does nothing elsewhere, and leaves the platform's torch."""

import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from course_utils import hosted
from course_utils.errors import CourseError
from course_utils.paths import NOTEBOOKS
from course_utils.runner import setup_check
from course_utils.runner.lessons import find_lessons
from course_utils.runner.platforms import launch_links, platform_cell, setting

ADDRESS, VERSION = setting()
PREPARE = 'def prepare(profile):\n    print("prepared", profile)\n    return "t4"\n'


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own on a pretended Colab, and a repository with the tag; the function runs the cell there."""
    repository = tmp_path / "repository"
    (repository / "course_utils").mkdir(parents=True)
    (repository / "course_utils" / "__init__.py").touch()
    (repository / "course_utils" / "hosted.py").write_text(PREPARE, encoding="utf-8")
    git = ["git", "-C", str(repository), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"], ["tag", VERSION]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    (tmp_path / "content").mkdir()

    def run(address=None):
        address = repository.as_uri() if address is None else address
        source = platform_cell().source.replace(f'"{ADDRESS}", "{VERSION}"', f'"{address}", "{VERSION}"')
        code = f'PROFILE = "tiny"\n{source}\nprint("then", PROFILE)'
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path / "content", capture_output=True, encoding="utf-8", timeout=60)

    run.folder = tmp_path / "content"
    return run


def test_every_notebook_has_the_cell_after_its_parameters():
    for lesson in find_lessons(NOTEBOOKS):
        sources = [cell["source"] for cell in lesson.cells()]
        assert sources.index(platform_cell().source) == 2, lesson.name


def test_on_a_platform_the_cell_gets_the_course_at_its_tag_and_takes_the_profile(elsewhere):
    for _ in range(2):  # the second time the course is there
        done = elsewhere()
        assert done.stdout.split() == ["prepared", "tiny", "then", "t4"], done.stderr
    assert sorted(path.name for path in elsewhere.folder.iterdir()) == ["course"]


def test_a_download_that_fails_is_one_sentence_and_leaves_no_half_of_the_course(elsewhere):
    (elsewhere.folder / "course.part").mkdir()
    done = elsewhere("file:///no/such/place")
    assert done.returncode == 1 and done.stderr.splitlines()[-1].startswith("The course could not be fetched")
    assert list(elsewhere.folder.iterdir()) == []
    assert "address" in elsewhere("").stderr


def test_elsewhere_the_cell_does_nothing(elsewhere, monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG")
    assert elsewhere().stdout.split() == ["then", "tiny"] and list(elsewhere.folder.iterdir()) == []


@pytest.fixture
def platform(monkeypatch):
    """What a platform has installed, by name; the packages that are not named are missing."""
    found = {pin.name: str(pin.specifier)[2:] for pin in hosted.pins()}
    found |= {"torch": "2.11.0+cu126", "numpy": "2.1.0", "pandas": "2.2.2", "transformers": "4.57.0"}
    del found["sentence-transformers"], found["ruff"]
    monkeypatch.setattr(hosted, "installed", lambda name: found.get(name, ""))
    return found


def test_only_what_is_missing_or_too_old_is_installed_and_as_pinned(platform):
    names = [Requirement(line).name for line in hosted.missing()]
    assert names == ["sentence-transformers", "transformers"]
    pins = {Requirement(line).name: str(Requirement(line).specifier) for line in hosted.constraints()}
    assert pins["torch"] == "==2.11.0+cu126" and pins["numpy"] == "==2.1.0"  # the platform's stay
    assert pins["sentence-transformers"].startswith("==") and pins["pandas"].startswith("<=")


def test_the_profile_is_t4_where_a_gpu_of_its_size_is_and_a_chosen_one_stays(platform, monkeypatch, capsys):
    def install(wanted, pins):
        platform.update({Requirement(line).name: str(Requirement(line).specifier)[2:] for line in wanted})

    monkeypatch.setattr(hosted, "_stale", lambda before: [])
    monkeypatch.setattr(setup_check, "gpu", lambda: ("Tesla T4", 16.0))
    assert hosted.prepare("tiny", install) == "t4" and hosted.prepare("full", install) == "full"
    assert "torch 2.11.0+cu126 is the platform's" in capsys.readouterr().out
    monkeypatch.setattr(setup_check, "gpu", lambda: ("", 0.0))
    assert hosted.prepare("tiny", install) == "tiny"


def test_an_installation_that_left_something_out_or_replaced_what_is_loaded_says_so(platform, monkeypatch):
    with pytest.raises(CourseError, match="sentence-transformers.*restart"):
        hosted.prepare("tiny", lambda wanted, pins: None)

    def install(wanted, pins):
        platform.update({Requirement(line).name: str(Requirement(line).specifier)[2:] for line in wanted})
        platform["pandas"] = "2.3.0"

    import pandas  # noqa: F401  (loaded in this session)

    with pytest.raises(CourseError, match="pandas.*restart"):
        hosted.prepare("tiny", install)


def test_a_lesson_opens_at_its_tag_where_the_setting_names_a_repository_and_nowhere_else():
    links = launch_links("07_x.ipynb", "https://github.com/owner/name", "v1.0")
    assert set(links) == {"Colab", "Kaggle", "Binder"}
    assert all("owner/name" in link and "v1.0" in link and "07_x.ipynb" in link for link in links.values())
    assert launch_links("07_x.ipynb", "", "v1.0") == {}
