"""Which page belongs where: general pages for pretraining, then train, dev and test for finetuning."""

import functools
import random
from dataclasses import dataclass

from course_utils.pages.facts import Page, pages

SEED = 20151
UNSEEN_COUNTRIES = 30
TEST_QUERIES, UNSEEN_QUERIES, DEV_QUERIES, TRAIN_PAGES = 300, 66, 60, 2000
NEGATIVES = 4


@dataclass(frozen=True)
class Row:
    """A page that a query asks for, and its hard negatives: two of its country, two of its topic."""

    positive: str
    negatives: tuple[str, ...]


@dataclass(frozen=True)
class Splits:
    """Page ids by split. No page is in two splits; train, dev and general have no test page."""

    test: tuple[Row, ...]
    dev: tuple[Row, ...]
    train: tuple[Row, ...]
    general: tuple[str, ...]
    unseen_countries: frozenset[str]

    def page_ids(self, split: str) -> set[str]:
        """All the pages of a split, hard negatives included."""
        if split == "general":
            return set(self.general)
        return {page for row in getattr(self, split) for page in (row.positive, *row.negatives)}


def _look_alikes(target: Page, pool: dict[str, Page], rng: random.Random) -> list[str]:
    """Two pages of the target's country and two of its topic from `pool`, or fewer where it has no more."""
    country = [p for p, page in pool.items() if page.country == target.country and page.topic != target.topic]
    topic = [p for p, page in pool.items() if page.topic == target.topic and page.country != target.country]
    half = NEGATIVES // 2
    return rng.sample(country, min(half, len(country))) + rng.sample(topic, min(half, len(topic)))


def _evaluation_rows(count: int, candidates: list[str], free: dict[str, Page], rng: random.Random) -> list[Row]:
    """`count` rows from the first candidates that find four look-alikes; takes their pages out of `free`."""
    rows: list[Row] = []
    for target in candidates:
        if len(rows) == count:
            break
        if target in free and len(negatives := _look_alikes(free[target], free, rng)) == NEGATIVES:
            rows.append(Row(target, tuple(negatives)))
            for page in (target, *negatives):
                del free[page]
    return rows


@functools.cache
def splits() -> Splits:
    """The splits, the same on every machine: 300 test rows (1,500 pages), 60 dev rows (300), 1,985 train rows (1,995)."""
    rng = random.Random(SEED)
    everything = pages()
    codes = sorted({page.country.code for page in everything.values()})
    rich = [code for code in codes if sum(page.country.code == code for page in everything.values()) >= 30]
    unseen = frozenset(rng.sample(rich, UNSEEN_COUNTRIES))
    order = sorted(everything)
    rng.shuffle(order)
    new = [p for p in order if everything[p].country.code in unseen]
    known = [p for p in order if everything[p].country.code not in unseen]
    half = len(known) // 2
    free = {p: everything[p] for p in known[:half] + new[: len(new) * 2 // 3]}
    test = _evaluation_rows(UNSEEN_QUERIES, new, free, rng)
    test += _evaluation_rows(TEST_QUERIES - UNSEEN_QUERIES, known, free, rng)
    used = {p for row in test for p in (row.positive, *row.negatives)}
    left = [p for p in known if p not in used]
    dev = _evaluation_rows(DEV_QUERIES, left, {p: everything[p] for p in left[:1500]}, rng)
    used |= {p for row in dev for p in (row.positive, *row.negatives)}
    left = [p for p in left if p not in used]
    train_pool = {p: everything[p] for p in left[:TRAIN_PAGES]}
    train = tuple(
        Row(p, tuple(negatives))
        for p in left[:TRAIN_PAGES]
        if len(negatives := _look_alikes(everything[p], train_pool, rng)) == NEGATIVES
    )
    general = tuple(p for p in order if p not in used and p not in train_pool)
    return Splits(tuple(test), tuple(dev), train, general, unseen)
