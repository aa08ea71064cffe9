"""Splits and queries: what is in which split, what answers a query, and which words are kept apart."""

import functools
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

import pandas as pd
import pytest

from course_utils.maintain.standins import english, reranker
from course_utils.maintain.standins.texts import FUNCTION_WORDS
from course_utils.pages import build, queries, splits
from course_utils.pages.facts import Page, pages, wordings

TEMPLATES = {
    name: getattr(queries, name) for name in ("BY_NAME", "BY_ADJECTIVE", "BY_CAPITAL", "BY_FORM", "RISING", "LEADING")
}
RISES = {("up", "rising"): 1, ("down", "falling"): -1}
NAMES_OF_PEOPLES = ("ethnic groups", "languages", "religions")  # topics whose labels are names
STOP_WORDS = set(
    re.findall(
        r"\w+", "the of in a an how what by per and for to is are who which its their people or with on from at as"
    )
)
SUFFIXES = ("ation", "ment", "ing", "ion", "ers", "ity", "ed", "es", "er", "al", "ly", "s")


parts = splits.splits
sheets_by_id = functools.cache(build.sheets)


@functools.cache
def asked(split: str) -> pd.DataFrame:
    """The rows of a split, with page ids for images, without drawing a page."""
    return build.rows(split, sheets_by_id())


def normal(text: str) -> str:
    """Words in lower case: what is left of a query when case, punctuation and spacing do not count."""
    return " ".join(re.findall(r"\w+", text.lower()))


def repeated(items: Iterable[str]) -> list[str]:
    return [item for item, count in Counter(items).items() if count > 1]


def every_query(page: Page, forms: Iterable[str], kind: str):
    """All the queries of a kind that `page`, drawn in one of `forms`, answers: every template with every phrase.

    Written from the facts, not by calling `queries.query`, so that the two can disagree.
    """
    names = {"country": page.country.name, "adjective": page.country.adjective, "capital": page.country.capital}
    used = [t for group in ("BY_NAME", "BY_ADJECTIVE", "BY_CAPITAL") for t in TEMPLATES[group].get(kind, ())]
    for form in forms:
        used += [t.replace("{form}", queries.FORM_NAMES[kind][form]) for t in queries.BY_FORM[kind]]
    if page.is_series:
        change = page.facts[-1].value - page.facts[0].value
        for (up, rise), sign in RISES.items():
            if change * sign > 0:
                used += [t.replace("{up}", up).replace("{rise}", rise) for t in queries.RISING.get(kind, ())]
    if len({fact.unit for fact in page.facts}) == 1 and not page.is_series:
        largest = max(fact.value for fact in page.facts)
        leaders = [fact.label for fact in page.facts if fact.value == largest]
        if len(leaders) == 1:
            used += [t.replace("{label}", leaders[0]) for t in queries.LEADING.get(kind, ())]
    for template in used:
        if all(names.get(name, True) for name in re.findall(r"{(\w+)}", template)):
            for phrase in wordings()[page.topic][kind]:
                yield template.format(**names, phrase=phrase)


# ---- splits -----------------------------------------------------------------------------------------------------


def test_no_page_is_in_two_splits():
    owned = [page for split in ("general", "train", "dev", "test") for page in parts().page_ids(split)]
    assert set(owned) <= set(pages()) and repeated(owned) == []


def test_sheets_give_every_page_of_train_dev_and_test_its_split_once():
    made = sheets_by_id().values()
    for split in build.SPLITS:
        assert {sheet.page_id for sheet in made if sheet.split == split} == parts().page_ids(split)
    for sheet in made:
        assert sheet.unseen_country == (pages()[sheet.page_id].country.code in parts().unseen_countries)


def test_the_sizes_are_those_of_the_datasheet():
    assert len(pages()) == 8294
    sizes = {split: len(parts().page_ids(split)) for split in ("test", "dev", "train", "general")}
    assert sizes == {"test": 1500, "dev": 300, "train": 1995, "general": 4494}
    assert {split: len(asked(split)) for split in build.SPLITS} == {"test": 300, "dev": 60, "train": 1985}
    assert {kind: len(asked(kind)) for kind in build.PER_TOPIC} == {"unseen": 80, "natural": 180}
    assert all(set(asked(kind)["image"]) <= parts().page_ids("test") for kind in build.PER_TOPIC)


def test_no_query_is_asked_in_two_splits_or_twice():
    assert repeated(normal(q) for split in (*build.SPLITS, *build.PER_TOPIC) for q in asked(split)["query"]) == []


@pytest.mark.slow
def test_no_query_that_pretraining_can_ask_is_asked_later():
    later = {normal(q) for split in (*build.SPLITS, *build.PER_TOPIC) for q in asked(split)["query"]}
    count = 0
    for page in (pages()[p] for p in parts().page_ids("general")):
        made = {normal(query) for query in every_query(page, queries.FORM_NAMES["general"], "general")}
        count += len(made)
        assert not made & later
    assert count > 500_000


def test_the_enumeration_of_queries_holds_all_that_query_writes():
    for kind in ("general", "course", "unseen", "natural"):
        rng = random.Random(kind)
        for page in rng.sample([p for p in pages().values() if wordings()[p.topic][kind]], 1500):
            forms = ["table"] if kind in ("general", "course") else []
            assert queries.query(page, "table", kind, rng) in set(every_query(page, forms, kind))


def test_countries_kept_for_the_test_are_never_finetuned_on():
    assert len(parts().unseen_countries) == splits.UNSEEN_COUNTRIES
    for split in ("train", "dev"):
        assert not {pages()[p].country.code for p in parts().page_ids(split)} & parts().unseen_countries
    assert {pages()[p].country.code for p in parts().page_ids("test")} >= parts().unseen_countries


def test_nothing_of_an_unseen_country_is_named_in_a_finetuning_query():
    """Not even in passing: as a border, a partner or a people that a query of another country names."""
    unseen = [page.country for page in pages().values() if page.country.code in parts().unseen_countries]
    names = {normal(name) for country in unseen for name in (country.name, country.capital) if name}
    known = {normal(page.country.name) for page in pages().values()} - {normal(country.name) for country in unseen}
    for split in ("train", "dev"):
        for row, query in zip(getattr(parts(), split), asked(split)["query"], strict=True):
            text = f" {normal(query)} "
            for other in sorted(known, key=len, reverse=True):  # Guinea-Bissau is not Guinea
                text = text.replace(f" {other} ", "  ")
            assert not [name for name in names if f" {name} " in text], (row.positive, query)


# ---- queries, distractors and judgements ------------------------------------------------------------------------


@pytest.mark.parametrize("split", build.SPLITS)
def test_hard_negatives_are_two_of_the_country_and_two_of_the_topic(split):
    for row in getattr(parts(), split):
        target, others = pages()[row.positive], [pages()[p] for p in row.negatives]
        assert len({row.positive, *row.negatives}) == 5
        assert [page.country == target.country for page in others] == [True, True, False, False]
        assert [page.topic == target.topic for page in others] == [False, False, True, True]


@pytest.mark.parametrize(
    ("split", "corpus", "kind"),
    [
        ("dev", "dev", "course"),
        ("test", "test", "course"),
        ("unseen", "test", "unseen"),
        ("natural", "test", "natural"),
    ],
)
def test_one_page_of_the_corpus_answers_a_query_and_it_is_the_positive(split, corpus, kind):
    answers = defaultdict(set)
    for page in parts().page_ids(corpus):
        for query in every_query(pages()[page], [sheets_by_id()[page].form] if kind == "course" else [], kind):
            answers[normal(query)].add(page)
    for row in asked(split).itertuples():
        assert answers[normal(row.query)] == {row.image}, row.query


def test_no_training_negative_answers_its_query():
    for row in asked("train").itertuples():
        for page in (row.negative_0, row.negative_1, row.negative_2, row.negative_3):
            could = {normal(q) for q in every_query(pages()[page], [sheets_by_id()[page].form], "course")}
            assert normal(row.query) not in could


def test_slices_have_at_least_fifty_queries():
    positives = [sheets_by_id()[row.positive] for row in parts().test]
    assert sum(sheet.unseen_country for sheet in positives) >= 50
    assert sum(sheet.scan for sheet in positives) >= 50
    forms = Counter(sheet.form for sheet in positives)
    assert set(forms) == set(queries.FORM_NAMES["course"]) and min(forms.values()) >= 50, forms


# ---- wordings ---------------------------------------------------------------------------------------------------


def test_no_template_serves_two_kinds_and_no_phrase_two_kinds_or_two_topics():
    """A phrase of two topics would make a query that two pages answer; titles are no queries."""
    kinds = ("general", "course", "unseen", "natural")
    phrases = [normal(phrase) for topic in wordings().values() for kind in kinds for phrase in topic[kind]]
    of_kind = [{t.lower() for group in TEMPLATES.values() for t in group.get(kind, ())} for kind in kinds]
    assert repeated(phrases) == repeated(template for templates in of_kind for template in templates) == []


def stems(word: str) -> set[str]:
    """All that is left of a word when endings are cut off it, three letters at least."""
    found, todo = set(), [word]
    while todo:
        form = todo.pop()
        if form in found:
            continue
        found.add(form)
        if form.endswith("ies") and len(form) > 5:
            todo.append(f"{form[:-3]}y")
        if form.endswith("e") and len(form) > 3:
            todo.append(form[:-1])
        least = 3 if form == word else 4
        todo += [form.removesuffix(s) for s in SUFFIXES if form.endswith(s) and len(form) - len(s) >= least]
    return found


UNRELATED = {("standards", "stand")}  # "how does Chad stand on …" asks for no standard


def same_word(one: str, other: str) -> bool:
    return bool(stems(one) & stems(other)) or (min(len(one), len(other)) >= 5 and one[:5] == other[:5])


def content(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", re.sub(r"{\w+}|'s", " ", text.lower()))) - STOP_WORDS


def test_the_stemmer_knows_a_word_by_its_endings_and_keeps_others_apart():
    assert same_word("exports", "exporting") and same_word("urban", "urbanisation") and same_word("cities", "city")
    assert not same_word("road", "roast") and not same_word("boom", "book")


@functools.cache
def trained_words() -> frozenset[str]:
    """The content words of every wording of a training, and of the labels that are no names."""
    known = set()
    for kinds in wordings().values():
        known |= content(" ".join(kinds["titles"] + kinds["general"] + kinds["course"]))
    for group in TEMPLATES.values():
        known |= content(" ".join((*group["general"], *group["course"])))
    for kind in ("general", "course"):
        known |= content(" ".join(queries.FORM_NAMES[kind].values()))
    known |= {word for words in RISES for word in words}
    for page in pages().values():
        if page.is_share and page.topic not in NAMES_OF_PEOPLES and not page.topic.endswith("partners"):
            known |= content(" ".join(fact.label for fact in page.facts))
    return frozenset(known)


def shared(words: set[str], known: set[str]) -> dict[str, list[str]]:
    found = {word: [old for old in known if same_word(word, old) and (word, old) not in UNRELATED] for word in words}
    return {word: olds for word, olds in found.items() if olds}


def test_unseen_wordings_share_no_content_word_with_any_wording_of_a_training():
    """Names excepted, as in the labels of peoples, languages and faiths that a query may put first."""
    unseen = {word for kinds in wordings().values() for word in content(" ".join(kinds["unseen"]))}
    unseen |= content(" ".join(queries.BY_NAME["unseen"]))
    assert shared(unseen, trained_words()) == {}
    assert all(content(phrase) for kinds in wordings().values() for phrase in kinds["unseen"])


def test_natural_wordings_share_no_content_word_with_any_wording_of_a_training():
    phrases = [phrase for kinds in wordings().values() for phrase in kinds["natural"]]
    assert len(phrases) >= 160 and all(len(kinds["natural"]) >= 3 for kinds in wordings().values())
    assert all(content(phrase) - FUNCTION_WORDS for phrase in phrases)
    natural = content(" ".join((*phrases, *queries.BY_NAME["natural"]))) - FUNCTION_WORDS
    assert shared(natural, set(trained_words()) - FUNCTION_WORDS) == {}


def test_the_stand_ins_ask_in_no_word_of_an_unseen_or_natural_wording():
    ways = content(" ".join((*english.MORE_WAYS, *reranker.WAYS))) - FUNCTION_WORDS
    kept = {word for kinds in wordings().values() for word in content(" ".join(kinds["unseen"] + kinds["natural"]))}
    assert len(ways) > 5 and shared(kept - FUNCTION_WORDS, ways) == {}
