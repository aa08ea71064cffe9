"""Figures of the lesson on measuring: systems side by side, and how an interval narrows with more queries.

Like those of `plots`, every function returns a matplotlib Figure that is drawn but not shown.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from course_utils import evaluation
from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.results import AFTER, BEFORE, OTHER, RELEVANT, STYLE, WIDTH, _drawn, _errors

MARKS = ((AFTER, "D"), (BEFORE, "o"), (RELEVANT, "s"), (OTHER, "^"))  # colour and marker of each series


def systems(
    scores: Mapping[str, Mapping[str, Interval]], measure: str = "NDCG@10", title: str = "Systems side by side"
) -> Figure:
    """A row for each system, a marker for each slice of the queries, with 95% intervals.

    scores: system to slice to Interval, drawn from top to bottom; every system has the same one to four slices.
    """
    slices = list(next(iter(scores.values()), {}))
    if not 1 <= len(slices) <= len(MARKS) or any(list(row) != slices for row in scores.values()):
        raise CourseError(f"Give every system the same slices, one to {len(MARKS)} of them.")
    with plt.rc_context(STYLE):
        height = 1.7 + len(scores) * (0.25 + 0.25 * len(slices))
        fig, axes = plt.subplots(figsize=(WIDTH, height), layout="constrained")
        for row in range(0, len(scores), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", zorder=0)
        for index, (name, (color, marker)) in enumerate(zip(slices, MARKS)):
            shift = 0.8 / len(slices) * (index - (len(slices) - 1) / 2)
            for row, system in enumerate(scores.values()):
                interval = system[name]
                axes.errorbar(
                    interval.mean,
                    row + shift,
                    xerr=_errors([interval]),
                    color=color,
                    marker=marker,
                    ms=8,
                    capsize=4,
                    lw=2,
                    ls="",
                    label=f"{name}, n={interval.n}" if row == 0 else None,
                )
                axes.annotate(
                    f"{interval.mean:.2f}",
                    (interval.high, row + shift),
                    (9, 0),
                    textcoords="offset points",
                    va="center",
                )
        axes.set_yticks(range(len(scores)), list(scores))
        axes.set_ylim(len(scores) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.09)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{measure} (0 to 1, higher is better; bars: 95% bootstrap intervals over queries)")
        axes.set_title(title)
        fig.legend(loc="outside lower center", ncols=len(slices), frameon=False)
    return _drawn(fig)


def interval_width(
    values: Mapping[str, np.ndarray], difference: float = 0.02, title: str = "How many queries does a difference need?"
) -> Figure:
    """Half the width of a 95% interval by number of queries, one line for each label, both axes logarithmic.

    values: label to the per-query values (q,) whose mean the interval is of: scores, or differences of scores.
    Lines are 1.96 times their standard deviation over the root of the number of queries; the markers are
    bootstrap intervals at the number of queries that there are. `difference` is drawn as a dotted line.
    """
    if not values or len(values) > len(MARKS):
        raise CourseError(f"Give the per-query values of one to {len(MARKS)} comparisons.")
    fewest = min(30, *(len(each) for each in values.values()))
    sizes = np.geomspace(fewest, 30_000, 50)
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
        for (label, each), (color, marker) in zip(values.items(), MARKS):
            interval = evaluation.bootstrap(each)
            axes.plot(sizes, 1.96 * np.std(each) / np.sqrt(sizes), color=color, lw=1.8)
            half = (interval.high - interval.low) / 2
            axes.plot(interval.n, half, color=color, marker=marker, ms=9, ls="-", lw=1.8, label=label)
        axes.axhline(difference, color="#444444", linestyle=":", lw=1.6, label=f"a difference of {difference}")
        axes.set(
            xscale="log",
            yscale="log",
            xlabel="queries (logarithmic scale)",
            ylabel="half of the 95% interval,\nin units of NDCG@10 (log scale)",
            title=title,
        )
        for axis, ticks in (
            (axes.xaxis, (30, 100, 300, 1000, 3000, 10_000, 30_000)),
            (axes.yaxis, (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)),
        ):
            axis.set_ticks(ticks, [f"{tick:,}" for tick in ticks])
            axis.set_ticks([], minor=True)
        axes.legend(frameon=False, loc="upper right")
    return _drawn(fig)
