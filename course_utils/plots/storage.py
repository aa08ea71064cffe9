"""What storing vectors costs: score by bytes a page, milliseconds by number of vectors, dollars by pages."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from course_utils.errors import CourseError
from course_utils.evaluation import Interval
from course_utils.plots.style import AFTER, BEFORE, DARK, RELEVANT, bars, canvas, need

LOOKS = ((DARK, "o"), ("#CC79A7", "^"), (AFTER, "D"), (BEFORE, "s"), (RELEVANT, "P"))  # colour and marker of each line


def by_bytes(scores: Mapping[str, Mapping[float, Interval]], title: str = "Score by bytes a page") -> Figure:
    """NDCG@10 by the bytes that a page's vector takes, with 95% intervals; a line for each precision, five at most.

    scores: precision to bytes a page to Interval.
    """
    _lines(scores)
    with canvas(4.6) as (fig, axes):
        for (name, line), (color, marker) in zip(scores.items(), LOOKS, strict=False):
            sizes = sorted(line)
            intervals = [line[size] for size in sizes]
            bars(axes, sizes, intervals, color, marker, label=f"{name}, n={intervals[0].n}")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda size, _: f"{size:,.4g}")
        axes.set(xlabel="bytes a page (logarithmic scale)", ylabel="NDCG@10 (0 to 1)", ylim=(0, 1.03))
        axes.set_title(f"{title}: bars are 95% bootstrap intervals")
        axes.legend(loc="lower right", frameon=False)
    return fig


def by_vectors(milliseconds: Mapping[str, Mapping[int, float]], title: str = "Time of one search") -> Figure:
    """Milliseconds a query by the number of vectors that are searched; a line for each way to search, five at most.

    milliseconds: way to number of vectors to milliseconds.
    """
    return _logarithmic(milliseconds, 4.0, "vectors", "milliseconds a query (logarithmic scale)", title)


def by_pages(lines: Mapping[str, Sequence[tuple[float, float]]], ylabel: str, title: str) -> Figure:
    """A line for each name through its points (pages, value), five at most. Raises CourseError for no line."""
    return _logarithmic({name: dict(points) for name, points in lines.items()}, 4.4, "pages", ylabel, title)


def _logarithmic(
    lines: Mapping[str, Mapping[float, float]], height: float, what: str, ylabel: str, title: str
) -> Figure:
    """A line for each name by the number of `what`, both axes logarithmic, a tick at each number."""
    _lines(lines)
    with canvas(height) as (fig, axes):
        for (name, line), (color, marker) in zip(lines.items(), LOOKS, strict=False):
            axes.loglog(*zip(*sorted(line.items()), strict=True), color=color, marker=marker, ms=7, lw=1.8, label=name)
        sizes = sorted({size for line in lines.values() for size in line})
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
        axes.set(xlabel=f"{what} (logarithmic scale)", ylabel=ylabel, title=title)
        axes.legend(frameon=False)
    return fig


def _lines(points: Mapping[str, Mapping]) -> None:
    need(points and all(points.values()), "at least one point for each line")
    if len(points) > len(LOOKS):
        raise CourseError(f"Give at most {len(LOOKS)} lines.")
