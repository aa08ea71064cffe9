"""Clouds of vectors in two dimensions."""

import numpy as np
import pytest

from course_utils.errors import CourseError


def test_two_clouds_that_lie_apart_are_drawn_apart_with_their_centroids():
    rng = np.random.default_rng(0)
    left, right = rng.normal(0, 0.1, (30, 8)), rng.normal(0, 0.1, (40, 8))
    left[:, 3] -= 5
    (axes,) = clouds({"queries": left, "pages": right}).axes
    a, _, b, _ = [np.asarray(points.get_offsets()) for points in axes.collections]
    assert (len(a), len(b)) == (30, 40) and abs(a[:, 0].mean() - b[:, 0].mean()) > 4
    assert abs(a[:, 1].mean() - b[:, 1].mean()) < 0.5 and "centroid" in axes.get_xlabel()
    assert [text.get_text() for text in axes.get_legend().texts] == ["queries, n=30", "pages, n=40"]


def test_too_few_vectors_or_too_many_kinds_are_refused():
    with pytest.raises(CourseError, match="two"):
        clouds({"queries": np.zeros((1, 4)), "pages": np.eye(4)})
    with pytest.raises(CourseError):
        clouds({name: np.eye(3) for name in "abc"})
