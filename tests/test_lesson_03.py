"""Lesson 03: visual document data."""

import pytest
from executed import assert_every_cell_ran_in_order, output_text

from course_utils.paths import NOTEBOOKS, SOLUTIONS

NAME = "03_visual_document_data"


@pytest.fixture(scope="session")
def lesson_03(execute):
    return execute(SOLUTIONS / f"{NAME}.ipynb")


def test_lesson_03_runs_every_cell_and_passes_its_own_checks(lesson_03):
    notebook, found = lesson_03
    assert_every_cell_ran_in_order(notebook)
    assert "✗" not in output_text(notebook) and output_text(notebook).count("✓") == 2
    assert set(found["figures"]) == {"negatives"} and found["metrics"]["rows"] == 256


def test_article_the_column_rule_is_order_and_every_other_column_is_a_negative(lesson_03):
    text, metrics = output_text(lesson_03[0]), lesson_03[1]["metrics"]
    assert metrics["columns/as-it-should-be"] == metrics["columns/image-before-query"] == 3
    assert metrics["columns/a-stray-column"] == 4, "a stray column reaches the loss"
    assert metrics["columns/a-column-called-label"] == 3, "a column called label does not"
    assert "Column 'query' is at index 1" in text and "images not decoded: ValueError" in text


def test_article_the_collator_makes_tensors_of_pages_with_preprocess(lesson_03):
    metrics = lesson_03[1]["metrics"]
    assert metrics["patches"] == 4 * metrics["tokens/image"] == 252
    assert "pixel_values           (252, 1536)" in output_text(lesson_03[0])


def test_lesson_03_finds_the_copy_and_the_planted_leak_and_no_other(lesson_03):
    metrics = lesson_03[1]["metrics"]
    assert (metrics["copies/found"], metrics["leaked/found"], metrics["leaked/planted-found"]) == (1, 0, 1)


def test_lesson_03_mining_brings_the_copy_and_judgements_or_a_margin_throw_it_out(lesson_03):
    metrics = lesson_03[1]["metrics"]
    assert metrics["mined"] > 200 and metrics["mined/false"] >= 1
    assert metrics["mined/false/after-margin"] == 0


def test_lesson_03_random_and_mined_negatives_are_compared_with_an_interval(lesson_03):
    metrics = lesson_03[1]["metrics"]
    for name in ("before", "random", "mined"):
        assert (
            0
            <= metrics[f"ndcg@10/dev/{name}/low"]
            <= metrics[f"ndcg@10/dev/{name}"]
            <= metrics[f"ndcg@10/dev/{name}/high"]
            <= 1
        )
    gain = metrics["ndcg@10/dev/gain-of-mining"]
    assert gain == pytest.approx(metrics["ndcg@10/dev/mined"] - metrics["ndcg@10/dev/random"])
    assert metrics["ndcg@10/dev/random"] != metrics["ndcg@10/dev/before"], "nothing was trained"


def test_lesson_03_pages_at_reading_size_and_paths_are_cheaper(lesson_03):
    metrics = lesson_03[1]["metrics"]
    assert metrics["seconds/preprocess/as-scanned"] > metrics["seconds/preprocess/as-the-model-reads"]
    assert metrics["seconds/sampler/images-no-duplicates"] > metrics["seconds/sampler/paths-no-duplicates"]


def test_lesson_03_for_learners_runs_on_few_rows_with_its_exercises_blank(execute):
    notebook, found = execute(NOTEBOOKS / f"{NAME}.ipynb", ROWS=16)
    assert_every_cell_ran_in_order(notebook)
    assert "✓" not in output_text(notebook) and output_text(notebook).count("✗") == 2, "a blank stub passed its check"
    assert found["metrics"]["rows"] == 16
