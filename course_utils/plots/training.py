"""Training and its cost: loss and score by step, by batch size, by pixels."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.style import AFTER, BEFORE, DARK, OTHER, RELEVANT, bars, below, canvas, need, note, sizes_axis

LINES = ((BEFORE, "o", "-"), (AFTER, "D", "-"), (RELEVANT, "s", "--"), ("#CC79A7", "^", "--"))
FULL = (0, 1.03)  # the whole range of a score


def training_curve(
    log_history: Iterable[Mapping], dev_points: Iterable[tuple[int, float]] = (), title: str = "Training"
) -> Figure:
    """Training loss at each logged step and, on a second panel, NDCG@10 on the dev queries.

    log_history: `trainer.state.log_history`; dev_points: (step, score), with step 0 for the model before training.
    """
    losses = [(entry["step"], float(entry["loss"])) for entry in log_history if "loss" in entry]
    panels = [part for part in ((losses, "loss"), (sorted(dev_points), "dev queries")) if part[0]]
    if not panels:
        raise CourseError("The log holds no loss: train first, with logging_steps below the number of steps.")
    with canvas(3.6, 1, len(panels), squeeze=False) as (fig, grid):
        for axes, (points, what) in zip(grid[0], panels, strict=True):
            many = what == "loss" and len(points) >= 60
            marker = {"marker": "o", "ms": 0 if many else 4} if what == "loss" else {"marker": "D", "ms": 6}
            axes.plot(*zip(*points, strict=True), color=AFTER, lw=1.8, **marker)
            axes.set(xlabel="step (one batch each)", title=f"{title}: {what}")
            axes.set_ylabel("training loss" if what == "loss" else "NDCG@10 on dev")
            axes.set_ylim(0 if what == "loss" else max(0, min(score for _, score in points) - 0.05))
    return fig


def by_batch_size(
    points: Mapping[str, Mapping[int, float]],
    at_rest: float,
    unit: str = "MiB",
    title: str = "Peak memory of one training step",
) -> Figure:
    """Peak memory by batch size, a line for each way to train, four at most.

    points: label to batch size to memory in `unit`, one process a point; at_rest: memory in `unit` before a step.
    """
    need(points and all(points.values()), "at least one batch size for each line")
    if len(points) > len(LINES):
        raise CourseError(f"Give at most {len(LINES)} lines.")
    sizes = sorted({size for line in points.values() for size in line})
    with canvas(4.6) as (fig, axes):
        for (label, line), (color, marker, style) in zip(points.items(), LINES, strict=False):
            known = sorted(line)
            heights = [line[size] for size in known]
            axes.plot(known, heights, color=color, marker=marker, ls=style, ms=8, lw=1.8, label=label)
            offset = (8, 4 if len(known) > 1 else -14)  # below a point that stands alone
            note(axes, f"{heights[-1]:,.0f}", (known[-1], heights[-1]), offset)
        axes.axhline(at_rest, color=OTHER, ls=":", lw=1.8, label=f"before a step: {at_rest:,.0f} {unit}")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.set(xlim=(0, sizes[-1] * 1.12), xlabel="batch size (rows; each brings a query and two pages)")
        axes.set(ylim=(0, None), ylabel=f"peak memory ({unit}), one process a point", title=title)
        axes.legend(loc="upper left", frameon=False)
    return fig


def by_budget(
    scores: Mapping[int, Interval], seconds: Mapping[int, Sequence[float]], trained: int, title: str = "Pixel budget"
) -> Figure:
    """Score and time by image tokens a page, two panels.

    scores: tokens to NDCG@10; seconds: tokens to the seconds that each batch of 100 pages took, drawn as their
    median, with a bar from the fastest to the slowest; trained: the tokens that the model was trained with.
    """
    need(scores and scores.keys() == seconds.keys(), "a score and the seconds for each number of tokens")
    sizes = sorted(scores)
    intervals = [scores[size] for size in sizes]
    times = [(np.median(each), min(each), max(each), len(each)) for each in (seconds[size] for size in sizes)]
    with canvas(4.2, 1, 2) as (fig, (left, right)):
        bars(left, sizes, intervals, AFTER, "D")
        left.set(ylabel="NDCG@10 (0 to 1)", ylim=FULL, title=f"Score, n={intervals[0].n}; bars: 95% intervals")
        bars(right, sizes, [Interval(*each) for each in times], BEFORE, "o")
        right.set(ylabel="seconds for 100 pages", ylim=(0, None), title="Time; bars: fastest to slowest batch")
        for axes in (left, right):
            sizes_axis(axes, sizes)
            axes.axvline(trained, color=DARK, linestyle=(0, (1, 1.5)), lw=1.4, label="trained with")
            axes.set_xlabel("image tokens a page (logarithmic scale)")
        left.legend(loc="best", frameon=False)
        fig.suptitle(title, x=0.01, ha="left", fontsize=13)
    return fig


def cost_of_pixels(table: pd.DataFrame) -> Figure:
    """Image tokens and milliseconds a page by pixel budget, in two panels.

    table: columns `pixels`, `image tokens`, `ms a page`, a row for each budget, two at least.
    """
    need(len(table) > 1, "two pixel budgets at least, since one makes no line")
    with canvas(3.4, 1, 2) as (fig, panels):
        names = {"image tokens": "image tokens a page", "ms a page": "milliseconds a page"}
        for axes, (column, name), color, marker in zip(panels, names.items(), (BEFORE, AFTER), "oD", strict=True):
            axes.plot(table["pixels"] / 1000, table[column], color=color, marker=marker, lw=2)
            axes.set(xlabel="pixel budget (thousands of pixels)", xlim=(0, None))
            axes.set(ylabel=name, ylim=(0, table[column].max() * 1.15))
        fig.suptitle("What pixels cost (one run on this machine)")
    return fig


def by_wordings(trials: Mapping[int, Mapping[str, float]], title: str = "Score by wordings in training") -> Figure:
    """NDCG@10 of test queries, natural and unseen ones, by the phrases in training; 0 phrases is before training.

    trials: number of phrases to the metrics of lesson 07 with them.
    """
    need(trials, "at least one training")
    kinds = {"": "test queries", "/unseen-natural": "unseen, natural", "/unseen-wording": "unseen wording"}
    with canvas(4.2) as (fig, axes):
        for (kind, label), (color, marker, style) in zip(kinds.items(), LINES, strict=False):
            points = {0: trials[max(trials)], **trials}
            ends = [
                [
                    found[f"ndcg@10/{'after' if phrases else 'before'}{kind}{end}"]
                    for phrases, found in sorted(points.items())
                ]
                for end in ("", "/low", "/high")
            ]
            axes.plot(sorted(points), ends[0], color=color, marker=marker, ls=style, ms=8, lw=1.8, label=label)
            axes.fill_between(sorted(points), ends[1], ends[2], color=color, alpha=0.12, lw=0)
        axes.set(xlabel="phrases in the training queries (0: before training)", ylabel="NDCG@10; bands: 95% intervals")
        axes.set_title(f"{title} (precomputed)")
        below(fig, ncols=3)
    return fig
