"""Draw a country-topic page as a statistical office would publish it, and sometimes as somebody scanned it."""

import functools
import math
import random
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from course_utils.pages.facts import Fact, Page, number, wordings
from course_utils.pages.layouts import BASELINE_GRID, FAMILIES, Layout
from course_utils.paths import DATA

WIDTH, HEIGHT = 448, 576
FORMS = ("bars", "line", "pie", "table")
BASELINE = 23  # px from the top of a heading line to its baseline
GREY, PALE, INK = "#6b6b6b", "#d9d9d9", "#1d1d1f"


@dataclass(frozen=True)
class Drawn:
    """A drawn page: its image (448 x 576; RGB, a scan grey), the words on it with their boxes, form and layout."""

    image: Image.Image
    words: list[tuple[str, tuple[float, float, float, float]]]
    form: str
    layout: str
    scan: bool

    @property
    def text(self) -> str:
        """The text layer, in drawing order; a scan has none."""
        return "" if self.scan else " ".join(word for word, _ in self.words)


@functools.cache
def font_of(family: str, bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """A font of the course at `size` pixels."""
    return ImageFont.truetype(str(DATA / "fonts" / FAMILIES[family][bold]), size)


class _Canvas:
    """Shapes on a sheet of twice the size (smooth edges); text at the final size, each word's box noted."""

    def __init__(self, layout: Layout):
        self.layout = layout
        self.sheet = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")
        self.shapes = ImageDraw.Draw(self.sheet)
        self.later: list[tuple] = []

    def font(self, size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
        return font_of(self.layout.family, bold, size)

    def rectangle(self, x0, y0, x1, y1, fill=None, outline=None, width=1):
        self.shapes.rectangle([2 * x0, 2 * y0, 2 * x1, 2 * y1], fill=fill, outline=outline, width=2 * width)

    def line(self, points, fill=INK, width=1.0):
        self.shapes.line([(2 * x, 2 * y) for x, y in points], fill=fill, width=max(1, round(2 * width)), joint="curve")

    def slice(self, x, y, radius, start, end, fill):
        box = [2 * (x - radius), 2 * (y - radius), 2 * (x + radius), 2 * (y + radius)]
        self.shapes.pieslice(box, start, end, fill=fill, outline="white", width=3)

    def dot(self, x, y, radius, fill):
        self.shapes.ellipse([2 * (x - radius), 2 * (y - radius), 2 * (x + radius), 2 * (y + radius)], fill=fill)

    def text(self, x, y, text, size, bold=False, fill=INK, anchor="la"):
        self.later.append((x, y, text, self.font(size, bold), fill, anchor))

    def finish(self) -> tuple[Image.Image, list]:
        image = self.sheet.reduce(2)
        draw = ImageDraw.Draw(image)
        words = []
        for x, y, text, font, fill, anchor in self.later:
            draw.text((x, y), text, font=font, fill=fill, anchor=anchor)
            left, top, right, bottom = draw.textbbox((x, y), text, font=font, anchor=anchor)
            space, at = font.getlength(" "), left
            for word in text.split():
                width = font.getlength(word)
                words.append((word, (at, top, at + width, bottom)))
                at += width + space
        return image, words


def wrap(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """`text` in lines of at most `width` pixels (a single longer word keeps a line of its own)."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def fit(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def possible_forms(page: Page) -> list[str]:
    """The forms that suit the figures: a pie only for shares, a line only for years."""
    units = {fact.unit for fact in page.facts}
    forms = ["table"]
    if len(units) == 1 and units != {""}:
        forms.append("bars")
    if page.is_share:
        forms.append("pie")
    if page.is_series:
        forms.append("line")
    return forms


def _unit_line(page: Page) -> str:
    units = sorted({fact.unit for fact in page.facts if fact.unit})
    years = sorted({fact.year for fact in page.facts if fact.year})
    when = "" if not years else str(years[0]) if len(years) == 1 else f"{years[0]}–{years[-1]}"
    return ", ".join(part for part in (*units, when) if part) or "various units"


def _titles(canvas: _Canvas, page: Page, title: str, x0: float, x1: float, y: float) -> float:
    """Draw the names of country and topic from `y` down, and return where they end."""
    layout = canvas.layout
    country = page.country.name.upper() if layout.upper else page.country.name
    parts = [(country, layout.country_size, True), (title, layout.topic_size, layout.order == "topic-country")]
    if layout.order == "topic-country":
        parts.reverse()
    on_band = layout.header == "band"
    blocks: list[tuple[list[str], int, bool, str]] = []
    if layout.join == "inline":
        size = min(layout.country_size, layout.topic_size)
        blocks.append(
            (wrap(f"{parts[0][0]}: {parts[1][0]}", canvas.font(size, True), x1 - x0), size, True, layout.align)
        )
    else:
        sides = ("left", "right") if layout.join == "apart" else (layout.align, layout.align)
        blocks += [
            (wrap(text, canvas.font(size, bold), x1 - x0), size, bold, side)
            for (text, size, bold), side in zip(parts, sides, strict=True)
        ]
    y = math.ceil(y / BASELINE_GRID) * BASELINE_GRID
    height = sum(len(lines) for lines, *_ in blocks) * BASELINE_GRID
    if on_band:
        canvas.rectangle(0, y - 6, WIDTH, y + height + 6, fill=layout.ink)
    if layout.header == "box":
        canvas.rectangle(x0 - 8, y - 5, x1 + 8, y + height + 5, outline=layout.ink, width=2)
    for lines, size, bold, side in blocks:
        x, anchor = {"left": (x0, "ls"), "center": ((x0 + x1) / 2, "ms"), "right": (x1, "rs")}[side]
        for line in lines:
            canvas.text(x, y + BASELINE, line, size, bold, "white" if on_band else layout.ink, anchor)
            y += BASELINE_GRID
    if layout.header == "rule":
        canvas.line([(x0, y + 3), (x1, y + 3)], layout.ink, 1.5)
        y += 6
    return y + 10


def _scale(values: list[float]) -> tuple[float, float, list[float]]:
    """A range that holds zero and `values`, and four or five round ticks in it."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = 10 ** math.floor(math.log10((high - low) / 4 or 1))
    step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return first * step, last * step, [k * step for k in range(first, last + 1)]


def _bars(canvas: _Canvas, page: Page, box: tuple[float, float, float, float]) -> None:
    layout, facts = canvas.layout, page.facts
    if not page.is_series and (layout.horizontal or len(facts) > 5):
        _bars_across(canvas, facts, box)
    else:
        _bars_up(canvas, page, box)


def _bars_across(canvas: _Canvas, facts: tuple[Fact, ...], box) -> None:
    layout, size = canvas.layout, canvas.layout.body_size
    x0, y0, x1, y1 = box
    font = canvas.font(size - 1)
    labels = [fit(fact.label, font, (x1 - x0) * 0.42) for fact in facts]
    left = x0 + max(font.getlength(label) for label in labels) + 8
    right = x1 - max(font.getlength(number(fact.value)) for fact in facts) - 6
    low, high, _ = _scale([fact.value for fact in facts])
    place = lambda value: left + (value - low) / (high - low) * (right - left)  # noqa: E731
    pitch = min((y1 - y0) / len(facts), 46)
    for k, (fact, label) in enumerate(zip(facts, labels, strict=True)):
        y = y0 + (k + 0.5) * pitch
        canvas.rectangle(
            min(place(0), place(fact.value)),
            y - pitch * 0.32,
            max(place(0), place(fact.value)),
            y + pitch * 0.32,
            fill=layout.palette[0] if fact.value >= 0 else layout.palette[5],
        )
        canvas.text(x0, y, label, size - 1, anchor="lm")
        canvas.text(max(place(0), place(fact.value)) + 4, y, number(fact.value), size - 1, anchor="lm")
    canvas.line([(place(0), y0), (place(0), y0 + pitch * len(facts))], GREY)


def _axis(canvas: _Canvas, values: list[float], x0, y0, x1, y1):
    """Draw a value axis with its ticks; return the left end of the plot and a function from value to y."""
    size = canvas.layout.body_size - 2
    low, high, ticks = _scale(values)
    left = x0 + max(canvas.font(size).getlength(number(tick)) for tick in ticks) + 8
    place = lambda value: y1 - (value - low) / (high - low) * (y1 - y0)  # noqa: E731
    for tick in ticks:
        if canvas.layout.grid or tick == 0:
            canvas.line([(left, place(tick)), (x1, place(tick))], GREY if tick == 0 else PALE, 0.7)
        canvas.text(left - 5, place(tick), number(tick), size, fill=GREY, anchor="rm")
    canvas.line([(left, y0), (left, y1)], GREY)
    return left, place


def _years(page: Page, left: float, right: float):
    """A function from a year to x on a true time axis, with half a year's room at both ends."""
    first, last = int(page.facts[0].label), int(page.facts[-1].label)
    span = last - first + 1
    return lambda year: left + (int(year) - first + 0.5) / span * (right - left)


def _bars_up(canvas: _Canvas, page: Page, box) -> None:
    layout, facts, size = canvas.layout, page.facts, canvas.layout.body_size
    x0, y0, x1, y1 = box
    left, place = _axis(canvas, [fact.value for fact in facts], x0, y0 + 16, x1, y1 - 36)
    pitch = (x1 - left) / len(facts)
    at = _years(page, left, x1) if page.is_series else None
    if at:
        pitch = (x1 - left) / (int(facts[-1].label) - int(facts[0].label) + 1)
    for k, fact in enumerate(facts):
        x = at(fact.label) if at else left + (k + 0.5) * pitch
        half = min(pitch * 0.33, 30)
        top, bottom = sorted((place(fact.value), place(0)))
        canvas.rectangle(
            x - half, top, x + half, bottom, fill=layout.palette[0] if fact.value >= 0 else layout.palette[5]
        )
        canvas.text(x, top - 2, number(fact.value), size - 2, anchor="mb")
        for line_number, line in enumerate(wrap(fact.label, canvas.font(size - 2), pitch)[:2]):
            canvas.text(
                x, y1 - 32 + line_number * size, fit(line, canvas.font(size - 2), pitch - 2), size - 2, anchor="ma"
            )


def _line(canvas: _Canvas, page: Page, box) -> None:
    layout, facts, size = canvas.layout, page.facts, canvas.layout.body_size
    x0, y0, x1, y1 = box
    left, place = _axis(canvas, [fact.value for fact in facts], x0, y0 + 16, x1, y1 - 24)
    at = _years(page, left, x1)
    points = [(at(fact.label), place(fact.value)) for fact in facts]
    canvas.line(points, layout.palette[0], 2.5)
    for (x, y), fact in zip(points, facts, strict=True):
        canvas.dot(x, y, 4, layout.palette[0])
        canvas.text(x, y - 7, number(fact.value), size - 1, anchor="mb")
        canvas.text(x, y1 - 18, fact.label, size - 1, anchor="ma")


def _pie(canvas: _Canvas, page: Page, box) -> None:
    layout, facts, size = canvas.layout, page.facts, canvas.layout.body_size
    x0, y0, x1, y1 = box
    radius = min((x1 - x0) * 0.24, (y1 - y0) * 0.45)
    x, y, start = x0 + radius + 4, (y0 + y1) / 2, -90.0
    total = sum(fact.value for fact in facts)
    key = y - len(facts) * (size + 8) / 2
    for k, fact in enumerate(facts):
        colour = "#c8c8c8" if fact.label == "not listed" else layout.palette[k % len(layout.palette)]
        end = start + 360 * fact.value / total
        if fact.value:
            canvas.slice(x, y, radius, start, end, colour)
        start = end
        canvas.rectangle(x + radius + 16, key + 2, x + radius + 16 + size - 3, key + size - 1, fill=colour)
        label = fit(f"{fact.label} {number(fact.value)}%", canvas.font(size - 1), x1 - x - radius - 38)
        canvas.text(x + radius + 36, key, label, size - 1)
        key += size + 8


def _table(canvas: _Canvas, page: Page, box) -> None:
    layout, facts, size = canvas.layout, page.facts, canvas.layout.body_size
    x0, y0, x1, y1 = box
    mixed = len({fact.unit for fact in facts}) > 1
    pitch = min((y1 - y0) / (len(facts) + 1), 32)
    canvas.rectangle(x0, y0, x1, y0 + pitch, fill=layout.ink)
    canvas.text(x0 + 8, y0 + pitch / 2, "Year" if page.is_series else "Item", size, True, "white", "lm")
    canvas.text(x1 - 8, y0 + pitch / 2, "Value", size, True, "white", "rm")
    for k, fact in enumerate(facts, 1):
        top = y0 + k * pitch
        if k % 2 == 0 and layout.grid:
            canvas.rectangle(x0, top, x1, top + pitch, fill="#efefef")
        canvas.line([(x0, top + pitch), (x1, top + pitch)], PALE)
        value = f"{number(fact.value)} {fact.unit}" if mixed else number(fact.value)
        canvas.text(x0 + 8, top + pitch / 2, fit(fact.label, canvas.font(size), (x1 - x0) * 0.62), size, anchor="lm")
        canvas.text(x1 - 8, top + pitch / 2, value, size, anchor="rm")


DRAW = {"bars": _bars, "line": _line, "pie": _pie, "table": _table}


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
    canvas = _Canvas(layout)
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
    DRAW[form](canvas, page, (x0, start, x1, start + tall))
    source = "Source: The World Factbook 2015" if layout.place != "below-head" else "The World Factbook, 2015"
    canvas.text(x0, HEIGHT - 30, source, small, fill=GREY)
    canvas.text(x1, HEIGHT - 30, str(rng.randint(3, 420)), small, fill=GREY, anchor="ra")
    image, words = canvas.finish()
    if scanned:
        image, tilt = scan(image, rng)
        words = turn(words, tilt)
    return Drawn(image, words, form, layout.name, scanned)
