"""What all figures share: colours that colour-blind readers can tell apart, an interval on every score, one look.

Every plot returns a matplotlib Figure that is drawn but not shown: put it on the last line of a cell to see it, or
give it to `run.figure`. Colours are never the only sign: markers, ticks and words say the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.evaluation import Interval

# Okabe & Ito (2008), "Color Universal Design"
BEFORE, AFTER, RELEVANT, OTHER, DARK = "#E69F00", "#0072B2", "#009E73", "#999999", "#444444"
PAIR = (("before", BEFORE, "o"), ("after", AFTER, "D"))
MARKS = ((AFTER, "D"), (BEFORE, "o"), (RELEVANT, "s"), (OTHER, "^"))  # colour and marker of each series
STYLE = {
    "figure.dpi": 100,
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.labelsize": 11,
    "xtick.labelsize": 10.5,
    "ytick.labelsize": 11,
    "legend.fontsize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "axes.titlelocation": "left",
}
WIDTH = 10.0  # inches
ACROSS = "(0 to 1, higher is better; bars: 95% bootstrap intervals over queries)"


@contextmanager
def canvas(height: float, rows: int = 1, columns: int = 1, **look: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure of the course's look and its axes, `height` inches high, taken from pyplot's list when it is drawn.

    Out of that list, a notebook shows it once, where it is named. `look` is `style`, or what `plt.subplots` takes.
    """
    look = {"figsize": (look.pop("width", WIDTH), height), "layout": "constrained"} | look
    with plt.rc_context(STYLE | look.pop("style", {})):
        fig, axes = plt.subplots(rows, columns, **look)
        try:
            yield fig, axes
        finally:
            plt.close(fig)


def bars(
    axes: Axes, places: Sequence[float], intervals: Sequence[Interval], color: str, marker: str, **look: Any
) -> None:
    """A marker at each mean and a bar along its interval, up the axes; with `across=True` along them."""
    across = look.pop("across", False)
    means = [interval.mean for interval in intervals]
    ends = ([interval.mean - interval.low for interval in intervals], [i.high - i.mean for i in intervals])
    lengths = [[max(0.0, length) for length in end] for end in ends]
    x, y, error = (means, places, "xerr") if across else (places, means, "yerr")
    axes.errorbar(x, y, **{error: lengths, "color": color, "marker": marker, "ms": 7, "lw": 1.8, "capsize": 4} | look)


def point(axes: Axes, interval: Interval, row: float, color: str, marker: str, **look: Any) -> None:
    """One interval in a row of a figure that is read from top to bottom."""
    bars(axes, [row], [interval], color, marker, **{"across": True, "lw": 2, "ls": ""} | look)


def note(axes: Axes, text: str, place: tuple[float, float], offset: tuple[float, float], **look: Any) -> None:
    """A few words beside a point, `offset` away from it."""
    axes.annotate(text, place, offset, textcoords="offset points", **look)


def rows_axis(axes: Axes, labels: Sequence[str], margin: float = 0.5) -> None:
    """Name the rows of a figure that is read from top to bottom."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - margin, margin - 1)
    axes.grid(axis="y", visible=False)


def sizes_axis(axes: Axes, sizes: Sequence[int]) -> None:
    """A horizontal axis in powers of two with a tick for each size."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()


def below(fig: Figure, first: Sequence[str] = (), **look: Any) -> None:
    """One legend below the axes; the labels of `first` come first."""
    labels = dict(zip(*reversed(fig.axes[0].get_legend_handles_labels()), strict=True))
    order = sorted(labels, key=lambda label: label not in first)
    fig.legend([labels[label] for label in order], order, loc="outside lower center", frameon=False, **look)


def need(something: Any, what: str) -> None:
    """Raise CourseError, saying what to give, if there is nothing to draw."""
    if not something:
        raise CourseError(f"There is nothing to draw: give {what}.")
