"""Figures of the comparison: labels, units, intervals, published figures told apart from measured ones."""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from course_utils import plots
from course_utils.errors import CourseError
from course_utils.evaluation import Interval

LOW, HIGH = Interval(0.5, 0.45, 0.55, 300), Interval(0.9, 0.87, 0.93, 300)
GAIN = Interval(0.4, 0.3, 0.5, 4)


def drawings():
    return [
        plots.by_budget({16: LOW, 63: HIGH}, {16: [1.0, 1.2], 63: [3.0]}, 63),
        plots.size_and_score({"ours": (6e6, LOW)}, {"published: 2B": (2e9, 0.947)}),
        plots.gains([0.0, 0.5, 1.0, 0.2], [1.0, 0.5, 0.0, 0.3], GAIN),
        plots.shares({"right": (LOW, HIGH), "wrong": (HIGH, LOW)}, "Rank 1"),
        plots.chance(np.linspace(-0.1, 0.1, 50), GAIN),
    ]


def texts(fig):
    return "\n".join(text.get_text() for text in fig.findobj(matplotlib.text.Text))


def test_every_figure_can_be_written_and_none_stays_open():
    plt.close("all")
    for fig in drawings():
        fig.savefig(io.BytesIO(), format="png")
        assert fig.get_figwidth() <= 10
    assert plt.get_fignums() == []


def test_every_axis_says_what_it_shows_and_every_figure_how_sure_it_is():
    for fig in drawings():
        for axes in fig.axes:
            assert axes.get_xlabel() and axes.get_title(loc="left")
            assert axes.get_ylabel() or axes.get_yticklabels()
        assert "95%" in texts(fig) and "n=" in texts(fig)


def test_published_figures_are_hollow_and_named_as_such():
    fig = plots.size_and_score({"ours": (6e6, LOW)}, {"published: 2B": (2e9, 0.947)})
    hollow = [line for line in fig.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [list(line.get_ydata()) for line in hollow] == [[0.947]]
    assert "published: 2B: 0.947" in texts(fig) and "without intervals" in texts(fig)


def test_won_and_lost_queries_are_counted():
    fig = plots.gains([0.0, 0.5, 1.0, 0.2], [1.0, 0.5, 0.0, 0.3], GAIN)
    assert {"won: 2", "lost: 1", "as before: 1"} <= set(texts(fig).splitlines())


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.by_budget({}, {}, 63),
        lambda: plots.size_and_score({}, {}),
        lambda: plots.gains([], [], GAIN),
        lambda: plots.shares({}, ""),
        lambda: plots.chance([], GAIN),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(CourseError, match="nothing to draw"):
        draw()
