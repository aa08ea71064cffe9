"""The figure of the lesson on loading."""

import pandas as pd
import pytest

from course_utils.errors import CourseError


def test_two_panels_show_tokens_and_time_by_pixels_with_units():
    table = pd.DataFrame({"pixels": [16_000, 64_000], "image tokens": [12, 63], "ms a page": [3.0, 11.0]})
    tokens, seconds = cost_of_pixels(table).axes
    assert list(tokens.lines[0].get_ydata()) == [12, 63] and list(seconds.lines[0].get_xdata()) == [16, 64]
    assert all("pixels" in axes.get_xlabel() for axes in (tokens, seconds)) and "milliseconds" in seconds.get_ylabel()


def test_one_budget_is_no_line():
    with pytest.raises(CourseError, match="two"):
        cost_of_pixels(pd.DataFrame({"pixels": [1], "image tokens": [1], "ms a page": [1.0]}))
