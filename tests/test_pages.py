"""Pages: the form suits the figures, time axes are true, words stay on the page, drawing repeats itself."""

import random

import numpy as np
import pytest

from course_utils.pages.canvas import HEIGHT, WIDTH
from course_utils.pages.drawing import Drawn, draw_page
from course_utils.pages.facts import Country, Fact, Page, number, pages, wordings
from course_utils.pages.forms import possible_forms
from course_utils.pages.layouts import COURSE, general_layout


def sample(count: int, keep=lambda page: True) -> list[Page]:
    """`count` pages for which `keep` is true, the same each time."""
    return random.Random(1).sample([page for page in pages().values() if keep(page)], count)


def name_of(item) -> str:
    return item.name if hasattr(item, "name") else str(item)


def column(drawn: Drawn, wanted: list[str]) -> list[float]:
    """The middles (x, in px) of `wanted` words where all stand on one line of the page."""
    for first, (_, _, _, base) in drawn.words:
        if first == wanted[0]:
            line = {word: (x0 + x1) / 2 for word, (x0, _, x1, y1) in drawn.words if abs(y1 - base) < 4}
            if set(wanted) <= set(line):
                return [line[word] for word in wanted]
    raise AssertionError(f"{wanted} should stand on one line")


# ---- forms ------------------------------------------------------------------------------------------------------


def test_a_pie_is_only_drawn_of_the_parts_of_one_whole():
    pies = [page for page in pages().values() if "pie" in possible_forms(page)]
    assert len(pies) > 500
    for page in pies:
        values = [fact.value for fact in page.facts]
        assert min(values) >= 0 and 97 <= sum(values) <= 103
        assert len({fact.unit for fact in page.facts}) == 1 and page.facts[0].unit.startswith("%")


def test_a_negative_part_of_a_hundred_percent_is_no_pie():
    facts = tuple(Fact(label, value, "% of GDP", 2014) for label, value in (("a", 80), ("b", 40), ("c", -20)))
    assert "pie" not in possible_forms(Page(Country("xx", "Nowhere", "", ""), "GDP by end use", facts))


def test_a_line_is_drawn_of_years_and_of_nothing_else():
    for page in pages().values():
        years = all(1950 <= int(fact.label) <= 2015 for fact in page.facts) if page.facts[0].label.isdigit() else False
        assert ("line" in possible_forms(page)) == years


def test_years_come_in_order():
    for page in pages().values():
        if page.is_series:
            years = [int(fact.label) for fact in page.facts]
            assert years == sorted(set(years))


def test_figures_of_several_units_are_a_table_only():
    mixed = [page for page in pages().values() if len({fact.unit for fact in page.facts}) > 1]
    unnamed = [page for page in pages().values() if {fact.unit for fact in page.facts} == {""}]
    assert unnamed and all(possible_forms(page) == ["table"] for page in mixed + unnamed)


@pytest.mark.parametrize("form", ["line", "bars"])
def test_a_time_axis_is_in_proportion_to_the_years(form):
    """The years 2010, 2012 and 2013 stand as far apart as they are, in every layout."""
    uneven = [
        page
        for page in pages().values()
        if page.is_series
        and len(page.facts) > 2
        and len({int(b.label) - int(a.label) for a, b in zip(page.facts, page.facts[1:], strict=False)}) > 1
    ]
    assert uneven
    for page in uneven:
        years = [fact.label for fact in page.facts]
        for layout in COURSE:
            x = column(draw_page(page, layout, "time", form), years)
            per_year = [(b - a) / (int(v) - int(u)) for a, b, u, v in zip(x, x[1:], years, years[1:], strict=False)]
            assert per_year[0] > 0 and np.allclose(per_year, per_year[0], atol=1.5)  # boxes end on whole pixels


def test_two_years_with_a_gap_stand_closer_to_the_edges_than_two_in_a_row():
    """With half a year's room at both ends, a gap of g years fills g / (g + 1) of the axis."""

    def spread(gap: int) -> float:
        facts = tuple(Fact(str(2010 + k * gap), 5.0 + k, "%", 2010) for k in range(2))
        x = column(
            draw_page(Page(Country("xx", "Nowhere", "", ""), "inflation", facts), COURSE[0], "gap", "line"),
            [fact.label for fact in facts],
        )
        return x[1] - x[0]

    assert spread(4) / spread(1) == pytest.approx((4 / 5) / (1 / 2), rel=0.02)


# ---- what stands on a page --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [*COURSE, *(general_layout(seed) for seed in range(6))], ids=name_of)
def test_words_stay_on_the_page(layout):
    longest = max(pages().values(), key=lambda page: len(page.country.name))
    for page in (longest, *sample(6)):
        for form in possible_forms(page):
            for word, (x0, y0, x1, y1) in draw_page(page, layout, "edges", form).words:
                assert 0 <= x0 < x1 <= WIDTH and 0 <= y0 <= y1 <= HEIGHT, (page.id, form, word)


@pytest.mark.parametrize("layout", COURSE, ids=name_of)
def test_a_page_says_country_title_figures_source_and_publication_year(layout):
    for page in sample(4, lambda page: len(page.facts) < 5):
        text = draw_page(page, layout, "text", "table").text
        assert page.country.name in text
        assert any(title in text for title in wordings()[page.topic]["titles"])
        assert all(number(fact.value) in text for fact in page.facts)
        assert "World Factbook" in text and "2015" in text


def test_a_scan_has_no_text_layer_but_knows_where_its_words_are():
    page = sample(1)[0]
    clean, scan = (draw_page(page, COURSE[0], "scan", "table", scanned) for scanned in (False, True))
    assert clean.text and scan.text == ""
    assert [word for word, _ in scan.words] == [word for word, _ in clean.words]
    assert scan.image.mode == "L" and scan.image.size == clean.image.size == (WIDTH, HEIGHT)


def test_word_boxes_turn_with_a_scan():
    """On the scan, more ink lies in its own boxes than in those of the straight page."""

    def ink_in(scan: Drawn, boxes: Drawn) -> float:
        ink = 255 - np.asarray(scan.image, np.float32)
        mask = np.zeros_like(ink, bool)
        for _, (x0, y0, x1, y1) in boxes.words:
            mask[max(0, round(y0)) : round(y1), max(0, round(x0)) : round(x1)] = True
        return ink[mask].mean()

    turned, straight = [], []
    for page in sample(12):  # some are tilted by a third of a degree only, so the pages are judged together
        clean, scan = (draw_page(page, COURSE[3], "ink", "table", scanned) for scanned in (False, True))
        turned.append(ink_in(scan, scan))
        straight.append(ink_in(scan, clean))
    assert np.mean(turned) > 1.05 * np.mean(straight)


# ---- repeatable, and new -----------------------------------------------------------------------------------------


def test_another_seed_draws_another_page():
    page = sample(1)[0]
    drawn = {draw_page(page, COURSE[0], str(seed), "table").image.tobytes() for seed in range(4)}
    assert len(drawn) > 1


def test_the_layouts_of_the_course_differ_from_all_general_ones():
    course = {layout.arrangement for layout in COURSE}
    assert len(course) == len(COURSE)
    general = [general_layout(seed) for seed in range(2000)]
    assert general[7] == general_layout(7)
    assert not course & {layout.arrangement for layout in general}
    assert not {layout.publisher for layout in COURSE} & {layout.publisher for layout in general}
    assert len({layout.arrangement for layout in general}) > 400, "general layouts are many"


@pytest.mark.parametrize(
    ("value", "text"),
    [(4.91e9, "4.91 billion"), (12300, "12,300"), (0.04, "0.04"), (-2.5, "−2.5"), (0, "0"), (1.2e13, "12 trillion")],
)
def test_figures_read_as_a_statistical_office_prints_them(value, text):
    assert number(value) == text
