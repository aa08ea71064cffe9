"""Lesson 00 runs offline, checks the machine and shows the end first."""

import pytest
from executed import assert_every_cell_ran_in_order, output_text

from course_utils.paths import NOTEBOOKS, SOLUTIONS


@pytest.fixture(scope="module")
def lesson_00(execute):
    """The solution of lesson 00, run once in full."""
    return execute(SOLUTIONS / "00_start_here.ipynb")


def test_lesson_00_runs_every_cell_and_passes_its_own_checks(lesson_00):
    notebook, found = lesson_00
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") == 2
    assert {"top_five_before", "top_five_after", "before_after"} == set(found["figures"])


def test_lesson_00_finds_this_machine_ready(lesson_00):
    notebook, found = lesson_00
    assert found["metrics"]["checks/fail"] == 0, output_text(notebook)
    assert found["metrics"]["checks/ok"] >= 8
    assert "Ready" in output_text(notebook)


def test_lesson_00_shows_a_gain_over_all_the_test_pages_with_intervals(lesson_00):
    metrics = lesson_00[1]["metrics"]
    assert (metrics["queries"], metrics["pages"]) == (300, 1500)
    assert (
        0
        <= metrics["ndcg@10/before/low"]
        <= metrics["ndcg@10/before"]
        < metrics["ndcg@10/after"]
        <= metrics["ndcg@10/after/high"]
        <= 1
    )
    assert metrics["ndcg@10/gain/low"] > 0


def test_lesson_00_says_whose_vectors_it_shows(lesson_00):
    notebook, found = lesson_00
    label = "precomputed" if found["metrics"]["precomputed"] else "your own, from lesson 07"
    assert f"vectors: {label}" in output_text(notebook)


def test_lesson_00_for_learners_runs_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / "00_start_here.ipynb", ROWS=50)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") >= 2, "a blank stub passed its check"
    assert 0 <= found["metrics"]["ndcg@10/before"] <= 1
