"""Figures: labels, units, intervals, and marks that do not rely on colour."""

import io
import re

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from course_utils import plots
from course_utils.errors import CourseError
from course_utils.evaluation import Interval

LOW, HIGH = Interval(0.5, 0.45, 0.55, 300), Interval(0.9, 0.87, 0.93, 300)
GAIN = Interval(0.4, 0.3, 0.5, 4)
PAGES = [Image.new("L", (224, 288), shade) for shade in (255, 200, 150)]
COSTS = pd.DataFrame({"pixels": [16_000, 64_000], "image tokens": [12, 63], "ms a page": [3.0, 11.0]})
WITH_INTERVALS = {
    "before_after": lambda: plots.before_after({"all": (LOW, HIGH)}),
    "by_budget": lambda: plots.by_budget({16: LOW, 63: HIGH}, {16: [1.0, 1.2], 63: [3.0]}, 63),
    "by_bytes": lambda: plots.by_bytes({"float32": {64: LOW, 768: HIGH}, "int8": {16: LOW}}),
    "by_depth": lambda: plots.by_depth({0: LOW, 50: HIGH}, {0: 0.0, 50: 1.0}, {0: 0.9, 50: 0.95}),
    "by_dimension": lambda: plots.by_dimension({64: LOW}, {64: HIGH}),
    "chance": lambda: plots.chance(np.linspace(-0.1, 0.1, 50), GAIN),
    "forest": lambda: plots.forest({"all": GAIN, "scan": Interval(0.0, -0.1, 0.1, 4)}),
    "gains": lambda: plots.gains([0.0, 0.5, 1.0, 0.2], [1.0, 0.5, 0.0, 0.3], GAIN),
    "shares": lambda: plots.shares({"right": (LOW, HIGH), "wrong": (HIGH, LOW)}, "Rank 1"),
    "size_and_score": lambda: plots.size_and_score({"ours": (6e6, LOW)}, {"published: 2B": (2e9, 0.947)}),
    "systems": lambda: plots.systems({name: {"text": LOW, "scan": HIGH} for name in ("bm25", "before")}),
}
TRIAL = {
    f"ndcg@10/{when}{kind}{end}": 0.5
    for when in ("before", "after")
    for kind in ("", "/unseen-natural", "/unseen-wording")
    for end in ("", "/low", "/high")
}
OTHERS = {
    "by_batch_size": lambda: plots.by_batch_size({"plain": {16: 1500, 128: 5000}, "cached": {16: 1200}}, 1000),
    "by_vectors": lambda: plots.by_vectors({"exact": {1500: 0.2, 100_000: 9.0}, "index": {1500: 3.0}}),
    "by_wordings": lambda: plots.by_wordings({9: TRIAL, 50: TRIAL}),
    "by_pages": lambda: plots.by_pages({"float32": [(1e3, 1.0), (1e8, 1e5)]}, "dollars a month", "Cost"),
    "clouds": lambda: plots.clouds({"queries": np.eye(4, dtype=np.float16), "pages": -np.eye(4)}),
    "cost_of_pixels": lambda: plots.cost_of_pixels(COSTS),
    "gallery": lambda: plots.gallery("exports of Chad", PAGES, ["a", "b", "c"], {"b"}),
    "pages_row": lambda: plots.pages_row(PAGES),
    "similarity_matrix": lambda: plots.similarity_matrix(np.eye(3, 6), ["a", "b", "c" * 60]),
    "timeline": lambda: plots.timeline(pd.DataFrame({"worker": [7, 9], "began": [1.0, 2.0], "ended": [2.0, 3.5]})),
    "training_curve": lambda: plots.training_curve([{"loss": 2.0, "step": 1}], [(0, 0.5)]),
}
DRAWINGS = WITH_INTERVALS | OTHERS


def texts(fig) -> str:
    """All the words of a figure."""
    return "\n".join(text.get_text() for text in fig.findobj(matplotlib.text.Text))


def bars(axes) -> list[np.ndarray]:
    """End points of the error bars, each (2, 2)."""
    return [segment for lines in axes.collections for segment in lines.get_segments()]


def test_every_plot_is_tried_here():
    assert set(DRAWINGS) == set(plots.__all__)


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_can_be_written_and_changes_nothing_else(name):
    settings, open_figures = dict(matplotlib.rcParams), plt.get_fignums()
    fig = DRAWINGS[name]()
    fig.savefig(io.BytesIO(), format="png")
    assert fig.get_figwidth() <= 10
    assert plt.get_fignums() == open_figures and dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("name", WITH_INTERVALS)
def test_a_score_is_drawn_with_labels_intervals_and_n(name):
    fig = WITH_INTERVALS[name]()
    for axes in fig.axes:
        assert axes.get_xlabel() and axes.get_title(loc="left")
        assert axes.get_ylabel() or any(re.search("[a-z]", label.get_text()) for label in axes.get_yticklabels())
    assert "95%" in texts(fig) and "n=" in texts(fig)


def test_before_after_shows_intervals_values_n_and_references():
    scan = Interval(0.6, 0.5, 0.7, 52)
    fig = plots.before_after({"all": (LOW, HIGH), "scan": (LOW, scan)}, {"country alone": 0.12})
    assert {"all", "n=300", "n=52 and 300", "0.50", "0.90", "country alone: 0.12"} <= set(texts(fig).splitlines())
    assert any(np.allclose(sorted(bar[:, 0]), (0.87, 0.93)) for bar in bars(fig.axes[0]))
    top, bottom = fig.axes[0].get_ylim()[::-1]
    assert top < 0 < 1 < bottom  # the first label is on top


def test_training_curve_has_a_second_panel_only_for_dev_points():
    log = [{"loss": 3.0, "step": 1}, {"eval_dev_cosine_ndcg@10": 0.5, "step": 1}, {"loss": "2.5", "step": 2}]
    (alone,), (_, dev) = plots.training_curve(log).axes, plots.training_curve(log, [(2, 0.9), (0, 0.5)]).axes
    assert alone.lines[0].get_ydata().tolist() == [3.0, 2.5]
    assert dev.lines[0].get_xydata().tolist() == [[0, 0.5], [2, 0.9]]


def test_gallery_marks_relevant_pages_with_words_and_a_thick_border():
    fig = plots.gallery("exports of Chad", PAGES, ["a", "b", "c"], {"b"}, captions=["very long " * 30, "Chad", ""])
    assert ["✓" in axes.get_title() for axes in fig.axes] == [False, True, False]
    width = [axes.spines["left"].get_linewidth() for axes in fig.axes]
    assert width[1] > 3 * width[0]


def test_two_clouds_that_lie_apart_are_drawn_apart_with_their_centroids():
    rng = np.random.default_rng(0)
    left, right = rng.normal(0, 0.1, (30, 8)), rng.normal(0, 0.1, (40, 8))
    left[:, 3] -= 5
    (axes,) = plots.clouds({"queries": left, "pages": right}).axes
    a, _, b, _ = [np.asarray(points.get_offsets()) for points in axes.collections]
    assert (len(a), len(b)) == (30, 40) and abs(a[:, 0].mean() - b[:, 0].mean()) > 4
    assert abs(a[:, 1].mean() - b[:, 1].mean()) < 0.5


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.clouds({"queries": np.zeros((1, 4)), "pages": np.eye(4)}),
        lambda: plots.cost_of_pixels(COSTS[:1]),
        lambda: plots.pages_row(["no-such-page.png"]),
        lambda: plots.similarity_matrix(np.eye(2), ["a"]),
        lambda: plots.systems({"a": {"all": LOW}, "b": {"scan": LOW}}),
        lambda: plots.training_curve([]),
    ],
)
def test_what_cannot_be_drawn_gets_a_sentence(draw):
    with pytest.raises(CourseError):
        draw()
