"""Lesson 12: what it reads, keeps, measures and serves, and that no test document reaches a training."""

import re

import numpy as np
import pandas as pd
import pytest
from executed import functions_of, output_text, readme_figures

COLLECTIONS = ("reports", "manual")
SYSTEMS = ("bm25", "minilm", "page", "fusion")


@pytest.fixture(scope="module")
def defined():
    """The functions that the lesson's notebook defines, by name."""
    return functions_of("12_your_own_documents", np=np, pd=pd, re=re, rng=np.random.default_rng(0))


# --- functions of the notebook ---


def table(documents, chapter=0):
    """Pages of documents: name to number of pages."""
    rows = [(f"{name}-{k}", name, k, chapter * (k // 3)) for name, count in documents.items() for k in range(count)]
    return pd.DataFrame(rows, columns=["id", "document", "page", "chapter"]).set_index("id")


@pytest.mark.parametrize(
    ("pages", "asked"),
    [
        (table({name: 3 for name in "abcdef"}), [("q", "b-1"), ("r", "e-0")]),
        (table({name: 3 for name in "abcdef"}), []),
        (table({"a": 40}, chapter=1), [("q", "a-7")]),
        (table({"a": 40}), []),
        (table({"a": 1}), []),
    ],
)
def test_a_split_keeps_groups_whole_and_tests_on_what_is_asked(defined, pages, asked):
    test, train = defined["split"](pages, asked)
    assert len(test) + len(train) == len(pages) and not set(test.index) & set(train.index)
    assert len(test) and {page for _, page in asked} <= set(test.index)
    assert len(train) or len(pages) == 1
    if pages["document"].nunique() >= 4:
        assert not set(test["document"]) & set(train["document"])
    elif pages["chapter"].nunique() >= 4:
        assert not set(test["chapter"]) & set(train["chapter"])
    elif len(pages) > 10:
        assert not set(test["page"] // 10) & set(train["page"] // 10)


def test_queries_come_from_titles_without_numbers_and_else_from_headings(defined):
    pages = pd.DataFrame(
        {
            "titles": [["3.2 Using the quilt", "git"], [], []],
            "heading": ["ignored one", "Chapter 4 Simple example", ""],
        },
        index=["a", "b", "c"],
    )
    assert defined["written"](pages) == [("Using the quilt", "a", "outline"), ("Simple example", "b", "heading")]


# --- the lesson ---


def test_lesson_12_reads_every_page_of_both_collections(metrics):
    assert metrics["pages/manual"] == 143 and metrics["pages/reports"] > 2000
    assert metrics["pages"] == metrics["pages/manual"] + metrics["pages/reports"]
    assert metrics["pages/refused"] == 0


def test_lesson_12_names_the_bad_files_that_it_made(ran):
    said = output_text(ran[0]) + str([out for cell in ran[0].cells for out in cell.get("outputs", [])])
    assert "half.pdf" in said and "photo.pdf" in said


def test_lesson_12_filters_throw_some_queries_away_and_keep_most(metrics):
    assert 0.3 * metrics["queries/synthetic"] < metrics["queries/kept"] < metrics["queries/synthetic"]


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_lesson_12_every_score_has_an_interval(metrics, system, collection):
    name = f"ndcg@10/{system}/{collection}/before"
    assert {f"{name}/low", f"{name}/high"} <= metrics.keys()


def test_lesson_12_the_manual_s_pool_is_judged(metrics):
    assert metrics["unjudged/manual"] < 0.05


def test_lesson_12_finetuning_cuts_the_page_model_s_error_on_reports_by_two_fifths(metrics):
    assert metrics["error-cut/page/reports"] >= 0.4
    assert metrics["ndcg@10/gain/page/reports/low"] > 0


def test_lesson_12_the_stand_in_cannot_read_the_manual_and_text_systems_can(metrics):
    best = max(metrics[f"ndcg@10/{system}/manual/before/low"] for system in ("bm25", "minilm"))
    assert metrics["ndcg@10/page/manual/before/high"] < best


def test_lesson_12_minilm_is_trained_on_the_manual_and_its_gain_is_told(metrics):
    gain = metrics["ndcg@10/minilm/manual/after"] - metrics["ndcg@10/minilm/manual/before"]
    assert metrics["ndcg@10/gain/minilm/manual"] == pytest.approx(gain)
    assert gain != 0, "MiniLM was not trained"


def test_lesson_12_a_pdf_is_added_alone_and_removed_without_a_trace(metrics):
    assert 0 < metrics["served/added"] == metrics["served/removed"] < metrics["served/pages"]
    assert metrics["served/traces"] == 0


def test_the_readme_gives_lesson_12_s_scores(metrics):
    before, after = readme_figures("lesson 12's")[0:4:3]
    assert before == pytest.approx(metrics["ndcg@10/page/reports/before"], abs=0.01)
    assert after == pytest.approx(metrics["ndcg@10/page/reports/after"], abs=0.02)
