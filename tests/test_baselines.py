"""Readers who know too little, and the figures that show systems side by side."""

import numpy as np
import pandas as pd
import pytest

from course_utils import baselines, evaluation, plots
from course_utils.errors import CourseError
from course_utils.evaluation import Interval


@pytest.fixture
def world():
    """Four countries by three topics; one query with one relevant page, one with two."""
    table = pd.DataFrame([{"page_id": f"{c}{t}", "country": c, "topic": t} for c in "ABCD" for t in "xyz"]).set_index(
        "page_id"
    )
    return table, {"q0": {"Ax"}, "q1": {"Bx", "By"}}


def test_ceilings_are_the_expected_scores_of_readers_who_guess(world):
    table, relevant = world
    found = baselines.ceilings(["q0", "q1"], relevant, list(table.index), table)
    assert list(found) == ["random", "topic-only", "country-only"]
    weights = evaluation.discounts(10)
    assert found["random"][0] == pytest.approx(weights.sum() / 12)
    assert found["topic-only"][0] == pytest.approx(weights[:4].mean())
    assert found["country-only"][0] == pytest.approx(weights[:3].mean())
    assert found["country-only"][1] == pytest.approx(weights[:3].sum() * 2 / 3 / weights[:2].sum())


def test_ceilings_follow_the_corpus_and_not_the_order_of_the_table(world):
    table, relevant = world
    pages = list(table.index)[::-1]
    there, back = (baselines.ceilings(["q0"], relevant, ids, table) for ids in (list(table.index), pages))
    assert all(np.array_equal(there[name], back[name]) for name in there)
    fewer = baselines.ceilings(["q0"], relevant, ["Ax", "Bx"], table)
    assert fewer["country-only"] == pytest.approx([1.0])


def test_without_a_table_there_is_only_chance(world):
    table, relevant = world
    assert list(baselines.ceilings(["q0"], relevant, list(table.index))) == ["random"]


def test_a_judged_page_outside_the_corpus_is_named(world):
    table, relevant = world
    with pytest.raises(CourseError, match="'Ax'"):
        baselines.ceilings(["q0"], relevant, ["Bx", "By"], table)


def test_systems_are_drawn_with_a_row_each_an_interval_each_and_the_size_of_every_slice():
    scores = {
        name: {"text": Interval(0.5, 0.4, 0.6, 228), "scan": Interval(0, 0, 0, 72)} for name in ("bm25", "before")
    }
    fig = plots.systems(scores)
    axes = fig.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["bm25", "before"]
    assert "NDCG@10" in axes.get_xlabel() and "95%" in axes.get_xlabel()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["text, n=228", "scan, n=72"]


def test_systems_with_different_slices_are_refused():
    one = Interval(0.5, 0.4, 0.6, 10)
    for scores in ({}, {"a": {}}, {"a": {"all": one}, "b": {"scan": one}}):
        with pytest.raises(CourseError, match="same slices"):
            plots.systems(scores)


def test_an_interval_narrows_with_the_root_of_the_number_of_queries():
    values = np.random.default_rng(0).random(300)
    axes = plots.interval_width({"a pair": values}, difference=0.02).axes[0]
    line, marker = axes.get_lines()[:2]
    x, y = line.get_xdata(), line.get_ydata()
    assert y[0] / y[-1] == pytest.approx(np.sqrt(x[-1] / x[0]))
    assert marker.get_xdata()[0] == 300
    assert marker.get_ydata()[0] == pytest.approx(1.96 * values.std() / np.sqrt(300), rel=0.05)
    assert axes.get_lines()[2].get_ydata()[0] == 0.02
    with pytest.raises(CourseError, match="one to"):
        plots.interval_width({})
