"""The figures of a page as bars, a line, a pie or a table."""

import math

from course_utils.pages.canvas import GREY, PALE, Canvas, fit, wrap
from course_utils.pages.facts import Page, number
from course_utils.pages.layouts import Layout

Box = tuple[float, float, float, float]  # left, top, right, bottom, in px


def possible_forms(page: Page) -> list[str]:
    """The forms that suit the figures: a pie only for shares, a line only for years."""
    units = {fact.unit for fact in page.facts}
    suits = {"table": True, "bars": len(units) == 1 and units != {""}, "pie": page.is_share, "line": page.is_series}
    return [form for form, possible in suits.items() if possible]


def _scale(values: list[float]) -> tuple[float, float, list[float]]:
    """A range that holds zero and `values`, and four or five round ticks in it."""
    low, high = min(0.0, *values), max(0.0, *values)
    step = 10 ** math.floor(math.log10((high - low) / 4 or 1))
    step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    return first * step, last * step, [k * step for k in range(first, last + 1)]


def _colour(layout: Layout, value: float) -> str:
    return layout.palette[0 if value >= 0 else 5]


def _bars(canvas: Canvas, page: Page, box: Box) -> None:
    across = not page.is_series and (canvas.layout.horizontal or len(page.facts) > 5)
    (_bars_across if across else _bars_up)(canvas, page, box)


def _bars_across(canvas: Canvas, page: Page, box: Box) -> None:
    (x0, y0, x1, y1), facts, size = box, page.facts, canvas.layout.body_size
    font = canvas.font(size - 1)
    labels = [fit(fact.label, font, (x1 - x0) * 0.42) for fact in facts]
    left = x0 + max(font.getlength(label) for label in labels) + 8
    right = x1 - max(font.getlength(number(fact.value)) for fact in facts) - 6
    low, high, _ = _scale([fact.value for fact in facts])
    zero = left + (0 - low) / (high - low) * (right - left)
    pitch = min((y1 - y0) / len(facts), 46)
    for k, (fact, label) in enumerate(zip(facts, labels, strict=True)):
        y, end = y0 + (k + 0.5) * pitch, left + (fact.value - low) / (high - low) * (right - left)
        first, last = sorted((zero, end))
        canvas.rectangle(first, y - pitch * 0.32, last, y + pitch * 0.32, _colour(canvas.layout, fact.value))
        canvas.text(x0, y, label, size - 1, anchor="lm")
        canvas.text(last + 4, y, number(fact.value), size - 1, anchor="lm")
    canvas.line([(zero, y0), (zero, y0 + pitch * len(facts))], GREY)


def _axis(canvas: Canvas, page: Page, x0: float, y0: float, x1: float, y1: float):
    """Draw a value axis with its ticks; the left end of the plot, and a function from value to y."""
    size = canvas.layout.body_size - 2
    low, high, ticks = _scale([fact.value for fact in page.facts])
    left = x0 + max(canvas.font(size).getlength(number(tick)) for tick in ticks) + 8

    def place(value: float) -> float:
        return y1 - (value - low) / (high - low) * (y1 - y0)

    for tick in ticks:
        if canvas.layout.grid or tick == 0:
            canvas.line([(left, place(tick)), (x1, place(tick))], GREY if tick == 0 else PALE, 0.7)
        canvas.text(left - 5, place(tick), number(tick), size, fill=GREY, anchor="rm")
    canvas.line([(left, y0), (left, y1)], GREY)
    return left, place


def _years(page: Page, left: float, right: float) -> tuple[list[float], float]:
    """The x of each year on a true time axis with half a year's room at both ends, and the width of a year."""
    years = [int(fact.label) for fact in page.facts]
    span = years[-1] - years[0] + 1
    return [left + (year - years[0] + 0.5) / span * (right - left) for year in years], (right - left) / span


def _bars_up(canvas: Canvas, page: Page, box: Box) -> None:
    (x0, y0, x1, y1), facts, size = box, page.facts, canvas.layout.body_size
    left, place = _axis(canvas, page, x0, y0 + 16, x1, y1 - 36)
    pitch, font = (x1 - left) / len(facts), canvas.font(size - 2)
    middles = [left + (k + 0.5) * pitch for k in range(len(facts))]
    if page.is_series:
        middles, pitch = _years(page, left, x1)
    half = min(pitch * 0.33, 30)
    for x, fact in zip(middles, facts, strict=True):
        top, bottom = sorted((place(fact.value), place(0)))
        canvas.rectangle(x - half, top, x + half, bottom, _colour(canvas.layout, fact.value))
        canvas.text(x, top - 2, number(fact.value), size - 2, anchor="mb")
        for k, line in enumerate(wrap(fact.label, font, pitch)[:2]):
            canvas.text(x, y1 - 32 + k * size, fit(line, font, pitch - 2), size - 2, anchor="ma")


def _line(canvas: Canvas, page: Page, box: Box) -> None:
    (x0, y0, x1, y1), size, colour = box, canvas.layout.body_size, canvas.layout.palette[0]
    left, place = _axis(canvas, page, x0, y0 + 16, x1, y1 - 24)
    points = list(zip(_years(page, left, x1)[0], (place(fact.value) for fact in page.facts), strict=True))
    canvas.line(points, colour, 2.5)
    for (x, y), fact in zip(points, page.facts, strict=True):
        canvas.dot(x, y, 4, colour)
        canvas.text(x, y - 7, number(fact.value), size - 1, anchor="mb")
        canvas.text(x, y1 - 18, fact.label, size - 1, anchor="ma")


def _pie(canvas: Canvas, page: Page, box: Box) -> None:
    (x0, y0, x1, y1), facts, size, palette = box, page.facts, canvas.layout.body_size, canvas.layout.palette
    radius = min((x1 - x0) * 0.24, (y1 - y0) * 0.45)
    x, y, start = x0 + radius + 4, (y0 + y1) / 2, -90.0
    total, key = sum(fact.value for fact in facts), y - len(facts) * (size + 8) / 2
    for k, fact in enumerate(facts):
        colour = "#c8c8c8" if fact.label == "not listed" else palette[k % len(palette)]
        end = start + 360 * fact.value / total
        if fact.value:
            canvas.slice(x, y, radius, start, end, colour)
        start = end
        canvas.rectangle(x + radius + 16, key + 2, x + radius + 16 + size - 3, key + size - 1, colour)
        label = fit(f"{fact.label} {number(fact.value)}%", canvas.font(size - 1), x1 - x - radius - 38)
        canvas.text(x + radius + 36, key, label, size - 1)
        key += size + 8


def _table(canvas: Canvas, page: Page, box: Box) -> None:
    (x0, y0, x1, y1), layout, size = box, canvas.layout, canvas.layout.body_size
    mixed = len({fact.unit for fact in page.facts}) > 1
    pitch = min((y1 - y0) / (len(page.facts) + 1), 32)
    canvas.rectangle(x0, y0, x1, y0 + pitch, layout.ink)
    canvas.text(x0 + 8, y0 + pitch / 2, "Year" if page.is_series else "Item", size, True, "white", "lm")
    canvas.text(x1 - 8, y0 + pitch / 2, "Value", size, True, "white", "rm")
    for k, fact in enumerate(page.facts, 1):
        top = y0 + k * pitch
        if k % 2 == 0 and layout.grid:
            canvas.rectangle(x0, top, x1, top + pitch, "#efefef")
        canvas.line([(x0, top + pitch), (x1, top + pitch)], PALE)
        value = f"{number(fact.value)} {fact.unit}" if mixed else number(fact.value)
        canvas.text(x0 + 8, top + pitch / 2, fit(fact.label, canvas.font(size), (x1 - x0) * 0.62), size, anchor="lm")
        canvas.text(x1 - 8, top + pitch / 2, value, size, anchor="rm")


FORMS = {"bars": _bars, "line": _line, "pie": _pie, "table": _table}
