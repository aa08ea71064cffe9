"""How sure a result is: gains query by query, chance, the width of intervals, scores as probabilities."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from course_utils.errors import CourseError
from course_utils.evaluation import Interval, bootstrap
from course_utils.plots.style import AFTER, BEFORE, DARK, MARKS, OTHER, RELEVANT, below, canvas, need, ticks

BINS = 10


def gains(before, after, gain: Interval, title: str = "What each query gained") -> Figure:
    """One bar a query, its score after minus before, sorted; the mean gain with its interval as a band."""
    differences = np.sort(np.asarray(after, dtype=float) - np.asarray(before, dtype=float))[::-1]
    need(len(differences), "the scores of at least one query")
    with canvas(4.0) as (fig, axes):
        places = np.arange(1, len(differences) + 1)
        for name, chosen, color in (("won", differences > 0, AFTER), ("lost", differences < 0, BEFORE)):
            axes.bar(places[chosen], differences[chosen], width=1.0, color=color, label=f"{name}: {chosen.sum()}")
        axes.plot([], [], " ", label=f"as before: {(differences == 0).sum()}")
        axes.axhspan(gain.low, gain.high, color=RELEVANT, alpha=0.25, lw=0)
        label = f"mean {gain.mean:+.3f}, 95% [{gain.low:+.3f}, {gain.high:+.3f}]"
        axes.axhline(gain.mean, color=RELEVANT, lw=2, label=label)
        axes.set(xlabel=f"queries, sorted by gain (n={len(differences)})", ylabel="NDCG@10 after minus before")
        axes.set(ylim=(-1.05, 1.05), title=title)
        axes.legend(loc="lower left", frameon=False)
    return fig


def chance(means, gain: Interval, title: str = "Gains that chance alone makes") -> Figure:
    """Histogram of the mean gains under random signs, shape (r,), and the gain that was seen, with its interval."""
    means = np.asarray(means, dtype=float)
    need(len(means), "the mean gain of one draw of random signs at least")
    with canvas(3.6) as (fig, axes):
        axes.hist(means, bins=41, color=OTHER, label=f"by chance: {len(means):,} draws")
        axes.axvspan(gain.low, gain.high, color=AFTER, alpha=0.2, lw=0, label="its 95% bootstrap interval")
        axes.axvline(gain.mean, color=AFTER, lw=2.5, label=f"seen: {gain.mean:+.3f}, n={gain.n}")
        axes.set(xlabel="mean gain in NDCG@10 (after minus before)", ylabel="number of draws", title=title)
        below(fig, ncols=3)
    return fig


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
    sizes = np.geomspace(min(30, *(len(each) for each in values.values())), 30_000, 50)
    with canvas(4.6) as (fig, axes):
        for (label, each), (color, marker) in zip(values.items(), MARKS, strict=False):
            interval = bootstrap(each)
            axes.plot(sizes, 1.96 * np.std(each) / np.sqrt(sizes), color=color, lw=1.8)
            half = (interval.high - interval.low) / 2
            axes.plot(interval.n, half, color=color, marker=marker, ms=9, ls="-", lw=1.8, label=label)
        axes.axhline(difference, color=DARK, linestyle=":", lw=1.6, label=f"a difference of {difference}")
        axes.set(xscale="log", xlabel="queries (logarithmic scale)", title=title)
        axes.set(yscale="log", ylabel="half of the 95% interval,\nin units of NDCG@10 (log scale)")
        ticks(axes.xaxis, (30, 100, 300, 1000, 3000, 10_000, 30_000))
        ticks(axes.yaxis, (0.002, 0.005, 0.01, 0.02, 0.05, 0.1))
        axes.legend(frameon=False, loc="upper right")
    return fig


def reliability(
    systems: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "Is a score a probability?"
) -> Figure:
    """Share of relevant pairs among those that got about one score, a panel for each system, with the number of pairs.

    systems: label to (probabilities (n,) in [0, 1], labels (n,) of 0 and 1). The diagonal is a perfect probability.
    """
    if not systems or any(len(p) != len(y) or len(p) == 0 for p, y in systems.values()):
        raise CourseError("Give each system as many labels as probabilities, one at least.")
    shared = {"squeeze": False, "sharex": True, "sharey": "row", "height_ratios": (3, 1)}
    with canvas(4.9, 2, len(systems), **shared) as (fig, grid):
        for (above, beneath), (label, (found, truth)) in zip(grid.T, systems.items(), strict=True):
            share, mean = calibration_curve(truth, found, n_bins=BINS)
            above.plot([0, 1], [0, 1], color=DARK, ls=":", lw=1.4)
            above.plot(mean, share, color=AFTER, marker="D", ms=7, lw=1.6)
            above.set(title=label, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            beneath.hist(found, bins=BINS, range=(0, 1), rwidth=0.8, color=BEFORE)
            beneath.set(yscale="log", xlabel="score (sigmoid)")
        grid[0, 0].set_ylabel("share that is relevant")
        grid[1, 0].set_ylabel("pairs (log)")
        fig.suptitle(title, x=0.01, ha="left", fontsize=13)
    return fig
