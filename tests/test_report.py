"""The report shows what was recorded, opens without a network and survives whatever lies in `build/`."""

import base64
import json
from html.parser import HTMLParser

import pytest

from course_utils.runner.records import Record, write_record
from course_utils.runner.report import format_minutes, format_number, headline, tabulate, write_report

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
METRICS = {
    "queries": 300,
    "pages": 1500,
    "ndcg@10/before": 0.48,
    "ndcg@10/before/low": 0.44,
    "ndcg@10/before/high": 0.52,
    "ndcg@10/after": 0.93,
    "ndcg@10/after/low": 0.91,
    "ndcg@10/after/high": 0.95,
    "ndcg@10/gain": 0.45,
    "ndcg@10/gain/low": 0.41,
    "ndcg@10/gain/high": 0.49,
    "ndcg@10/before/scan": 0.38,
    "ndcg@10/after/scan": 0.85,
    "ndcg@10/after/scan/low": 0.80,
    "ndcg@10/after/scan/high": 0.90,
    "ndcg@10/after/unseen-country": 0.82,
}


class Page(HTMLParser):
    """Collects images, addresses and text."""

    def __init__(self, html):
        super().__init__()
        self.images, self.addresses, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.images.append(attrs)
        self.addresses += [attrs[key] for key in ("src", "href") if key in attrs]

    def handle_data(self, data):
        self.text += data


def record(status="finished", lesson="07_toy", **values):
    return Record(
        lesson=lesson,
        title="07 · A toy lesson",
        profile="tiny",
        parameters={},
        variant="learner",
        fingerprint="x",
        expected_minutes=5.0,
        status=status,
        minutes=4.8,
        **values,
    )


@pytest.fixture
def build(tmp_path):
    write_record(
        tmp_path, record(slowest=[{"number": 9, "heading": "Train", "line": "trainer.train()", "seconds": 123.4}])
    )
    folder = tmp_path / "07_toy"
    (folder / "before_after.png").write_bytes(PIXEL)
    (folder / "metrics.json").write_text(
        json.dumps(
            {
                "lesson": "07_toy",
                "profile": "tiny",
                "seed": 0,
                "minutes": 4.7,
                "peak_memory_mib": 2900.4,
                "metrics": METRICS,
                "figures": {
                    "before_after": {"path": "before_after.png", "alt": "NDCG@10 rises from 0.48 to 0.93 & more."}
                },
            }
        )
    )
    return tmp_path


def test_the_report_shows_figures_intervals_slices_and_circumstances(build):
    text = " ".join(Page(write_report(build).read_text()).text.split())
    for shown in (
        "07 · A toy lesson",
        "✓ finished",
        "4.8 min",
        "about 5 min expected",
        "2,900 MiB",
        "1,500 pages",
        "0.480",
        "0.930",
        "+0.450",
        "0.410 to 0.490",
        "87%",
        "unseen country",
        "0.820",
        "scan",
        "0.850",
        "Train",
        "trainer.train()",
        "2.1 min",
        "sentence-transformers",
        "python",
        "commit",
    ):
        assert shown in text, shown


def test_the_report_needs_no_other_file_and_its_pictures_speak(build):
    page = Page(write_report(build).read_text())
    assert [image["alt"] for image in page.images] == ["NDCG@10 rises from 0.48 to 0.93 & more."]
    assert all(address.startswith("data:") for address in page.addresses)


def test_links_appear_only_for_files_that_exist(build):
    (build / "07_toy.html").write_text("x")
    assert "07_toy.html" in Page(write_report(build).read_text()).addresses


def test_several_lessons_begin_with_a_table_that_leads_to_each(build):
    write_record(build, record("failed", "08_next", failure={"class": "memory", "advice": "", "error": "", "cell": ""}))
    html = write_report(build).read_text()
    page = Page(html)
    assert {"#07_toy", "#08_next"} <= set(page.addresses) and all(
        f'id="{name}"' in html for name in ("07_toy", "08_next")
    )
    assert "✕ failed, memory" in page.text and "of about 5 min" in page.text


def test_figures_that_came_with_the_course_are_called_so(build):
    assert "Precomputed" not in write_report(build).read_text()
    path = build / "07_toy" / "metrics.json"
    content = json.loads(path.read_text())
    content["metrics"]["precomputed"] = 1
    path.write_text(json.dumps(content))
    assert "Precomputed: these figures rest on results that came with the course" in write_report(build).read_text()


def test_a_failure_shows_its_cell_class_and_advice(tmp_path):
    write_record(
        tmp_path,
        record(
            "failed",
            failure={
                "class": "memory",
                "advice": "Close other programs, then `course run`.",
                "error": "MemoryError: <none>",
                "cell": "[9]: trainer.train()",
            },
        ),
    )
    text = Page(write_report(tmp_path).read_text()).text
    for shown in (
        "✕ failed",
        "memory",
        "Close other programs, then course run.",
        "MemoryError: <none>",
        "[9]: trainer.train()",
    ):
        assert shown in text


def test_figures_of_an_earlier_run_are_not_shown_as_this_ones(build):
    write_record(build, record("failed", started="2999-01-01T00:00:00+00:00"))
    assert "0.930" not in write_report(build).read_text()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 0}', '{"format": 1, "lesson": "07_toy"}', '{"format": 1, "extra": 2}']
)
def test_a_damaged_or_older_record_is_left_out(build, content):
    (build / "07_toy" / "run.json").write_text(content)
    assert "No lesson has run yet" in write_report(build).read_text()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"metrics": 3}', '{"metrics": {"ndcg@10/after": "high"}, "figures": []}']
)
def test_damaged_metrics_leave_a_card_without_figures(build, content):
    (build / "07_toy" / "metrics.json").write_text(content)
    assert "✓ finished" in Page(write_report(build).read_text()).text


def test_metrics_are_sorted_into_measures_slices_and_counts():
    more = {
        "ndcg@10/country-only": 0.2,
        "ndcg@10/matryoshka/64": 0.92,
        "memory/cached/16": 900,
        "memory/cached/128": 1200,
    }
    measures, counts = tabulate({**METRICS, **more})
    assert counts == {"queries": 300, "pages": 1500}
    ndcg, ceilings, dimensions, memory = measures  # columns without common slices are tables of their own
    assert ceilings.whens == ["country-only"] and list(ceilings.rows) == [""]
    assert dimensions.whens == ["matryoshka"] and list(dimensions.rows) == ["64"]
    assert ndcg.whens == ["before", "after", "gain"] and list(ndcg.rows) == ["", "scan", "unseen-country"]
    assert ndcg.rows["scan"]["after"].low == 0.80
    assert memory.rows["128"]["cached"].value == 1200


def test_a_table_stays_narrow_and_a_slice_called_all_is_the_whole_set():
    measures, _ = tabulate({f"ndcg@10/system-{number}/{part}": 0.5 for number in range(8) for part in ("all", "scan")})
    assert [len(table.whens) for table in measures] == [6, 2]
    assert [list(table.rows) for table in measures] == [["", "scan"]] * 2


def test_a_single_figure_keeps_the_name_of_its_slice(build):
    path = build / "07_toy" / "metrics.json"
    content = json.loads(path.read_text())
    content["metrics"] = {
        "memory/cached/16": 900,
        "ndcg@10/difference/first-128": -0.01,
        "ndcg@10/difference/first-128/low": -0.02,
        "ndcg@10/difference/first-128/high": -0.0001,
    }
    path.write_text(json.dumps(content))
    text = " ".join(Page(write_report(build).read_text()).text.split())
    assert "Memory (MiB), cached 16900" in text
    assert "NDCG@10, difference first 128−0.010−0.020 to −0.000" in text


def test_the_headline_computes_the_gain_that_was_not_recorded():
    top = headline({"ndcg@10/before": 0.5, "ndcg@10/after": 0.75})
    assert top["gain"].value == 0.25 and top["error_cut"].value == 0.5
    assert headline({"ndcg@10/random": 0.1}) is None


def test_numbers_are_written_for_people():
    assert [format_number(value) for value in (300, 12345, 0.5, -0.25, 900.4, None)] == [
        "300",
        "12,345",
        "0.500",
        "−0.250",
        "900",
        "–",
    ]
    assert [format_minutes(value) for value in (0.5, 4.81, 120.4, None)] == ["30 s", "4.8 min", "120 min", "–"]
