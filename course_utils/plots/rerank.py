"""Figures of the lesson on rerankers: what reranking more candidates gives and costs, and whether scores are probabilities.

Like those of `plots`, every function returns a matplotlib Figure that is drawn but not shown.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve

from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.results import AFTER, BEFORE, STYLE, WIDTH, _drawn, _errors

BINS = 10


def by_depth(
    scores: Mapping[int, Interval],
    seconds: Mapping[int, float],
    ceilings: Mapping[int, float],
    measure: str = "NDCG@10",
    title: str = "How many candidates to rerank",
) -> Figure:
    """Score by the number of candidates that are reranked, with 95% intervals, and the ceiling; seconds a query beneath.

    scores, ceilings: depth (0 for no reranking) to the score in [0, 1]; seconds: depth to seconds a query.
    """
    if not scores or scores.keys() != seconds.keys() or scores.keys() != ceilings.keys():
        raise CourseError("Give a score, the seconds and the ceiling of each depth, and at least one depth.")
    depths = sorted(scores)
    places = range(len(depths))
    intervals = [scores[depth] for depth in depths]
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.0), layout="constrained")
        axes.plot(
            places,
            [ceilings[depth] for depth in depths],
            color=BEFORE,
            marker="_",
            ms=22,
            lw=0,
            mew=3,
            label="the best that any order of these candidates could score",
        )
        axes.errorbar(
            places,
            [i.mean for i in intervals],
            yerr=_errors(intervals),
            color=AFTER,
            marker="D",
            ms=7,
            lw=1.8,
            capsize=4,
            label=f"reranked, n={intervals[0].n}",
        )
        for place, interval in zip(places, intervals):
            axes.annotate(
                f"{interval.mean:.3f}",
                (place, interval.low),
                (0, -6),
                textcoords="offset points",
                ha="center",
                va="top",
            )
        axes.set_xticks(places, [f"{depth}\n{seconds[depth]:.2f} s" for depth in depths])
        low = min(i.low for i in intervals)
        axes.set_ylim(max(0.0, low - 0.35 * (1.02 - low)), 1.02)
        axes.set(
            xlabel="candidates reranked, and seconds a query on this machine",
            ylabel=f"{measure} (axis is cut)",
            title=f"{title}: bars are 95% bootstrap intervals",
        )
        axes.legend(loc="lower right", frameon=False)
    return _drawn(fig)


def reliability(
    systems: Mapping[str, tuple[np.ndarray, np.ndarray]], title: str = "Is a score a probability?"
) -> Figure:
    """Share of relevant pairs among those that got about one score, a panel for each system, with the number of pairs.

    systems: label to (probabilities (n,) in [0, 1], labels (n,) of 0 and 1). The diagonal is a perfect probability.
    """
    if not systems or any(len(p) != len(y) or len(p) == 0 for p, y in systems.values()):
        raise CourseError("Give each system as many labels as probabilities, one at least.")
    with plt.rc_context(STYLE):
        fig, grid = plt.subplots(
            2,
            len(systems),
            figsize=(WIDTH, 4.9),
            layout="constrained",
            squeeze=False,
            sharex=True,
            sharey="row",
            height_ratios=(3, 1),
        )
        for (above, below), (label, (found, truth)) in zip(grid.T, systems.items()):
            share, mean = calibration_curve(truth, found, n_bins=BINS)
            above.plot([0, 1], [0, 1], color="#444444", ls=":", lw=1.4)
            above.plot(mean, share, color=AFTER, marker="D", ms=7, lw=1.6)
            above.set(title=label, xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
            below.hist(found, bins=BINS, range=(0, 1), rwidth=0.8, color=BEFORE)
            below.set(yscale="log", xlabel="score (sigmoid)")
        grid[0, 0].set_ylabel("share that is relevant")
        grid[1, 0].set_ylabel("pairs (log)")
        fig.suptitle(title, x=0.01, ha="left", fontsize=13)
    return _drawn(fig)
