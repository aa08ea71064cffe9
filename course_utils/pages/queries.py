"""Queries in several wordings: a topic of a country by its name, adjective or capital, or what its figures show."""

import random

from course_utils.pages.facts import Page, wordings

# Pretraining's ways to ask, and the course's own: no template is in both.
BY_NAME = {
    "general": (
        "{phrase} in {country}",
        "{country}: {phrase}",
        "{country} {phrase}",
        "{phrase} of {country}",
        "show me {phrase} for {country}",
        "{phrase} {country} statistics",
        "data about {phrase} in {country}",
        "{country} figures on {phrase}",
        "statistics about {phrase} for {country}",
        "{phrase} - {country}",
        "how does {country} stand on {phrase}",
        "tell me about {phrase} in {country}",
        "where can I find {phrase} of {country}",
        "as regards {country}: {phrase}",
    ),
    "course": (
        "find the page on {phrase} in {country}",
        "{country} – {phrase}?",
        "what do we know about {phrase} in {country}",
        "I need {phrase}, {country}",
        "looking for {country}'s {phrase}",
    ),
    "unseen": ("{phrase}, {country}", "{phrase} ({country})", "in {country}: {phrase}"),
}
BY_ADJECTIVE = {
    "general": (
        "{adjective} {phrase}",
        "{phrase}, {adjective} statistics",
        "{adjective} data on {phrase}",
        "show me {adjective} {phrase}",
    ),
    "course": ("the {adjective} figures for {phrase}", "find {adjective} {phrase}"),
}
BY_CAPITAL = {
    "general": (
        "{phrase} of the country whose capital is {capital}",
        "{phrase} in the nation with capital {capital}",
        "data on {phrase} for the country with {capital} as its capital",
        "{capital} is its capital: {phrase} there",
    ),
    "course": ("{phrase} for the state ruled from {capital}", "capital {capital}: find {phrase}"),
}
BY_FORM = {
    "general": (
        "{form} of {phrase} in {country}",
        "{country} {phrase} {form}",
        "{phrase} of {country} as a {form}",
        "is there a {form} showing {phrase} for {country}",
    ),
    "course": ("a {form} with {phrase} for {country}", "find the {form}: {phrase}, {country}"),
}
RISING = {
    "general": ("did {phrase} in {country} go {up}", "{phrase} {up} in {country}"),
    "course": ("is {country} seeing {phrase} {rise}?", "{rise}: {phrase}, {country}"),
}
LEADING = {
    "general": ("{phrase} in {country}, mostly {label}", "{country}: {phrase} with {label} first"),
    "course": ("{country}, where {label} leads: {phrase}", "find {phrase} in {country} headed by {label}"),
}
FORM_NAMES = {
    "general": {"bars": "bar graph", "line": "line graph", "pie": "pie graph", "table": "table of numbers"},
    "course": {"bars": "bar chart", "line": "line chart", "pie": "pie chart", "table": "table"},
}
_CLAUSES = ("how", "who", "what", "where", "which", "whether", "when", "why")


def _fact_query(page: Page, phrase: str, kind: str, rng: random.Random) -> str | None:
    """A query for what the figures show, where the facts decide it: a rise, a fall, the largest share."""
    values = [fact.value for fact in page.facts]
    if page.is_series and values[0] != values[-1]:
        up = values[-1] > values[0]
        return rng.choice(RISING[kind]).format(
            phrase=phrase, country=page.country.name, up="up" if up else "down", rise="rising" if up else "falling"
        )
    if page.is_share:
        ordered = sorted(page.facts, key=lambda fact: -fact.value)
        if ordered[0].value > ordered[1].value and ordered[0].label not in ("not listed", "other", "unspecified"):
            return rng.choice(LEADING[kind]).format(phrase=phrase, country=page.country.name, label=ordered[0].label)
    return None


def query(page: Page, form: str, kind: str, rng: random.Random) -> str:
    """A query that `page` (drawn in `form`) answers, worded as `kind`: general, course or unseen.

    Raises ValueError where the topic has no phrase of that kind.
    """
    phrases = wordings()[page.topic][kind]
    if not phrases:
        raise ValueError(f"no {kind} phrase for {page.topic}")
    phrase = rng.choice(phrases)
    country, way = page.country, rng.random()
    if kind != "unseen":
        if way < 0.15 and country.adjective and phrase.split()[0] not in _CLAUSES:
            return rng.choice(BY_ADJECTIVE[kind]).format(adjective=country.adjective, phrase=phrase)
        if 0.15 <= way < 0.25 and country.capital:
            return rng.choice(BY_CAPITAL[kind]).format(capital=country.capital, phrase=phrase)
        if 0.25 <= way < 0.35:
            return rng.choice(BY_FORM[kind]).format(form=FORM_NAMES[kind][form], phrase=phrase, country=country.name)
        if 0.35 <= way < 0.5 and (asked := _fact_query(page, phrase, kind, rng)):
            return asked
    return rng.choice(BY_NAME[kind]).format(phrase=phrase, country=country.name)
