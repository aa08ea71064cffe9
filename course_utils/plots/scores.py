"""Scores with their intervals: before and after, systems side by side, by dimension, size and depth."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.style import (
    ACROSS,
    AFTER,
    BEFORE,
    DARK,
    MARKS,
    OTHER,
    PAIR,
    RELEVANT,
    bars,
    below,
    canvas,
    need,
    note,
    point,
    rows_axis,
    sizes_axis,
)

DOTTED = ((0, (1, 1.5)), (0, (5, 2)), "dashdot")  # lines of references
PUBLISHED = ("s", "^", "v", "P", "X")  # hollow markers, one a published figure


def before_after(
    overall: Mapping[str, tuple[Interval, Interval]],
    references: Mapping[str, float] | None = None,
    title: str = "Before and after finetuning",
    digits: int = 2,
    left: float = 0.0,
) -> Figure:
    """A line for each label, from its NDCG@10 before to its NDCG@10 after, with 95% intervals and n.

    overall: label to (before, after), drawn from top to bottom; references: label to a score that is
    drawn as a vertical line, such as what a reader of the country alone would reach; digits: of the scores
    beside the points; left: where the axis of the scores begins.
    """
    need(overall, "at least one label with its scores before and after")
    with canvas(1.7 + 0.62 * len(overall)) as (fig, axes):
        arrow = {"arrowstyle": "-|>", "color": OTHER, "lw": 1.6, "shrinkA": 7, "shrinkB": 7}
        for row, pair in enumerate(overall.values()):
            axes.annotate("", (pair[1].mean, row), (pair[0].mean, row), arrowprops=arrow)
            for interval, (name, color, marker), side in zip(pair, PAIR, ("top", "bottom"), strict=True):
                point(axes, interval, row, color, marker, ms=9, capsize=5, label=name if row == 0 else None)
                offset = (0, 9 if side == "bottom" else -9)  # above or below, so that close values stay legible
                note(axes, f"{interval.mean:.{digits}f}", (interval.mean, row), offset, ha="center", va=side)
        rows_axis(axes, [f"{label}\nn={_counts(pair)}" for label, pair in overall.items()], margin=0.4)
        at_zero = any(before.mean < 0.03 for before, _ in overall.values())  # its label would cover the one of the axis
        axes.set_xlim(-0.03 if at_zero else left, 1.04 if not left else 1.005)
        for index, (label, score) in enumerate((references or {}).items()):
            style = DOTTED[index % len(DOTTED)]
            axes.axvline(score, color=DARK, linestyle=style, lw=1.4, label=f"{label}: {score:.2f}")
        axes.set(xlabel=f"NDCG@10 {ACROSS if not left else ACROSS.replace('0 to 1', 'axis is cut')}", title=title)
        below(fig, first=("before", "after"), ncols=4)
    return fig


def systems(scores: Mapping[str, Mapping[str, Interval]], title: str = "Systems side by side") -> Figure:
    """A row for each system, a marker for each slice of the queries, with 95% intervals of NDCG@10.

    scores: system to slice to Interval, drawn from top to bottom; every system has the same one to four slices.
    """
    slices = list(next(iter(scores.values()), {}))
    if not 1 <= len(slices) <= len(MARKS) or any(list(row) != slices for row in scores.values()):
        raise CourseError(f"Give every system the same slices, one to {len(MARKS)} of them.")
    with canvas(1.7 + len(scores) * (0.25 + 0.25 * len(slices))) as (fig, axes):
        for row in range(0, len(scores), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f5f5f5", zorder=0)
        for index, (name, (color, marker)) in enumerate(zip(slices, MARKS, strict=False)):
            shift = 0.8 / len(slices) * (index - (len(slices) - 1) / 2)
            for row, interval in enumerate(system[name] for system in scores.values()):
                label = f"{name}, n={interval.n}" if row == 0 else None
                point(axes, interval, row + shift, color, marker, ms=8, label=label)
                note(axes, f"{interval.mean:.2f}", (interval.high, row + shift), (9, 0), va="center")
        rows_axis(axes, list(scores))
        axes.set(xlim=(-0.02, 1.09), xlabel=f"NDCG@10 {ACROSS}", title=title)
        below(fig, ncols=len(slices))
    return fig


def shares(pairs: Mapping[str, tuple[Interval, Interval]], title: str) -> Figure:
    """Share of queries in each group, before and after, with 95% intervals, drawn from top to bottom."""
    need(pairs, "at least one group")
    with canvas(1.4 + 0.6 * len(pairs)) as (fig, axes):
        for side, (name, color, marker) in enumerate(PAIR):
            intervals = [pair[side] for pair in pairs.values()]
            places = [row + 0.24 * side - 0.12 for row in range(len(pairs))]
            label = f"{name}, n={intervals[0].n}"
            bars(axes, places, intervals, color, marker, across=True, ms=8, lw=2, ls="", label=label)
        rows_axis(axes, list(pairs))
        axes.set(xlim=(0, 1.02), title=title)
        axes.set_xlabel("share of queries (0 to 1; bars: 95% bootstrap intervals over queries)")
        axes.legend(loc="best", frameon=False)
    return fig


def by_dimension(
    before: Mapping[int, Interval], after: Mapping[int, Interval], title: str = "Shorter embeddings"
) -> Figure:
    """NDCG@10 by the number of dimensions that are kept, before and after, with 95% intervals."""
    need(before and after, "the scores before and after of at least one number of dimensions")
    with canvas(4.2) as (fig, axes):
        for scores, (name, color, marker), shift in zip((before, after), PAIR, (0.985, 1.015), strict=True):
            sizes = sorted(scores)
            intervals = [scores[size] for size in sizes]
            label = f"{name}, n={intervals[0].n}"
            bars(axes, [size * shift for size in sizes], intervals, color, marker, label=label)
        sizes_axis(axes, sorted({*before, *after}))
        axes.set(xlabel="dimensions kept (logarithmic scale)", ylabel="NDCG@10 (0 to 1)", ylim=(0, 1.03))
        axes.set_title(f"{title}: bars are 95% bootstrap intervals over queries")
        axes.legend(loc="lower right", frameon=False)
    return fig


def size_and_score(
    measured: Mapping[str, tuple[float, Interval]],
    published: Mapping[str, tuple[float, float]],
    title: str = "Size against NDCG@10",
) -> Figure:
    """Score by number of parameters. What was measured is filled and has an interval, what is published is hollow.

    measured: label to (parameters, Interval); published: label to (parameters, score).
    """
    need(measured, "at least one measured model")
    with canvas(4.6) as (fig, axes):
        looks = zip((BEFORE, AFTER, RELEVANT), "oDh", strict=True)
        for (name, (size, score)), (color, marker) in zip(measured.items(), looks, strict=False):
            label = f"{name}: {score.mean:.3f}, n={score.n}"
            bars(axes, [size / 1e6], [score], color, marker, ms=9, capsize=5, lw=2, ls="", label=label)
        hollow = {"ms": 9, "ls": "", "color": DARK, "mfc": "none", "mew": 1.8}
        for (name, (size, score)), marker in zip(published.items(), PUBLISHED, strict=False):
            axes.plot(size / 1e6, score, marker=marker, label=f"{name}: {score:g}", **hollow)
        axes.set(xscale="log", ylim=(0, 1.03), title=title)
        axes.set(xlabel="parameters, millions (logarithmic scale)", ylabel="NDCG@10 (0 to 1)")
        axes.margins(x=0.15)
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.4g}")
        heading = "filled: measured here, bars are 95% intervals · hollow: published, without intervals"
        first = [f"{name}: {score.mean:.3f}, n={score.n}" for name, (_, score) in measured.items()]
        below(fig, first=first, ncols=2, title=heading)
    return fig


def by_depth(
    scores: Mapping[int, Interval],
    seconds: Mapping[int, float],
    ceilings: Mapping[int, float],
    title: str = "How many candidates to rerank",
) -> Figure:
    """NDCG@10 by the number of candidates that are reranked, with 95% intervals, and the ceiling; seconds beneath.

    scores, ceilings: depth (0 for no reranking) to the score in [0, 1]; seconds: depth to seconds a query.
    """
    if not scores or scores.keys() != seconds.keys() or scores.keys() != ceilings.keys():
        raise CourseError("Give a score, the seconds and the ceiling of each depth, and at least one depth.")
    depths = sorted(scores)
    places, intervals = range(len(depths)), [scores[depth] for depth in depths]
    with canvas(4.0) as (fig, axes):
        best = "the best that any order of these candidates could score"
        heights = [ceilings[depth] for depth in depths]
        axes.plot(places, heights, color=BEFORE, marker="_", ms=22, lw=0, mew=3, label=best)
        bars(axes, places, intervals, AFTER, "D", label=f"reranked, n={intervals[0].n}")
        for place, interval in zip(places, intervals, strict=True):
            note(axes, f"{interval.mean:.3f}", (place, interval.low), (0, -6), ha="center", va="top")
        axes.set_xticks(places, [f"{depth}\n{seconds[depth]:.2f} s" for depth in depths])
        low = min(interval.low for interval in intervals)
        axes.set_ylim(max(0.0, low - 0.35 * (1.02 - low)), 1.02)
        axes.set(xlabel="candidates reranked, and seconds a query on this machine", ylabel="NDCG@10 (axis is cut)")
        axes.set_title(f"{title}: bars are 95% bootstrap intervals")
        axes.legend(loc="lower right", frameon=False)
    return fig


def _counts(pair: tuple[Interval, Interval]) -> str:
    return " and ".join(map(str, sorted({interval.n for interval in pair})))
