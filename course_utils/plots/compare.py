"""Figures of lesson 08, in the style of `plots`: what a comparison of two models needs beyond its two scores."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.results import AFTER, BEFORE, OTHER, RELEVANT, STYLE, WIDTH, _drawn, _errors

PUBLISHED = ("s", "^", "v", "P", "X")  # hollow markers, one a published figure


def by_budget(
    scores: Mapping[int, Interval], seconds: Mapping[int, Sequence[float]], trained: int, title: str = "Pixel budget"
) -> Figure:
    """Score and time by image tokens a page, two panels.

    scores: tokens to NDCG@10; seconds: tokens to the seconds that each batch of 100 pages took, drawn as their
    median, with a bar from the fastest to the slowest; trained: the tokens that the model was trained with.
    """
    if not scores or scores.keys() != seconds.keys():
        raise CourseError("There is nothing to draw: give a score and the seconds for each number of tokens.")
    sizes = sorted(scores)
    middles = [float(np.median(seconds[size])) for size in sizes]
    spread = [
        [middle - min(seconds[size]) for middle, size in zip(middles, sizes)],
        [max(seconds[size]) - middle for middle, size in zip(middles, sizes)],
    ]
    with plt.rc_context(STYLE):
        fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.2), layout="constrained")
        intervals = [scores[size] for size in sizes]
        left.errorbar(
            sizes,
            [score.mean for score in intervals],
            yerr=_errors(intervals),
            color=AFTER,
            marker="D",
            ms=7,
            lw=1.8,
            capsize=4,
        )
        left.set(ylabel="NDCG@10 (0 to 1)", ylim=(0, 1.03), title=f"Score, n={intervals[0].n}; bars: 95% intervals")
        right.errorbar(sizes, middles, yerr=spread, color=BEFORE, marker="o", ms=7, lw=1.8, capsize=4)
        right.set(ylabel="seconds for 100 pages", title="Time; bars: fastest to slowest batch")
        right.set_ylim(bottom=0)
        for axes in (left, right):
            axes.set_xscale("log", base=2)
            axes.set_xticks(sizes, [str(size) for size in sizes])
            axes.minorticks_off()
            axes.axvline(trained, color="#444444", linestyle=(0, (1, 1.5)), lw=1.4, label="trained with")
            axes.set_xlabel("image tokens a page (logarithmic scale)")
        left.legend(loc="best", frameon=False)
        fig.suptitle(title, x=0.01, ha="left", fontsize=13)
    return _drawn(fig)


def size_and_score(
    measured: Mapping[str, tuple[float, Interval]],
    published: Mapping[str, tuple[float, float]],
    title: str = "Size against NDCG@10",
) -> Figure:
    """Score by number of parameters. What was measured is filled and has an interval, what is published is hollow.

    measured: label to (parameters, Interval); published: label to (parameters, score).
    """
    if not measured:
        raise CourseError("There is nothing to draw: give at least one measured model.")
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.6), layout="constrained")
        for (label, (size, score)), color, marker in zip(measured.items(), (BEFORE, AFTER, RELEVANT), "oDh"):
            axes.errorbar(
                size / 1e6,
                score.mean,
                yerr=_errors([score]),
                color=color,
                marker=marker,
                ms=9,
                capsize=5,
                lw=2,
                ls="",
                label=f"{label}: {score.mean:.3f}, n={score.n}",
            )
        for (label, (size, score)), marker in zip(published.items(), PUBLISHED):
            axes.plot(
                size / 1e6,
                score,
                marker=marker,
                ms=9,
                ls="",
                color="#444444",
                mfc="none",
                mew=1.8,
                label=f"{label}: {score:g}",
            )
        axes.set_xscale("log")
        axes.set_ylim(0, 1.03)
        axes.set(xlabel="parameters, millions (logarithmic scale)", ylabel="NDCG@10 (0 to 1)", title=title)
        axes.margins(x=0.15)
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.4g}")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
        order = sorted(handles, key=lambda label: label.rpartition(":")[0] in published)
        fig.legend(
            [handles[label] for label in order],
            order,
            loc="outside lower center",
            ncols=2,
            frameon=False,
            title="filled: measured here, bars are 95% intervals · hollow: published, without intervals",
        )
    return _drawn(fig)


def gains(before, after, gain: Interval, title: str = "What each query gained") -> Figure:
    """One bar a query, its score after minus before, sorted; the mean gain with its interval as a band."""
    differences = np.sort(np.asarray(after, dtype=float) - np.asarray(before, dtype=float))[::-1]
    if len(differences) == 0:
        raise CourseError("There is nothing to draw: give the scores of at least one query.")
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
        places = np.arange(1, len(differences) + 1)
        for name, chosen, color in (("won", differences > 0, AFTER), ("lost", differences < 0, BEFORE)):
            axes.bar(places[chosen], differences[chosen], width=1.0, color=color, label=f"{name}: {chosen.sum()}")
        axes.plot([], [], " ", label=f"as before: {(differences == 0).sum()}")
        axes.axhspan(gain.low, gain.high, color=RELEVANT, alpha=0.25, lw=0)
        axes.axhline(
            gain.mean, color=RELEVANT, lw=2, label=f"mean {gain.mean:+.3f}, 95% [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
        axes.set_ylim(-1.05, 1.05)
        axes.set(
            xlabel=f"queries, sorted by gain (n={len(differences)})", ylabel="NDCG@10 after minus before", title=title
        )
        axes.legend(loc="lower left", frameon=False)
    return _drawn(fig)


def shares(pairs: Mapping[str, tuple[Interval, Interval]], title: str) -> Figure:
    """Share of queries in each group, before and after, with 95% intervals, drawn from top to bottom."""
    if not pairs:
        raise CourseError("There is nothing to draw: give at least one group.")
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 1.4 + 0.6 * len(pairs)), layout="constrained")
        for side, (name, color, marker) in enumerate((("before", BEFORE, "o"), ("after", AFTER, "D"))):
            intervals = [pair[side] for pair in pairs.values()]
            axes.errorbar(
                [interval.mean for interval in intervals],
                np.arange(len(pairs)) + 0.24 * side - 0.12,
                xerr=_errors(intervals),
                color=color,
                marker=marker,
                ms=8,
                capsize=4,
                lw=2,
                ls="",
                label=f"{name}, n={intervals[0].n}",
            )
        axes.set_yticks(range(len(pairs)), list(pairs))
        axes.set_ylim(len(pairs) - 0.5, -0.5)
        axes.set_xlim(0, 1.02)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel="share of queries (0 to 1; bars: 95% bootstrap intervals over queries)", title=title)
        axes.legend(loc="best", frameon=False)
    return _drawn(fig)


def chance(means, gain: Interval, title: str = "Gains that chance alone makes") -> Figure:
    """Histogram of the mean gains under random signs, shape (r,), and the gain that was seen, with its interval."""
    means = np.asarray(means, dtype=float)
    if len(means) == 0:
        raise CourseError("There is nothing to draw: draw random signs at least once.")
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 3.6), layout="constrained")
        axes.hist(means, bins=41, color=OTHER, label=f"by chance: {len(means):,} draws")
        axes.axvspan(gain.low, gain.high, color=AFTER, alpha=0.2, lw=0, label="its 95% bootstrap interval")
        axes.axvline(gain.mean, color=AFTER, lw=2.5, label=f"seen: {gain.mean:+.3f}, n={gain.n}")
        axes.set(xlabel="mean gain in NDCG@10 (after minus before)", ylabel="number of draws", title=title)
        fig.legend(loc="outside lower center", ncols=3, frameon=False)
    return _drawn(fig)
