"""Figures of the lessons: intervals on every score, colours that colour-blind readers can tell apart.

Every function returns a matplotlib Figure that is drawn but not shown: put it on the last line of a
cell to see it, or give it to `run.figure`. Colours are never the only sign: markers, ticks and words
say the same.
"""

import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from course_utils.errors import CourseError
from course_utils.evaluation import Interval

# Okabe & Ito (2008), "Color Universal Design"
BEFORE, AFTER, RELEVANT, OTHER = "#E69F00", "#0072B2", "#009E73", "#999999"
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


def before_after(
    overall: Mapping[str, tuple[Interval, Interval]],
    measure: str = "NDCG@10",
    references: Mapping[str, float] | None = None,
    title: str = "Before and after finetuning",
) -> Figure:
    """A line for each label, from its score before to its score after, with 95% intervals and n.

    overall: label to (before, after), drawn from top to bottom; references: label to a score that is
    drawn as a dotted line, such as what a reader of the country alone would reach.
    """
    if not overall:
        raise CourseError("There is nothing to draw: give at least one label with its scores before and after.")
    references = references or {}
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 1.7 + 0.62 * len(overall)), layout="constrained")
        for row, (before, after) in enumerate(overall.values()):
            axes.annotate(
                "",
                (after.mean, row),
                (before.mean, row),
                arrowprops={"arrowstyle": "-|>", "color": OTHER, "lw": 1.6, "shrinkA": 7, "shrinkB": 7},
            )
            _point(axes, before, row, BEFORE, "o", "before" if row == 0 else None, side=-1)
            _point(axes, after, row, AFTER, "D", "after" if row == 0 else None, side=1)
        axes.set_yticks(range(len(overall)), [_with_n(label, pair) for label, pair in overall.items()])
        axes.set_ylim(len(overall) - 0.4, -0.6)
        at_zero = any(before.mean < 0.03 for before, _ in overall.values())  # its label would cover the one of the axis
        axes.set_xlim(-0.03 if at_zero else 0, 1.04)
        axes.grid(axis="y", visible=False)
        for index, (label, score) in enumerate(references.items()):
            style = ((0, (1, 1.5)), (0, (5, 2)), "dashdot")[index % 3]
            axes.axvline(score, color="#444444", linestyle=style, lw=1.4, label=f"{label}: {score:.2f}")
        axes.set_xlabel(f"{measure} (0 to 1, higher is better; bars: 95% bootstrap intervals over queries)")
        axes.set_title(title)
        handles, labels = axes.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda index: labels[index] not in ("before", "after"))
        fig.legend(
            [handles[i] for i in order], [labels[i] for i in order], loc="outside lower center", ncols=4, frameon=False
        )
    return _drawn(fig)


def training_curve(
    log_history: Iterable[Mapping],
    dev_points: Iterable[tuple[int, float | Interval]] = (),
    measure: str = "NDCG@10",
    title: str = "Training",
) -> Figure:
    """Training loss at each logged step and, on a second panel, the score on the dev queries.

    log_history: `trainer.state.log_history`; dev_points: (step, score or Interval), with step 0 for the
    model before training.
    """
    losses = [(entry["step"], float(entry["loss"])) for entry in log_history if "loss" in entry]
    dev_points = sorted(dev_points, key=lambda point: point[0])
    if not losses and not dev_points:
        raise CourseError("The log holds no loss: train first, with logging_steps below the number of steps.")
    panels = [bool(losses), bool(dev_points)]
    with plt.rc_context(STYLE):
        fig, grid = plt.subplots(1, sum(panels), figsize=(WIDTH, 3.6), layout="constrained", squeeze=False)
        axes = list(grid[0])
        if losses:
            steps, values = zip(*losses)
            axes[0].plot(steps, values, color=AFTER, lw=1.8, marker="o", ms=4 if len(steps) < 60 else 0)
            axes[0].set(xlabel="step (one batch each)", ylabel="training loss", title=f"{title}: loss")
            axes[0].set_ylim(bottom=0)
        if dev_points:
            panel = axes[-1]
            steps = [step for step, _ in dev_points]
            scores = [
                score if isinstance(score, Interval) else Interval(score, score, score, 0) for _, score in dev_points
            ]
            panel.errorbar(
                steps,
                [score.mean for score in scores],
                yerr=_errors(scores) if any(score.n for score in scores) else None,
                color=AFTER,
                lw=1.8,
                marker="D",
                ms=6,
                capsize=4,
            )
            queries = f", n={scores[0].n}" if scores[0].n else ""
            panel.set(xlabel="step (one batch each)", ylabel=f"{measure} on dev (0 to 1)")
            panel.set_title(f"{title}: dev queries{queries}")
            panel.set_ylim(0, 1.03)
    return _drawn(fig)


def by_dimension(
    before: Mapping[int, Interval],
    after: Mapping[int, Interval],
    measure: str = "NDCG@10",
    title: str = "Shorter embeddings",
) -> Figure:
    """Score by the number of dimensions that are kept, before and after, with 95% intervals."""
    sizes = sorted(set(before) | set(after))
    if not sizes:
        raise CourseError("There is nothing to draw: give the score of at least one number of dimensions.")
    with plt.rc_context(STYLE):
        fig, axes = plt.subplots(figsize=(WIDTH, 4.2), layout="constrained")
        for scores, color, marker, name, shift in (
            (before, BEFORE, "o", "before", 0.985),
            (after, AFTER, "D", "after", 1.015),
        ):
            if not scores:
                continue
            intervals = [scores[size] for size in sorted(scores)]
            axes.errorbar(
                [size * shift for size in sorted(scores)],
                [interval.mean for interval in intervals],
                yerr=_errors(intervals),
                color=color,
                marker=marker,
                ms=7,
                lw=1.8,
                capsize=4,
                label=f"{name}, n={intervals[0].n}",
            )
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(0, 1.03)
        axes.set(
            xlabel="dimensions kept (logarithmic scale)",
            ylabel=f"{measure} (0 to 1)",
            title=f"{title}: bars are 95% bootstrap intervals over queries",
        )
        axes.legend(loc="lower right", frameon=False)
    return _drawn(fig)


def gallery(
    query: str,
    images: Sequence[Image.Image | str | Path],
    ids: Sequence[str],
    relevant: Collection[str],
    title: str = "",
    captions: Sequence[str] | None = None,
) -> Figure:
    """The first pages that a model found for a query, side by side, best first.

    A relevant page has a thick border and says "✓ relevant"; the others have a thin grey one.
    captions: a few words for each page, such as its country and topic; cut to two lines.
    """
    marks = [
        f"{rank}  ✓ relevant" if page in relevant else f"{rank}  not relevant" for rank, page in enumerate(ids, start=1)
    ]
    if captions is not None:
        marks = [f"{mark}\n{_fit(caption, len(images))}" for mark, caption in zip(marks, captions, strict=True)]
    fig = pages_row(images, marks, title=f"{title + ': ' if title else ''}“{query}”")
    for axes, page in zip(fig.axes, ids, strict=True):
        found = page in relevant
        if found:
            axes.title.set(color="#00664b", fontweight="bold")
        for side in axes.spines.values():
            side.set(color=RELEVANT if found else OTHER, linewidth=5 if found else 1)
    return fig


def pages_row(
    images: Sequence[Image.Image | str | Path], captions: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Page images (PIL or paths) side by side, each with its caption above it."""
    if not images:
        raise CourseError("There is no page to draw: give at least one image.")
    pictures = [_open(image) for image in images]
    captions = [""] * len(pictures) if captions is None else list(captions)
    lines = 1 + max(caption.count("\n") for caption in captions)
    heading = textwrap.fill(title, 95)
    width = min(WIDTH, 3.6 * len(pictures))
    column = width / len(pictures)
    height = max(column * picture.height / picture.width for picture in pictures)
    height += 0.2 + 0.2 * lines + 0.24 * (heading.count("\n") + 1 if heading else 0)
    with plt.rc_context(
        {**STYLE, "axes.titlesize": 10.5 if len(pictures) <= 5 else 8.5, "axes.titlelocation": "center"}
    ):
        fig, grid = plt.subplots(1, len(pictures), figsize=(width, height), layout="constrained", squeeze=False)
        for axes, picture, caption in zip(grid[0], pictures, captions, strict=True):
            axes.imshow(picture, interpolation="lanczos")
            axes.grid(False)
            axes.set(xticks=[], yticks=[])
            axes.set_title(caption)
            for side in axes.spines.values():
                side.set(visible=True, color=OTHER, linewidth=1)
        if heading:
            fig.suptitle(heading, x=0.01, ha="left", fontsize=12)
    return _drawn(fig)


def _open(image: Image.Image | str | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if not Path(image).is_file():
        raise CourseError(f"Page image {Path(image).name!r} is missing: build the pages again.")
    with Image.open(image) as picture:
        return picture.convert("RGB")


def _point(axes: Axes, interval: Interval, row: float, color: str, marker: str, label: str | None, side: int) -> None:
    """A score with its interval, and its value above (side 1) or below (-1), so that close ones stay legible."""
    axes.errorbar(
        interval.mean,
        row,
        xerr=_errors([interval]),
        color=color,
        marker=marker,
        ms=9,
        capsize=5,
        lw=2,
        ls="",
        label=label,
    )
    axes.annotate(
        f"{interval.mean:.2f}",
        (interval.mean, row),
        (0, 9 * side),
        textcoords="offset points",
        ha="center",
        va="bottom" if side > 0 else "top",
    )


def _with_n(label: str, pair: tuple[Interval, Interval]) -> str:
    counts = sorted({pair[0].n, pair[1].n})
    return f"{label}\nn={' and '.join(map(str, counts))}"


def _errors(intervals: Sequence[Interval]) -> list[list[float]]:
    """Lengths of the bars below and above each estimate, shape (2, number)."""
    return [
        [max(0.0, interval.mean - interval.low) for interval in intervals],
        [max(0.0, interval.high - interval.mean) for interval in intervals],
    ]


def _fit(caption: str, columns: int) -> str:
    """A caption in exactly two lines that fit its column; what has no room becomes an ellipsis."""
    lines = textwrap.wrap(caption, max(12, round(105 / columns)), max_lines=2, placeholder="…")
    return "\n".join((lines + ["", ""])[:2])


def _drawn(fig: Figure) -> Figure:
    """The figure, taken from pyplot's list so that a notebook shows it once, where it is named."""
    plt.close(fig)
    return fig
