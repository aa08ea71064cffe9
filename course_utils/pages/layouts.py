"""How a publisher arranges a page: six fixed layouts for the course, and endless random ones for pretraining."""

import random
from dataclasses import dataclass

FAMILIES = {
    "liberation-sans": ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    "liberation-serif": ("LiberationSerif-Regular.ttf", "LiberationSerif-Bold.ttf"),
    "open-sans": ("OpenSans-Regular.ttf", "OpenSans-Bold.ttf"),
    "roboto-slab": ("RobotoSlab-Regular.otf", "RobotoSlab-Bold.otf"),
    "caladea": ("Caladea-Regular.ttf", "Caladea-Bold.ttf"),
    "lato": ("Lato-Regular.ttf", "Lato-Bold.ttf"),
}
# dark enough for white text on top; chosen to stay apart for colour-blind readers
INKS = ("#1b4965", "#7a1f3d", "#2d5a27", "#4a2f73", "#7a4a00", "#1d1d1f", "#005f73", "#8a1c1c")
PALETTES = (
    ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#999999", "#f0e442"),
    ("#332288", "#88ccee", "#44aa99", "#ddcc77", "#cc6677", "#aa4499", "#999933", "#bbbbbb"),
    ("#1b4965", "#5fa8d3", "#f4a259", "#8cb369", "#bc4b51", "#5b5b7b", "#c9ada7", "#e9c46a"),
)
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
    palette: tuple[str, ...]
    margin: int
    shift: int
    horizontal: bool
    grid: bool
    upper: bool

    @property
    def arrangement(self) -> tuple[str, ...]:
        """What makes two layouts the same: everything about where the names of country and topic stand."""
        return (self.header, self.order, self.join, self.align, self.place, self.sidebar)


def _course(name, publisher, arrangement, family, sizes, ink, palette, **options) -> Layout:
    plain = {"margin": 30, "shift": 0, "horizontal": False, "grid": True, "upper": False} | options
    return Layout(name, publisher, *arrangement.split(), family, *sizes, INKS[ink], PALETTES[palette], **plain)


_BULLETIN = "band country-topic stacked left top none"
_YEARBOOK = "rule topic-country stacked center top none"
_BRIEF = "plain country-topic stacked left below-head left"
_FACTSHEET = "rule topic-country apart left top none"
_GAZETTE = "box country-topic inline center below-head none"
_ATLAS = "plain topic-country stacked left bottom none"
_AIRY = {"margin": 38, "horizontal": True, "grid": False}
COURSE = (
    _course("bulletin", "Monthly Bulletin of Statistics", _BULLETIN, "open-sans", (26, 22, 14), 0, 0),
    _course("yearbook", "Statistical Yearbook", _YEARBOOK, "liberation-serif", (22, 26, 14), 5, 1, **_AIRY),
    _course("brief", "Country Brief", _BRIEF, "lato", (26, 22, 14), 2, 2, margin=24),
    _course("factsheet", "Fact Sheet Series", _FACTSHEET, "liberation-sans", (22, 22, 14), 1, 0, horizontal=True),
    _course("gazette", "The Official Gazette", _GAZETTE, "caladea", (26, 26, 15), 5, 1, grid=False),
    _course("atlas", "Atlas of Figures", _ATLAS, "roboto-slab", (22, 22, 14), 6, 2, margin=26),
)
_TAKEN = {layout.arrangement for layout in COURSE}
_PUBLISHERS = (
    *("National Accounts Office", "Bureau of Statistics", "Data Service", "Annual Abstract", "Figures Unit"),
    *("Survey Department", "Handbook of Indicators", "Research Notes", "Central Registry", "Public Records"),
)


def general_layout(seed: int) -> Layout:
    """A random layout whose arrangement is none of the course's; the same for the same seed."""
    rng = random.Random(f"layout-{seed}")
    while True:
        layout = Layout(
            name=f"general-{seed}",
            publisher=rng.choice(_PUBLISHERS),
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
            palette=rng.choice(PALETTES),
            margin=rng.randint(16, 44),
            shift=rng.choice((0, 32, 64)),
            horizontal=rng.random() < 0.5,
            grid=rng.random() < 0.5,
            upper=rng.random() < 0.15,
        )
        if layout.arrangement not in _TAKEN:
            return layout
