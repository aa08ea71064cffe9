"""Figures of the lesson on batch size and memory.

Like those of `plots`, every function returns a matplotlib Figure that is drawn but not shown.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.results import AFTER, BEFORE, OTHER, RELEVANT, STYLE, WIDTH, _drawn, _errors

LINES = ((BEFORE, "o", "-"), (AFTER, "D", "-"), (RELEVANT, "s", "--"), ("#CC79A7", "^", "--"))


def similarity_matrix(similarity, queries: Sequence[str], title: str = "Who competes with whom") -> Figure:
    """Cosines of queries (rows) and pages (columns), shape (q, n); column k is row k's own page, and has a border."""
    values = np.asarray(similarity, dtype=float)
    if values.ndim != 2 or not 0 < len(values) == len(queries) <= values.shape[1]:
        raise CourseError(
            f"Give one row for each of the {len(queries)} queries and at least as many pages; this is {values.shape}."
        )
    with plt.rc_context(STYLE | {"axes.grid": False}):
        fig, axes = plt.subplots(figsize=(WIDTH, 1.6 + 0.42 * len(values)), layout="constrained")
        picture = axes.imshow(values, cmap="cividis", aspect="auto")
        for k in range(len(values)):
            axes.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor="white", lw=3))
        if len(values) < values.shape[1]:
            axes.axvline(len(values) - 0.5, color="white", lw=3)
        axes.set_yticks(range(len(queries)), [text if len(text) <= 38 else f"{text[:37]}…" for text in queries])
        axes.set_xticks(range(values.shape[1]), [str(k + 1) for k in range(values.shape[1])])
        axes.set(xlabel=f"page of the batch: 1 to {len(values)} positives, then hard negatives", title=title)
        fig.colorbar(picture, ax=axes, label="cosine similarity")
    return _drawn(fig)


def score_by_batch_size(
    scores: Mapping[int, Interval], before: Interval, title: str = "More rows in the softmax, equal pages and updates"
) -> Figure:
    """NDCG@10 by the number of rows that compete, with 95% intervals; the dotted line is the score before training."""
    if not scores:
        raise CourseError("There is nothing to draw: give the score of at least one batch size.")
    sizes = sorted(scores)
    intervals = [scores[size] for size in sizes]
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
        axes.errorbar(
            sizes,
            [interval.mean for interval in intervals],
            yerr=_errors(intervals),
            color=AFTER,
            marker="D",
            ms=8,
            lw=1.8,
            capsize=5,
            label=f"after training, n={intervals[0].n}",
        )
        for size, interval in zip(sizes, intervals):
            axes.annotate(f"{interval.mean:.2f}", (size, interval.mean), (8, 6), textcoords="offset points")
        axes.axhspan(before.low, before.high, color=BEFORE, alpha=0.15, lw=0)
        axes.axhline(before.mean, color=BEFORE, ls=":", lw=1.8, label=f"before: {before.mean:.2f}")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set(
            xlabel="rows in one softmax (logarithmic scale)",
            ylim=(0, 1.03),
            title=title,
            ylabel="NDCG@10 on dev pages (0 to 1);\nbars, band: 95% bootstrap intervals",
        )
        axes.legend(loc="lower right", frameon=False)
    return _drawn(fig)


def by_batch_size(
    points: Mapping[str, Mapping[int, float]],
    at_rest: float,
    unit: str = "MiB",
    title: str = "Peak memory of one training step",
) -> Figure:
    """Peak memory by batch size, a line for each way to train.

    points: label to batch size to memory in `unit`, one process a point; at_rest: memory in `unit` before a step.
    """
    if not points or not all(points.values()):
        raise CourseError("There is nothing to draw: measure at least one batch size for each line.")
    if len(points) > len(LINES):
        raise CourseError(f"Give at most {len(LINES)} lines.")
    sizes = sorted({size for line in points.values() for size in line})
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
        for (label, line), (color, marker, style) in zip(points.items(), LINES):
            known = sorted(line)
            axes.plot(
                known, [line[size] for size in known], color=color, marker=marker, ls=style, ms=8, lw=1.8, label=label
            )
            axes.annotate(
                f"{line[known[-1]]:,.0f}",
                (known[-1], line[known[-1]]),
                (8, 4 if len(known) > 1 else -14),
                textcoords="offset points",
            )  # a single point's below it
        axes.axhline(at_rest, color=OTHER, ls=":", lw=1.8, label=f"before a step: {at_rest:,.0f} {unit}")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set_xlim(0, sizes[-1] * 1.12)
        axes.set_ylim(bottom=0)
        axes.set(
            xlabel="batch size (rows; each brings a query and two pages)",
            ylabel=f"peak memory ({unit}), one process a point",
            title=title,
        )
        axes.legend(loc="upper left", frameon=False)
    return _drawn(fig)
