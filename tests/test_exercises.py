"""Exercise feedback: one line, never an exception, never the answer."""

import numpy as np
import pytest

from course_utils.exercises import check, close, is_blank

TESTS = [(lambda a: isinstance(a, int), "give a whole number"), (lambda a: a == 40, "count all the pages of the batch")]


def feedback(capsys, answer, tests=TESTS) -> str:
    check("in-batch negatives", answer, tests)
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "tests", "line"),
    [
        (40, TESTS, "✓ in-batch negatives\n"),
        ("40", TESTS, "✗ in-batch negatives: give a whole number\n"),
        (39, TESTS, "✗ in-batch negatives: count all the pages of the batch\n"),
        (lambda x: ..., [(lambda f: f(3), "return the score")], "✗ in-batch negatives: return the score\n"),
        (1, [(lambda a: np.testing.assert_equal(a, 40), "look again")], "✗ in-batch negatives: look again\n"),
    ],
)
def test_an_answer_gets_one_line_with_the_first_message_that_applies(capsys, answer, tests, line):
    assert feedback(capsys, answer, tests) == line


def test_an_error_in_a_condition_becomes_one_line(capsys):
    line = feedback(capsys, 3, [(lambda a: len(a) == 2, "give a list of two")])
    assert line.count("\n") == 1
    assert line.startswith("✗ in-batch negatives: give a list of two (trying it gave TypeError")


@pytest.mark.parametrize("blank", [..., None, [...], (..., 3), {"loss": ...}, [[...]], {"a": {"b": (...,)}}])
def test_the_blank_stub_never_passes(capsys, blank):
    line = feedback(capsys, blank, [(lambda a: True, "never said")])
    assert line.startswith("✗") and "not done yet" in line


@pytest.mark.parametrize("filled", [0, "", False, [], [None, 1], np.zeros(2), lambda x: x])
def test_an_answer_that_merely_looks_empty_is_not_blank(filled):
    assert not is_blank(filled)


def test_close_compares_numbers_arrays_and_tensors():
    import torch

    assert close(0.1 + 0.2, 0.3) and not close(0.3, 0.31) and close(0.3, 0.31, tol=0.02)
    assert close([1, 2], np.array([1.0, 2.0])) and not close([1, 2], [1, 2, 3]) and not close([1, 1], 1)
    assert close(torch.tensor([1.5], requires_grad=True, dtype=torch.bfloat16), [1.5])
    for useless in (..., None, "text", float("nan"), {}):
        assert not close(useless, 1.0)
