"""The benchmark runs at tiny amounts, prints every factor, and ends with the ratio of the two totals."""

import re

import pytest
from click.testing import CliRunner

from course_utils.errors import CourseError
from course_utils.maintain.bench import Cost, bench
from course_utils.runner.cli import main


@pytest.fixture(scope="module")
def output(dataset):
    """What `course bench` says for four rows and ten pages."""
    result = CliRunner().invoke(main, ["bench", "--rows", "4", "--pages", "10", "--small", "2"])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_last_line_is_the_ratio_of_the_totals(output):
    last = re.fullmatch(r"ratio (\d+\.\d)x", output.splitlines()[-1])
    assert last and len(re.findall(r"^ratio ", output, re.MULTILINE)) == 1
    assert re.search(rf"^total .* {last[1]}x  s$", output, re.MULTILINE)


def test_each_factor_has_its_ratio_its_total_and_its_growth(output):
    for factor in ("data", "training", "evaluation"):
        lines = [line for line in output.splitlines() if line.startswith(factor)]
        assert len(lines) == 3
        assert all(re.search(r" \d+\.\dx  s", line) for line in lines[:2])
        assert re.search(r" s +\d+\.\d times$", lines[2])


def test_both_reach_a_score_and_the_difference_is_told(output):
    scores = re.search(r"dev NDCG@10: published ([\d.]+), lesson ([\d.]+), difference ([\d.]+)", output)
    published, lesson, difference = map(float, scores.groups())
    assert 0 < published <= 1 and 0 < lesson <= 1 and abs(abs(published - lesson) - difference) < 2e-4


def test_totals_count_pages_read_rows_trained_and_pages_embedded():
    once = Cost(page=1, row=1, evaluation=1, passes=1, ndcg={}, whole=0).scaled()
    five = Cost(page=1, row=1, evaluation=1, passes=5, ndcg={}, whole=0).scaled()
    assert once == {"data": 2 * 1984 + 4200, "training": 1984, "evaluation": 4200}
    assert five == {"data": 2 * 1984 + 16200, "training": 1984, "evaluation": 16200}


def test_amounts_that_cannot_be_measured_are_refused():
    with pytest.raises(CourseError, match="at least 2"):
        bench(1, 10, 2, print)
