"""The figures behind the pages: countries, topics and values from the World Factbook (2015)."""

import csv
import functools
import json
from dataclasses import dataclass

from course_utils.paths import DATA


@dataclass(frozen=True)
class Country:
    """A country by its name, its adjective and its capital (either may be empty)."""

    code: str
    name: str
    adjective: str
    capital: str


@dataclass(frozen=True)
class Fact:
    """One figure: what it measures, its value in `unit`, and the year of the estimate (0: not given)."""

    label: str
    value: float
    unit: str
    year: int


@dataclass(frozen=True)
class Page:
    """A country-topic pair, however it is drawn."""

    country: Country
    topic: str
    facts: tuple[Fact, ...]

    @property
    def id(self) -> str:
        return f"{self.country.code}-{slug(self.topic)}"

    @property
    def is_series(self) -> bool:
        """True where each figure belongs to a year of its own."""
        return all(fact.label.isdigit() and len(fact.label) == 4 for fact in self.facts)

    @property
    def is_share(self) -> bool:
        """True where the figures are the parts of one whole: none negative, together about 100%."""
        values = [fact.value for fact in self.facts]
        return (
            len(values) > 2
            and not self.is_series
            and all(fact.unit.startswith("%") for fact in self.facts)
            and min(values) >= 0
            and 97 <= sum(values) <= 103
        )


def slug(text: str) -> str:
    """`text` in lower case with hyphens for all that is not a letter or digit."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def read_json(name: str):
    """The content of a JSON file in `data/`."""
    return json.loads((DATA / name).read_text(encoding="utf-8"))


def _read_csv(name: str) -> list[dict[str, str]]:
    with open(DATA / name, encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@functools.cache
def countries() -> dict[str, Country]:
    """Countries by code. A capital that two countries share, or that is a country's name, is left out."""
    rows = _read_csv("factbook_countries.csv")
    names = {row["country"] for row in rows}
    capitals = [row["capital"] for row in rows]
    return {
        row["code"]: Country(
            row["code"],
            row["country"],
            row["adjective"] if row["adjective"] not in names else "",
            row["capital"] if capitals.count(row["capital"]) == 1 and row["capital"] not in names else "",
        )
        for row in rows
    }


@functools.cache
def pages() -> dict[str, Page]:
    """All 8,294 country-topic pages by page id, in the order of the data file."""
    figures: dict[tuple[str, str], list[Fact]] = {}
    for row in _read_csv("factbook_facts.csv"):
        fact = Fact(row["label"], float(row["value"]), row["unit"], int(row["year"] or 0))
        figures.setdefault((row["code"], row["topic"]), []).append(fact)
    made = (Page(countries()[code], topic, tuple(facts)) for (code, topic), facts in figures.items())
    return {page.id: page for page in made}


@functools.cache
def wordings() -> dict[str, dict[str, list[str]]]:
    """For each topic: `titles` (on pages), and the phrases of `general`, `course`, `unseen` and `natural` queries."""
    return read_json("wordings.json")


def number(value: float) -> str:
    """A figure as a statistical office prints it: 4.91 billion, 12,300, 0.04."""
    sign, size = ("−" if value < 0 else ""), abs(value)
    for limit, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if size >= limit:
            return f"{sign}{size / limit:.3g} {word}"
    if size >= 100:
        return f"{sign}{size:,.0f}"
    return f"{sign}{size:.4g}"
