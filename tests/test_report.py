"""The report shows what was recorded, opens without a network and survives whatever lies in `build/`."""

import json

import pytest
from test_runner import a_record

from course_utils.runner.records import write_record
from course_utils.runner.report import headlines, write_report

INTERVAL = {"ndcg@10/after": 0.93, "ndcg@10/after/low": 0.91, "ndcg@10/after/high": 0.95}
METRICS = {"queries": 300, **INTERVAL, "ndcg@10/after/scan": 0.812, "p/gain": 0.02, "precomputed": 1}


@pytest.fixture
def build(tmp_path):
    write_record(tmp_path, a_record(status="finished", minutes=4.8, expected_minutes=5.0))
    content = {"peak_memory_mib": 2000.0, "metrics": METRICS, "figures": {}}
    (tmp_path / "07_toy" / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "07_toy.html").write_text("<p>", encoding="utf-8")
    return tmp_path


def page(build):
    return write_report(build).read_text(encoding="utf-8")


def test_the_report_has_status_minutes_memory_figures_and_links(build):
    html = page(build)
    for words in ("finished", "4.8 min", "5 min", "2.1 GB", "NDCG@10 after", "0.930", "0.910 to 0.950", "Precomputed"):
        assert words in html, words
    assert 'href="07_toy.html"' in html and 'href="07_toy.ipynb"' not in html  # only what is there


def test_headlines_are_figures_of_the_whole_set_with_an_interval():
    assert headlines(METRICS) == [("NDCG@10 after", 0.93, 0.91, 0.95)]


def test_figures_of_an_earlier_run_are_not_shown_as_this_runs(build):
    write_record(build, a_record(status="failed", started="2999-01-01T00:00:00+00:00"))
    assert "0.930" not in page(build) and "failed" in page(build)


def test_a_failure_has_class_cell_error_and_advice_and_markup_in_it_is_text(build):
    failure = {"class": "memory", "advice": "Pass a smaller ROWS.", "error": "<b>bold</b>", "cell": "[7]: train()"}
    write_record(build, a_record(status="failed", failure=failure))
    html = page(build)
    assert all(words in html for words in ("memory", "Pass a smaller ROWS.", "&lt;b&gt;bold", "[7]: train()"))
    assert "<b>bold" not in html


def test_an_interrupted_run_says_how_to_go_on(build):
    write_record(build, a_record(status="interrupted"))
    assert "course run 07 --resume" in page(build)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"metrics": 5}'])
def test_damaged_records_and_metrics_are_left_out(build, content):
    (build / "07_toy" / "metrics.json").write_text(content, encoding="utf-8")
    assert "finished" in page(build)
    (build / "07_toy" / "run.json").write_text(content, encoding="utf-8")
    assert "course run" in page(build)  # as before the first run
