"""How sure a gain is: query by query, and beside what chance alone gives."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from course_utils.evaluation import Interval
from course_utils.plots.style import AFTER, BEFORE, DARK, OTHER, RELEVANT, below, canvas, need, note, point, rows_axis


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


def forest(gains: Mapping[str, Interval], title: str = "Gains, with 95% intervals") -> Figure:
    """A row for each gain, from top to bottom, with its paired interval, its n and a line at zero.

    Colour and marker say on which side of zero the interval lies: above (blue diamond), below (orange square), or
    that it contains zero (grey circle).
    """
    need(gains, "at least one gain")
    with canvas(1.8 + 0.5 * len(gains)) as (fig, axes):
        better, worse, unclear = "interval above 0: better", "interval below 0: worse", "contains 0: cannot tell"
        looks = {better: (AFTER, "D"), worse: (BEFORE, "s"), unclear: (OTHER, "o")}
        for row, gain in enumerate(gains.values()):
            side = better if gain.low > 0 else worse if gain.high < 0 else unclear
            color, marker = looks[side]
            point(axes, gain, row, color, marker, label=side)
            label = f"{gain.mean:+z.3f} [{gain.low:+z.3f}, {gain.high:+z.3f}]"
            note(axes, label, (gain.mean, row), (0, 8), ha="center", va="bottom", fontsize=9.5)
        axes.axvline(0, color=DARK, lw=1.4)
        rows_axis(axes, [f"{name}\nn={gain.n}" for name, gain in gains.items()], margin=0.4)
        axes.margins(x=0.2)
        axes.set(xlabel="gain in NDCG@10 (the same queries, after minus before)", title=title)
        below(fig, ncols=3)
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
