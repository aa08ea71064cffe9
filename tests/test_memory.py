"""Peak memory is that of a new process, which runs the function's source and nothing else; its plots say what they show."""

import os

import numpy as np
import pytest

from course_utils import memory, plots
from course_utils.errors import CourseError
from course_utils.evaluation import Interval


def fill(mebibytes: int) -> int:
    kept = bytearray(mebibytes * 2**20)
    kept[:: 2**12] = b"x" * len(kept[:: 2**12])
    return len(kept)


def where() -> list:
    import os
    import sys

    return [os.getpid(), "pytest" in sys.modules, sorted(os.environ["PYTHONPATH"].split(os.pathsep))]


def forgets_its_import() -> float:
    return pytest.approx(1)


def is_killed() -> None:
    import os
    import signal

    print("so far so good")
    os.kill(os.getpid(), signal.SIGKILL)


def is_chatty(words: dict) -> dict:
    print("{not json}")
    return {"heard": words}


def test_what_a_function_holds_is_in_the_peak_and_what_this_process_holds_is_not():
    held = bytearray(b"x" * (300 * 2**20))  # in this process, which must not count
    small, large = memory.in_fresh_process(fill, mebibytes=10), memory.in_fresh_process(fill, mebibytes=210)
    assert large.value == 210 * 2**20
    assert 190 <= large.peak_mib - small.peak_mib <= 215
    assert small.peak_mib < 100 < len(held) / 2**20 < small.together_mib - small.peak_mib


def test_memory_that_was_given_back_still_counts():
    def fills_and_forgets() -> None:
        kept = b"x" * (150 * 2**20)
        del kept

    assert memory.in_fresh_process(fills_and_forgets).peak_mib > 150


def test_the_process_is_new_and_finds_the_course_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pid, has_pytest, path = memory.in_fresh_process(where).value
    assert pid != os.getpid() and not has_pytest
    assert path == sorted([str(memory.ROOT), str(tmp_path)])


def test_values_come_back_whatever_the_function_prints():
    assert memory.in_fresh_process(is_chatty, words={"a": [1, 2.5, "é"]}).value == {"heard": {"a": [1, 2.5, "é"]}}


def test_a_function_that_uses_a_name_from_outside_is_told_so():
    with pytest.raises(CourseError, match="NameError.*import inside the function"):
        memory.in_fresh_process(forgets_its_import)


def test_a_process_that_the_system_ends_is_one_sentence_about_memory():
    with pytest.raises(CourseError, match="most likely for memory.*smaller batch"):
        memory.in_fresh_process(is_killed)


# --- plots ---


def test_memory_is_drawn_from_zero_with_a_line_for_each_way_to_train():
    fig = plots.by_batch_size({"plain": {16: 1500, 128: 5000}, "cached": {16: 1200, 128: 1500}}, at_rest=1000)
    (axes,) = fig.axes
    assert axes.get_ylim()[0] == 0 and "MiB" in axes.get_ylabel() and "batch size" in axes.get_xlabel()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "plain",
        "cached",
        "before a step: 1,000 MiB",
    ]
    assert [text.get_text() for text in axes.texts] == ["5,000", "1,500"]


def test_scores_by_batch_size_are_drawn_with_their_intervals_and_n():
    scores = {8: Interval(0.6, 0.5, 0.7, 60), 2: Interval(0.5, 0.4, 0.6, 60)}
    (axes,) = plots.score_by_batch_size(scores, Interval(0.4, 0.3, 0.5, 60)).axes
    legend = " ".join(text.get_text() for text in axes.get_legend().get_texts())
    assert "n=60" in legend and "before: 0.40" in legend
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "8"]
    assert axes.collections and axes.patches, "the bars and the band of the intervals"


def test_a_similarity_matrix_borders_each_query_s_own_page():
    axes = plots.similarity_matrix(np.eye(3, 6), ["a", "b", "c" * 60]).axes[0]
    assert [patch.get_xy() for patch in axes.patches] == [(-0.5, -0.5), (0.5, 0.5), (1.5, 1.5)]
    assert axes.get_yticklabels()[2].get_text().endswith("…")


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.by_batch_size({}, 0),
        lambda: plots.by_batch_size({"plain": {}}, 0),
        lambda: plots.score_by_batch_size({}, Interval(0, 0, 0, 1)),
        lambda: plots.similarity_matrix(np.eye(2), ["a"]),
    ],
)
def test_nothing_to_draw_gets_a_sentence(draw):
    with pytest.raises(CourseError, match="at least"):
        draw()
