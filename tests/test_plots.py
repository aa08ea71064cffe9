"""Figures: labels, units, intervals, and marks that do not rely on colour."""

import io

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from course_utils import plots
from course_utils.errors import CourseError
from course_utils.evaluation import Interval

LOW, HIGH = Interval(0.5, 0.45, 0.55, 300), Interval(0.9, 0.87, 0.93, 300)


def texts(fig) -> str:
    """All the words of a figure."""
    return "\n".join(text.get_text() for text in fig.findobj(matplotlib.text.Text))


def bars(axes) -> list[np.ndarray]:
    """End points of the error bars, each (2, 2)."""
    return [segment for lines in axes.collections for segment in lines.get_segments()]


@pytest.fixture
def pages(tmp_path):
    images = [Image.new("L", (224, 288), shade) for shade in (255, 200, 150)]
    images[2].save(tmp_path / "page.png")
    return [images[0], images[1], tmp_path / "page.png"]


def drawings(pages):
    return [
        plots.before_after({"all": (LOW, HIGH)}),
        plots.training_curve([{"loss": 2.0, "step": 1}], [(0, LOW)]),
        plots.by_dimension({64: LOW}, {64: HIGH}),
        plots.gallery("exports of Chad", pages, ["a", "b", "c"], {"b"}),
        plots.pages_row(pages),
    ]


def test_every_figure_can_be_written_and_none_stays_open(pages):
    plt.close("all")
    for fig in drawings(pages):
        fig.savefig(io.BytesIO(), format="png")
        assert fig.get_figwidth() <= 10
    assert plt.get_fignums() == []


def test_plotting_leaves_matplotlib_settings_alone(pages):
    kept = dict(matplotlib.rcParams)
    drawings(pages)
    assert dict(matplotlib.rcParams) == kept


def test_before_after_shows_intervals_values_n_and_references():
    scan = Interval(0.6, 0.5, 0.7, 52)
    fig = plots.before_after({"all": (LOW, HIGH), "scan": (LOW, scan)}, references={"country alone": 0.12})
    words = texts(fig)
    for word in ("NDCG@10", "all\nn=300", "scan\nn=52 and 300", "0.50", "0.90", "0.60", "country alone: 0.12"):
        assert word in words
    assert any(np.allclose(sorted(bar[:, 0]), (0.87, 0.93)) for bar in bars(fig.axes[0]))
    top, bottom = fig.axes[0].get_ylim()[::-1]
    assert top < 0 < 1 < bottom  # the first label is on top


def test_training_curve_has_a_second_panel_only_for_dev_points():
    log = [{"loss": 3.0, "step": 1}, {"eval_dev_cosine_ndcg@10": 0.5, "step": 1}, {"loss": "2.5", "step": 2}]
    alone, both = plots.training_curve(log), plots.training_curve(log, [(2, HIGH), (0, LOW)])
    assert len(alone.axes) == 1 and len(both.axes) == 2
    assert alone.axes[0].lines[0].get_ydata().tolist() == [3.0, 2.5]
    assert "step" in alone.axes[0].get_xlabel() and "loss" in alone.axes[0].get_ylabel()
    assert both.axes[1].lines[0].get_xdata().tolist() == [0, 2]
    assert len(bars(both.axes[1])) == 2
    assert plots.training_curve([], [(0, 0.5), (10, 0.7)]).axes[0].lines[0].get_ydata().tolist() == [0.5, 0.7]


def test_by_dimension_has_a_tick_for_each_size_and_an_interval_for_each_point():
    fig = plots.by_dimension({64: LOW, 192: LOW}, {64: HIGH, 192: HIGH, 128: HIGH})
    axes = fig.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["64", "128", "192"]
    assert len(bars(axes)) == 5
    assert "n=300" in texts(fig)


def test_gallery_marks_relevant_pages_with_words_and_a_thick_border(pages):
    fig = plots.gallery("exports of Chad", pages, ["a", "b", "c"], {"b"}, title="Won", captions=["Chad · exports"] * 3)
    titles = [axes.get_title() for axes in fig.axes]
    assert "✓ relevant" in titles[1] and "✓" not in titles[0] + titles[2]
    assert all("Chad" in title for title in titles)
    width = [axes.spines["left"].get_linewidth() for axes in fig.axes]
    assert width[1] > 3 * width[0]
    assert "exports of Chad" in texts(fig) and "Won" in texts(fig)


def test_the_tick_is_in_the_font():
    from matplotlib.font_manager import findfont, get_font

    assert ord("✓") in get_font(findfont("DejaVu Sans")).get_charmap()


def test_long_captions_are_cut_to_two_lines(pages):
    fig = plots.gallery("q", pages, ["a", "b", "c"], set(), captions=["a country with a very long name " * 9] * 3)
    assert fig.axes[0].get_title().count("\n") == 2 and fig.axes[0].get_title().endswith("…")


def test_nothing_to_draw_gets_a_sentence():
    for draw in (
        lambda: plots.before_after({}),
        lambda: plots.training_curve([]),
        lambda: plots.by_dimension({}, {}),
        lambda: plots.pages_row([]),
    ):
        with pytest.raises(CourseError, match="at least one|train first"):
            draw()
    with pytest.raises(CourseError, match="is missing"):
        plots.pages_row(["no-such-page.png"])
