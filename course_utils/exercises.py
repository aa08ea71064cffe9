"""Feedback on exercises: one friendly line, never an exception, never the answer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Test = tuple[Callable[[Any], Any], str]


def check(title: str, answer: Any, tests: Sequence[Test]) -> None:
    """Print "✓ title" if the answer passes every test, else one line that says what is wrong. Never raises.

    A test is a condition of the answer and the sentence for when it does not hold; they are tried in
    order, so later conditions may rely on earlier ones. An answer left blank (`...` or None) never passes.

        check("in-batch negatives", answer, [
            (lambda a: isinstance(a, int), "give a whole number"),
            (lambda a: a == 5 * 8, "count the other queries' pages as well"),
        ])
    """
    problem = _problem(answer, tests)
    print(f"✓ {title}" if problem is None else f"✗ {title}: {problem}")


def close(a: Any, b: Any, tol: float = 1e-6) -> bool:
    """True if two numbers, arrays or tensors have one shape and differ by at most `tol` everywhere.

    NaN is close to nothing. Anything that is not numeric gives False, not an error.
    """
    try:
        a, b = _numbers(a), _numbers(b)
        return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tol))
    except Exception:
        return False


def is_blank(answer: Any) -> bool:
    """True for a stub that was not filled in: None, `...`, or a list, tuple or dict that still holds `...`."""
    if isinstance(answer, Mapping):
        answer = list(answer.values())
    if isinstance(answer, (list, tuple)):
        return any(part is not None and is_blank(part) for part in answer)
    return answer is None or answer is Ellipsis


def _problem(answer: Any, tests: Sequence[Test]) -> str | None:
    """The first thing that is wrong, or None."""
    if is_blank(answer):
        return "not done yet: put your answer in place of `...`"
    for condition, message in tests:
        try:
            result = condition(answer)
            passed = result is not Ellipsis and bool(result)
        except AssertionError:
            passed = False
        except Exception as error:
            return f"{message} (trying it gave {_describe(error)})"
        if not passed:
            return message
    return None


def _describe(error: Exception) -> str:
    """Type and first line of an error, short enough for one line."""
    text = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def _numbers(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().double().numpy()
    return np.asarray(value, dtype=float)
