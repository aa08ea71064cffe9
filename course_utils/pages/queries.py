"""Queries in several wordings: a topic of a country by its name, adjective or capital, or what its figures show."""

import random

from course_utils.pages.facts import Page, read_json, wordings

# Ways to ask, by kind of query: pretraining's (general), the course's own, unseen, natural; no template is in two.
_TEMPLATES = read_json("templates.json")
BY_NAME, BY_ADJECTIVE, BY_CAPITAL = (_TEMPLATES[way] for way in ("by_name", "by_adjective", "by_capital"))
BY_FORM, RISING, LEADING = (_TEMPLATES[way] for way in ("by_form", "rising", "leading"))
FORM_NAMES = _TEMPLATES["form_names"]
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
    """A query that `page` (drawn in `form`) answers, worded as `kind`: general, course, unseen or natural.

    Raises ValueError where the topic has no phrase of that kind.
    """
    phrases = wordings()[page.topic][kind]
    if not phrases:
        raise ValueError(f"no {kind} phrase for {page.topic}")
    phrase = rng.choice(phrases)
    country, way = page.country, rng.random()
    if kind in ("general", "course"):
        if way < 0.15 and country.adjective and phrase.split()[0] not in _CLAUSES:
            return rng.choice(BY_ADJECTIVE[kind]).format(adjective=country.adjective, phrase=phrase)
        if 0.15 <= way < 0.25 and country.capital:
            return rng.choice(BY_CAPITAL[kind]).format(capital=country.capital, phrase=phrase)
        if 0.25 <= way < 0.35:
            return rng.choice(BY_FORM[kind]).format(form=FORM_NAMES[kind][form], phrase=phrase, country=country.name)
        if 0.35 <= way < 0.5 and (asked := _fact_query(page, phrase, kind, rng)):
            return asked
    return rng.choice(BY_NAME[kind]).format(phrase=phrase, country=country.name)
