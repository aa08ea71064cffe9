"""Exercise feedback, and what is known about the machine."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from course_utils import machine
from course_utils.exercises import check, close, is_blank

ROOT = Path(__file__).resolve().parent.parent
TESTS = [(lambda a: isinstance(a, int), "give a whole number"), (lambda a: a == 40, "count all the pages of the batch")]


def feedback(capsys, answer, tests=TESTS) -> tuple[bool, str]:
    check("in-batch negatives", answer, tests)
    line = capsys.readouterr().out
    return line.startswith("✓"), line


def test_a_right_answer_gets_one_friendly_line(capsys):
    assert feedback(capsys, 40) == (True, "✓ in-batch negatives\n")


def test_a_wrong_answer_gets_the_first_message_that_applies_and_not_the_answer(capsys):
    assert feedback(capsys, "40") == (False, "✗ in-batch negatives: give a whole number\n")
    assert feedback(capsys, 39) == (False, "✗ in-batch negatives: count all the pages of the batch\n")


@pytest.mark.parametrize("blank", [..., None, [...], (..., 3), {"loss": ...}, [[...]], {"a": {"b": (...,)}}])
def test_the_blank_stub_never_passes(capsys, blank):
    passed, line = feedback(capsys, blank, [(lambda a: True, "never said")])
    assert not passed and line.startswith("✗") and "not done yet" in line


@pytest.mark.parametrize("filled", [0, "", False, [], [None, 1], np.zeros(2), lambda x: x])
def test_an_answer_that_merely_looks_empty_is_not_blank(filled):
    assert not is_blank(filled)


def test_a_stub_function_that_returns_ellipsis_does_not_pass(capsys):
    assert feedback(capsys, lambda x: ..., [(lambda f: f(3), "return the score")]) == (
        False,
        "✗ in-batch negatives: return the score\n",
    )


def test_an_error_in_a_condition_becomes_one_line(capsys):
    passed, line = feedback(capsys, 3, [(lambda a: len(a) == 2, "give a list of two")])
    assert not passed
    assert (
        line.startswith("✗ in-batch negatives: give a list of two (trying it gave TypeError") and line.count("\n") == 1
    )


def test_a_failed_assertion_does_not_give_the_answer_away(capsys):
    def expects_the_answer(a):
        np.testing.assert_equal(a, 123456)
        return True

    passed, line = feedback(capsys, 1, [(expects_the_answer, "look at the shape")])
    assert not passed and line == "✗ in-batch negatives: look at the shape\n"


class Hostile:
    def __bool__(self):
        raise ValueError("no truth value\nsecond line")


@pytest.mark.parametrize(
    "tests",
    [[], None, 3, [("not callable", "message")], [(lambda a: a, "message", "extra")], [(lambda a: Hostile(), "m")]],
)
def test_a_check_never_raises_and_never_passes_by_accident(capsys, tests):
    passed, line = feedback(capsys, 1, tests)
    assert passed is False and line.startswith("✗") and line.count("\n") == 1


def test_close_compares_numbers_arrays_and_tensors():
    import torch

    assert close(0.1 + 0.2, 0.3) and not close(0.3, 0.31) and close(0.3, 0.31, tol=0.02)
    assert close([1, 2], np.array([1.0, 2.0])) and not close([1, 2], [1, 2, 3]) and not close([1, 1], 1)
    assert close(torch.tensor([1.5], requires_grad=True, dtype=torch.bfloat16), [1.5])
    for useless in (..., None, "text", float("nan"), {}):
        assert not close(useless, 1.0)


# --- the machine ---


def test_the_machine_is_described_for_the_report():
    found = machine.machine()
    assert set(found) == {"cpu", "cores", "memory_gb", "gpu", "python", "platform"}
    assert 1 <= found["cores"] <= os.cpu_count() and found["memory_gb"] > 0 and found["cpu"]
    assert machine.device() in ("cpu", "cuda")
    assert machine.versions()["sentence-transformers"][0].isdigit()


def test_a_missing_package_is_named_as_such(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("no-such-package",))
    assert machine.versions() == {"no-such-package": "not installed"}


def test_peak_memory_is_that_of_the_process_and_not_of_its_parent():
    show = "from course_utils.machine import peak_memory_mib as peak; "
    child = (
        f"import subprocess, sys; {show} block = b'x' * (200 << 20); print(peak()); block = None; sys.stdout.flush(); "
        f"subprocess.run([sys.executable, '-c', {show + 'print(peak())'!r}])"
    )
    result = subprocess.run([sys.executable, "-c", child], cwd=ROOT, capture_output=True, text=True, check=True)
    parent, grandchild = map(float, result.stdout.split())
    assert 200 < parent < 400
    if sys.platform == "linux":
        assert 1 < grandchild < 100


def test_quiet_drops_only_the_messages_that_it_names(caplog):
    with warnings.catch_warnings():
        machine.quiet()
        machine.quiet()
        logger = logging.getLogger("transformers.image_utils")
        assert len([known for known in logger.filters if isinstance(known, machine._Without)]) == 1
        logger.addHandler(caplog.handler)
        try:
            logger.warning("Image decoding with `torchvision` is deprecated and will be removed")
            logger.warning("Something that matters")
        finally:
            logger.removeHandler(caplog.handler)
    assert {record.getMessage() for record in caplog.records} == {"Something that matters"}


def test_quiet_uses_the_cores_keeps_download_bars_and_sends_no_statistics(monkeypatch):
    import torch
    from huggingface_hub import constants
    from huggingface_hub.utils import are_progress_bars_disabled

    hidden, threads = are_progress_bars_disabled(), torch.get_num_threads()
    with warnings.catch_warnings():
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        machine.quiet()
        assert torch.get_num_threads() == threads
        monkeypatch.delenv("OMP_NUM_THREADS")
        machine.quiet()
        assert torch.get_num_threads() == machine.cores()
        assert constants.HF_HUB_DISABLE_TELEMETRY
        assert are_progress_bars_disabled() == hidden


@pytest.mark.parametrize(("message", "kept"), [("'pin_memory' argument is set as true but no", 0), ("loss is NaN", 1)])
def test_quiet_keeps_warnings_that_matter(message, kept):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        machine.quiet()
        warnings.warn(message, UserWarning)
    assert len(seen) == kept
