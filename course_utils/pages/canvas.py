"""The sheet that a page is drawn on: shapes with smooth edges, text with the box of each word."""

import functools

from PIL import Image, ImageDraw, ImageFont

from course_utils.pages.layouts import FAMILIES, Layout
from course_utils.paths import DATA

WIDTH, HEIGHT = 448, 576
GREY, PALE, INK = "#6b6b6b", "#d9d9d9", "#1d1d1f"


@functools.cache
def font_of(family: str, bold: bool, size: int) -> ImageFont.FreeTypeFont:
    """A font of the course at `size` pixels."""
    return ImageFont.truetype(str(DATA / "fonts" / FAMILIES[family][bold]), size)


class Canvas:
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
