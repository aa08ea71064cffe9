"""Where a query and its page name the same country and the same topic: the truth for heat maps, and its patches."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image, ImageDraw

from course_utils.errors import CourseError
from course_utils.pages.build import Sheet, sheets
from course_utils.pages.canvas import HEIGHT, WIDTH
from course_utils.pages.facts import pages, wordings

Box = tuple[float, float, float, float]  # left, top, right, bottom, in shares of the page's width and height


@dataclass(frozen=True)
class Named:
    """A country or a topic: which characters of the query name it, and the boxes of its words in the page's heading.

    `characters` is (start, end).
    """

    characters: tuple[int, int]
    boxes: list[Box]


def named(query: str, page_id: str) -> dict[str, Named]:
    """What `query` and the drawn page both name: "country" (by name, adjective or capital) and "topic" (its phrase).

    A part is left out where the query does not name it. Raises CourseError for a page that is not drawn.
    """
    if page_id not in _sheets():
        raise CourseError(f"{page_id!r} is none of the drawn pages: take an id from `test.corpus`.")
    page, words = pages()[page_id], _sheets()[page_id].draw().words
    phrases = wordings()[page.topic]
    names = {
        "country": ([page.country.name, page.country.adjective, page.country.capital], [page.country.name]),
        "topic": (sum((phrases[kind] for kind in ("course", "unseen", "natural")), []), phrases["titles"]),
    }
    found = {part: (_characters(query, asked), _boxes(words, shown)) for part, (asked, shown) in names.items()}
    return {part: Named(at, boxes) for part, (at, boxes) in found.items() if at and boxes}


def touched(boxes: Iterable[Box], rows: int, columns: int) -> set[tuple[int, int]]:
    """The patches, as (row, column), that some box reaches into by an eighth of a patch or more."""
    found, edge = set(), 1 / 8
    for x0, y0, x1, y1 in boxes:
        down = range(int(y0 * rows + edge), min(rows - 1, int(y1 * rows - edge)) + 1)
        across = range(int(x0 * columns + edge), min(columns - 1, int(x1 * columns - edge)) + 1)
        found |= {(row, column) for row in down for column in across}
    return found


def with_boxes(image: Image.Image, boxes: Iterable[Box]) -> Image.Image:
    """A copy of the image with the boxes drawn in orange."""
    image = image.convert("RGB").copy()
    for x0, y0, x1, y1 in boxes:
        corners = [x0 * image.width, y0 * image.height, x1 * image.width, y1 * image.height]
        ImageDraw.Draw(image).rectangle(corners, outline="#D55E00", width=3)
    return image


@functools.cache
def _sheets() -> dict[str, Sheet]:
    return sheets()


def _characters(query: str, names: list[str]) -> tuple[int, int] | None:
    """Where the query has one of the names as whole words; the longest, if there are several."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        if match := re.search(rf"(?<!\w){re.escape(name)}(?!\w)", query):
            return match.span()
    return None


def _boxes(words, titles: list[str]) -> list[Box]:
    """The boxes of the words of a title, wherever the page has all of them in a row."""
    plain = [_plain(word) for word, _ in words]
    found = []
    for title in titles:
        wanted = [_plain(word) for word in title.split()]
        starts = [k for k in range(len(plain)) if plain[k : k + len(wanted)] == wanted]
        found += [box for k in starts for _, box in words[k : k + len(wanted)]]
    return [(x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT) for x0, y0, x1, y1 in found]


def _plain(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())
