"""Draw a country-topic page as a statistical office would publish it, and sometimes as somebody scanned it."""

import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from course_utils.pages.canvas import GREY, HEIGHT, PALE, WIDTH, Canvas, fit, wrap
from course_utils.pages.facts import Page, wordings
from course_utils.pages.forms import FORMS, possible_forms
from course_utils.pages.layouts import BASELINE_GRID, Layout

BASELINE = 23  # px from the top of a heading line to its baseline


@dataclass(frozen=True)
class Drawn:
    """A drawn page: its image (448 x 576; RGB, a scan grey), the words on it with their boxes, and its form."""

    image: Image.Image
    words: list[tuple[str, tuple[float, float, float, float]]]
    form: str
    scan: bool

    @property
    def text(self) -> str:
        """The text layer, in drawing order; a scan has none."""
        return "" if self.scan else " ".join(word for word, _ in self.words)


def _unit_line(page: Page) -> str:
    units = sorted({fact.unit for fact in page.facts if fact.unit})
    years = sorted({fact.year for fact in page.facts if fact.year})
    when = "" if not years else str(years[0]) if len(years) == 1 else f"{years[0]}–{years[-1]}"
    return ", ".join(part for part in (*units, when) if part) or "various units"


def _titles(canvas: Canvas, page: Page, title: str, x0: float, x1: float, y: float) -> float:
    """Draw the names of country and topic from `y` down, and return where they end."""
    layout = canvas.layout
    country = page.country.name.upper() if layout.upper else page.country.name
    parts = [(country, layout.country_size, True), (title, layout.topic_size, layout.order == "topic-country")]
    if layout.order == "topic-country":
        parts.reverse()
    sides = ("left", "right") if layout.join == "apart" else (layout.align, layout.align)
    if layout.join == "inline":
        parts = [(": ".join(text for text, *_ in parts), min(layout.country_size, layout.topic_size), True)]
    lines = [
        (line, size, bold, side)
        for (text, size, bold), side in zip(parts, sides, strict=False)
        for line in wrap(text, canvas.font(size, bold), x1 - x0)
    ]
    y = math.ceil(y / BASELINE_GRID) * BASELINE_GRID
    end = y + len(lines) * BASELINE_GRID
    if layout.header == "band":
        canvas.rectangle(0, y - 6, WIDTH, end + 6, fill=layout.ink)
    if layout.header == "box":
        canvas.rectangle(x0 - 8, y - 5, x1 + 8, end + 5, outline=layout.ink, width=2)
    for k, (line, size, bold, side) in enumerate(lines):
        x, anchor = {"left": (x0, "ls"), "center": ((x0 + x1) / 2, "ms"), "right": (x1, "rs")}[side]
        ink = "white" if layout.header == "band" else layout.ink
        canvas.text(x, y + k * BASELINE_GRID + BASELINE, line, size, bold, ink, anchor)
    if layout.header == "rule":
        canvas.line([(x0, end + 3), (x1, end + 3)], layout.ink, 1.5)
    return end + (16 if layout.header == "rule" else 10)


def scan(image: Image.Image, rng: random.Random) -> tuple[Image.Image, float]:
    """The page as a tilted, noisy grey scan, and the tilt in degrees (counter-clockwise)."""
    tilt = rng.choice((-1, 1)) * rng.uniform(0.3, 1.5)
    paper = image.convert("L").rotate(tilt, Image.Resampling.BICUBIC, fillcolor=255)
    paper = paper.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.6)))
    noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(4, 9), (HEIGHT, WIDTH))
    shade = np.linspace(rng.uniform(-12, 0), rng.uniform(-12, 0), WIDTH)[None, :]
    grey = np.clip(np.asarray(paper, np.float32) * 0.9 + 18 + noise + shade, 0, 255)
    return Image.fromarray(grey.astype(np.uint8)), tilt


def turn(words, degrees: float, width: int = WIDTH, height: int = HEIGHT):
    """The word boxes after a picture of that size was turned about its centre."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = []
    for word, (x0, y0, x1, y1) in words:
        x, y = (x0 + x1 - width) / 2, (y0 + y1 - height) / 2
        dx, dy = c * x + s * y - x, c * y - s * x - y
        turned.append((word, (x0 + dx, y0 + dy, x1 + dx, y1 + dy)))
    return turned


def draw_page(page: Page, layout: Layout, seed: str, form: str | None = None, scanned: bool = False) -> Drawn:
    """Draw `page` in `layout`; `seed` decides title variant, form (unless given), page number and scan."""
    rng = random.Random(f"{page.id}-{seed}")
    title = rng.choice(wordings()[page.topic]["titles"])
    form = form or rng.choice(possible_forms(page))
    canvas = Canvas(layout)
    x0, x1, small = layout.margin, WIDTH - layout.margin, layout.body_size - 2
    if layout.sidebar != "none":
        width = 34
        edge = 0 if layout.sidebar == "left" else WIDTH - width
        canvas.rectangle(edge, 0, edge + width, HEIGHT, fill=layout.ink)
        x0, x1 = (x0 + width, x1) if layout.sidebar == "left" else (x0, x1 - width)
    top, bottom = 20.0, HEIGHT - 44.0
    if layout.place == "below-head":
        canvas.text(x0, 14, layout.publisher, small, fill=GREY)
        canvas.line([(x0, 34), (x1, 34)], PALE)
        top = 52.0
    if layout.place == "bottom":
        lines = sum(
            len(wrap(text, canvas.font(size, True), x1 - x0))
            for text, size in ((page.country.name, layout.country_size), (title, layout.topic_size))
        )
        bottom = (HEIGHT - 44 - layout.shift) // BASELINE_GRID * BASELINE_GRID - lines * BASELINE_GRID - 12.0
        _titles(canvas, page, title, x0, x1, bottom + 12)
    else:
        top = _titles(canvas, page, title, x0, x1, top + layout.shift)
    canvas.text(x0, top, fit(_unit_line(page), canvas.font(small), x1 - x0), small, fill=GREY)
    room = bottom - top - 34
    tall = min(room, 300 if form != "table" else 380)
    start = top + 26 + (room - tall) * rng.uniform(0, 0.3)
    FORMS[form](canvas, page, (x0, start, x1, start + tall))
    source = "Source: The World Factbook 2015" if layout.place != "below-head" else "The World Factbook, 2015"
    canvas.text(x0, HEIGHT - 30, source, small, fill=GREY)
    canvas.text(x1, HEIGHT - 30, str(rng.randint(3, 420)), small, fill=GREY, anchor="ra")
    image, words = canvas.finish()
    if scanned:
        image, tilt = scan(image, rng)
        words = turn(words, tilt)
    return Drawn(image, words, form, scanned)
