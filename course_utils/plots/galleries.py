"""Page images side by side."""

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from course_utils.errors import CourseError
from course_utils.plots.style import OTHER, RELEVANT, WIDTH, canvas, need


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
    marks = [f"{rank}  {'✓' if page in relevant else 'not'} relevant" for rank, page in enumerate(ids, start=1)]
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
    need(images, "at least one image")
    pictures = [_open(image) for image in images]
    captions = [""] * len(pictures) if captions is None else list(captions)
    lines = 1 + max(caption.count("\n") for caption in captions)
    heading = textwrap.fill(title, 95)
    width = min(WIDTH, 3.6 * len(pictures))
    column = width / len(pictures)
    height = max(column * picture.height / picture.width for picture in pictures)
    height += 0.2 + 0.2 * lines + 0.24 * (heading.count("\n") + 1 if heading else 0)
    style = {"axes.titlesize": 10.5 if len(pictures) <= 5 else 8.5, "axes.titlelocation": "center"}
    with canvas(height, 1, len(pictures), width=width, style=style, squeeze=False) as (fig, grid):
        for axes, picture, caption in zip(grid[0], pictures, captions, strict=True):
            axes.imshow(picture, interpolation="lanczos")
            axes.grid(False)
            axes.set(xticks=[], yticks=[], title=caption)
            for side in axes.spines.values():
                side.set(visible=True, color=OTHER, linewidth=1)
        if heading:
            fig.suptitle(heading, x=0.01, ha="left", fontsize=12)
    return fig


def _open(image: Image.Image | str | Path) -> Image.Image:
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if not Path(image).is_file():
        raise CourseError(f"Page image {Path(image).name!r} is missing: build the pages again.")
    with Image.open(image) as picture:
        return picture.convert("RGB")


def _fit(caption: str, columns: int) -> str:
    """A caption in exactly two lines that fit its column; what has no room becomes an ellipsis."""
    lines = textwrap.wrap(caption, max(12, round(105 / columns)), max_lines=2, placeholder="…")
    return "\n".join((lines + ["", ""])[:2])
