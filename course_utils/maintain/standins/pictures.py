"""What the small model looks at: headings in strips and sheets at first, then parts of pages and whole pages.

Words come with their boxes (x0, y0, x1, y1) in pixels of the picture, so that each image token can be asked to name
the words in its 32 x 32 px.
"""

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from course_utils.maintain.standins.general_pages import GRID_COLUMNS, GRID_ROWS, WIDTH, GeneralPages
from course_utils.pages.canvas import font_of
from course_utils.pages.drawing import BASELINE, turn
from course_utils.pages.facts import wordings
from course_utils.pages.layouts import BASELINE_GRID, FAMILIES, HEADING_SIZES, INKS

CROP_ROWS = 3
TILTED = 0.4  # share of sheets that are turned and noisy, like scans
LEGIBLE = 6.4  # px: titles are taller than this, labels are not

Words = list[tuple[str, tuple[float, float, float, float]]]


def strip(
    corpus: GeneralPages, title_words: list[str], rng: random.Random, loose: float, wide: int = WIDTH, high: int = 32
) -> tuple[np.ndarray, Words]:
    """Two heading lines, `wide` x `high` px, words aligned with the image tokens at first, anywhere as `loose` grows to 1."""
    ink, paper = "black", "white"
    if rng.random() < loose:
        ink, paper = rng.choice((("white", rng.choice(INKS)), (rng.choice(INKS), "white")))
    sheet = Image.new("RGB", (448, 64), paper)
    draw, words = ImageDraw.Draw(sheet), []
    for line in range(2):
        font = font_of(rng.choice(tuple(FAMILIES)), rng.random() < 0.6, rng.choice(HEADING_SIZES))
        page = rng.choice(corpus.pages)
        title = rng.choice(wordings()[page.topic]["titles"])
        phrase = f"{page.country.name} {title}".split() if rng.random() < loose / 2 else []
        x, y = 4 + loose * rng.uniform(-4, 56), line * BASELINE_GRID + BASELINE
        while x < 440:
            word = phrase.pop(0) if phrase else rng.choice(title_words)
            draw.text((x, y), word, font=font, fill=ink, anchor="ls")
            width = font.getlength(word)
            words.append((word, (x * wide / 448, (y - 16) * high / 64, (x + width) * wide / 448, y * high / 64)))
            x += width + font.getlength(" ")
            if loose < 0.5:
                x = 64 * math.ceil((x - 4) / 64) + 4 + 2 * loose * rng.uniform(-4, 28)
    small = sheet.reduce(2) if (wide, high) == (WIDTH, 32) else sheet.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(small), words


def sheet(strips: list[tuple[np.ndarray, Words]], rng: random.Random) -> tuple[np.ndarray, Words]:
    """A page full of headings, nine strips high, some sheets turned and noisy like scans."""
    chosen = rng.sample(strips, GRID_ROWS)
    high = chosen[0][0].shape[0]
    image = np.concatenate([picture for picture, _ in chosen])
    words = [
        (word, (x0, y0 + high * row, x1, y1 + high * row))
        for row, (_, found) in enumerate(chosen)
        for word, (x0, y0, x1, y1) in found
    ]
    if rng.random() < TILTED:
        tilt = rng.uniform(-1.5, 1.5)
        grey = Image.fromarray(image).convert("L").rotate(tilt, Image.Resampling.BICUBIC, fillcolor=255)
        noise = np.random.default_rng(rng.getrandbits(32)).normal(0, rng.uniform(1, 5), grey.size[::-1])
        grey = np.clip(np.asarray(grey, np.float32) * 0.9 + rng.uniform(5, 18) + noise, 0, 255).astype(np.uint8)
        image, words = np.repeat(grey[:, :, None], 3, 2), turn(words, tilt, image.shape[1], image.shape[0])
    return image, words


def picture(corpus: GeneralPages, k: int, crop: bool, rng: random.Random) -> tuple[np.ndarray, Words]:
    """Drawing `k` moved by a few pixels, or three rows of it around the country's name; and its words where they are now."""
    image, words = corpus.images[k], corpus.words[k]
    dx, dy, rows = rng.randint(-10, 10), 16 * rng.randint(-1, 1), GRID_ROWS
    if crop:
        rows = CROP_ROWS
        names = set(corpus.pages[k].country.name.lower().split())
        tops = [box[1] for word, box in words if word.lower().strip(":") in names] or [0]
        dy = 16 * round((32 * rows / 2 - rng.choice(tops) + rng.uniform(-40, 24)) / 16)
        dy = max(min(dy, 16), 32 * rows - image.shape[0] - 16)
    moved = np.full((32 * rows, image.shape[1], 3), 255, np.uint8)
    top, left = max(dy, 0), max(dx, 0)
    bottom, right = min(image.shape[0] + dy, moved.shape[0]), min(image.shape[1] + dx, moved.shape[1])
    moved[top:bottom, left:right] = image[top - dy : bottom - dy, left - dx : right - dx]
    return moved, [(word, (b[0] + dx, b[1] + dy, b[2] + dx, b[3] + dy)) for word, b in words]


def cells(
    words: Words, rows: int, columns_of: dict[str, list[int]], columns: int = GRID_COLUMNS
) -> dict[int, set[int]]:
    """For each image token of a picture of `rows` rows: `columns_of` the legible words that lie in it by 4 px at least."""
    found: dict[int, set[int]] = {}
    for word, (x0, y0, x1, y1) in words:
        asked = columns_of.get(word.lower())
        if not asked or y1 < 4 or x1 < 4 or y1 - y0 < LEGIBLE:
            continue
        for row in range(max(0, int((y0 + 3) // 32)), min(rows - 1, int((y1 - 3) // 32)) + 1):
            for column in range(max(0, int((x0 + 4) // 32)), min(columns - 1, int((x1 - 4) // 32)) + 1):
                found.setdefault(row * columns + column, set()).update(asked)
    return found
