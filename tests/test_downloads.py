"""`course check --profile full` says what will be downloaded, what is there already, whether it fits, and how long it takes."""

import shutil
from collections import namedtuple

import pytest

from course_utils.paths import SOLUTIONS
from course_utils.profiles import PROFILES, PUBLISHED_DATA
from course_utils.runner import downloads as module
from course_utils.runner import setup_check
from course_utils.runner.downloads import EXPECTED, Download, downloads
from course_utils.runner.lessons import find_lessons
from course_utils.runner.setup_check import FAIL, OK, check_setup

FULL = PROFILES["full"]


@pytest.fixture(autouse=True)
def empty_cache_and_no_hub(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(setup_check, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(setup_check, "hub_answers", lambda seconds=0: False)


def finding(name, profile="full"):
    return next(found for found in check_setup(profile) if found.name == name)


def test_every_published_name_has_a_size_and_says_where_it_comes_from():
    for profile in (PROFILES["t4"], FULL):
        found = {one.name: one for one in downloads(profile, ask=False)}
        assert set(found) == set(EXPECTED)
        assert all(one.source.split(":")[0] in ("computed", "published", "measured") for one in found.values())
        assert 4.0e9 < found[profile.embedder].size < 4.6e9 and 1e10 < found[PUBLISHED_DATA].size < 1.2e10
    assert downloads(PROFILES["tiny"], ask=False) == []


def test_the_hubs_own_figure_comes_first_and_without_an_answer_there_is_another(monkeypatch):
    monkeypatch.setattr(module, "_published_size", lambda name, kind: 7_000_000_000 if kind == "dataset" else None)
    found = {one.name: one for one in downloads(FULL, ask=True)}
    assert (found[PUBLISHED_DATA].size, found[PUBLISHED_DATA].source) == (
        7_000_000_000,
        "published: the Hub's own figure",
    )
    assert found[FULL.embedder].source.startswith("computed")


def test_what_is_in_the_cache_is_not_fetched_again(monkeypatch):
    monkeypatch.setattr(
        module, "_cached", lambda: {("model", FULL.embedder): 4_250_000_000, ("dataset", PUBLISHED_DATA): 3_000_000_000}
    )
    found = {one.name: one for one in downloads(FULL, ask=False)}
    assert found[FULL.embedder].left == 0 and str(found[FULL.embedder]).endswith("in the cache")
    assert found[PUBLISHED_DATA].left == found[PUBLISHED_DATA].size - 3_000_000_000
    assert found[FULL.reranker].left == found[FULL.reranker].size and str(found[FULL.reranker]).endswith("to fetch")


def test_check_names_everything_that_full_downloads_and_tiny_downloads_nothing():
    text = finding("download").text
    assert all(name in text for name in EXPECTED) and "GB to fetch" in text
    assert "download" not in [found.name for found in check_setup("tiny")]


def test_too_small_a_disk_for_the_cache_fails_and_says_what_to_set(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(200e9))
    assert finding("room").status == OK
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(20e9))
    assert finding("room").status == FAIL and "HF_HOME" in finding("room").mend


def test_the_minutes_are_those_of_the_lessons_first_cells_and_say_that_they_are_estimates():
    text = finding("minutes").text
    assert "07: 180" in text and "estimates" in text and "computed" in text
    assert find_lessons(SOLUTIONS, ["07"])[0].minutes("t4") == 120


def test_nearly_all_of_a_repository_is_all_that_is_used():
    assert Download("org/name", 100, 95, "").left == 0
    assert Download("org/name", 100, 50, "").left == 50
