"""How a publisher arranges a page: six fixed layouts for the course, and endless random ones for pretraining."""

import random
from dataclasses import dataclass

from course_utils.pages.facts import read_json

_DATA = read_json("layouts.json")
FAMILIES = _DATA["families"]  # of fonts: the files of the regular and the bold one
INKS = _DATA["inks"]  # dark enough for white text on top; chosen to stay apart for colour-blind readers
HEADING_SIZES = (22, 26)
BASELINE_GRID = 32  # px between the lines of a heading, on every page


@dataclass(frozen=True)
class Layout:
    """One publisher's page. Sizes are in pixels on a page of 448 x 576."""

    name: str
    publisher: str
    header: str
    order: str
    join: str
    align: str
    place: str
    sidebar: str
    family: str
    country_size: int
    topic_size: int
    body_size: int
    ink: str
    palette: list[str]
    margin: int
    shift: int
    horizontal: bool
    grid: bool
    upper: bool

    @property
    def arrangement(self) -> tuple[str, ...]:
        """What makes two layouts the same: everything about where the names of country and topic stand."""
        return (self.header, self.order, self.join, self.align, self.place, self.sidebar)


COURSE = tuple(Layout(**values) for values in _DATA["course"])
_TAKEN = {layout.arrangement for layout in COURSE}


def general_layout(seed: int) -> Layout:
    """A random layout whose arrangement is none of the course's; the same for the same seed."""
    rng = random.Random(f"layout-{seed}")
    while True:
        layout = Layout(
            name=f"general-{seed}",
            publisher=rng.choice(_DATA["publishers"]),
            header=rng.choice(("plain", "band", "rule", "box")),
            order=rng.choice(("country-topic", "topic-country")),
            join=rng.choices(("stacked", "inline", "apart"), (3, 2, 2))[0],
            align=rng.choice(("left", "center", "right")),
            place=rng.choices(("top", "bottom", "below-head"), (3, 2, 2))[0],
            sidebar=rng.choices(("none", "left", "right"), (4, 1, 1))[0],
            family=rng.choice(tuple(FAMILIES)),
            country_size=rng.choice(HEADING_SIZES),
            topic_size=rng.choice(HEADING_SIZES),
            body_size=rng.randint(13, 16),
            ink=rng.choice(INKS),
            palette=rng.choice(_DATA["palettes"]),
            margin=rng.randint(16, 44),
            shift=rng.choice((0, 32, 64)),
            horizontal=rng.random() < 0.5,
            grid=rng.random() < 0.5,
            upper=rng.random() < 0.15,
        )
        if layout.arrangement not in _TAKEN:
            return layout
