"""What a function costs in memory, measured in a process of its own."""

import inspect
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from course_utils.errors import CourseError
from course_utils.paths import search_path

SECONDS = 3600  # a step of the largest model takes minutes on a CPU
PROGRAM = """
{source}

import json, sys
from pathlib import Path
from course_utils.machine import peak_memory_mib

asked, answered = map(Path, sys.argv[1:])
value = {name}(**json.loads(asked.read_text(encoding="utf-8")))
answered.write_text(json.dumps({{"value": value, "peak_mib": peak_memory_mib()}}), encoding="utf-8")
"""


@dataclass(frozen=True)
class Measured:
    """What a function returned, and the largest resident memory of the process that ran it, libraries included, in MiB.

    `together_mib` adds what the calling process held meanwhile: the machine needs both.
    """

    value: Any
    peak_mib: float
    together_mib: float


def in_fresh_process(function: Callable[..., Any], **arguments: Any) -> Measured:
    """Call the function in a new Python process and return its value with that process's peak memory.

    The process gets the function's source text, nothing else: what the function imports must be imported inside it,
    and arguments and value must be plain (numbers, strings, lists and dicts of them). Raises CourseError where the
    process fails, takes an hour, or is ended by the system, most often because memory ran out.
    """
    held = psutil.Process().memory_info().rss / 2**20  # while it waits, it takes no more
    program = PROGRAM.format(source=textwrap.dedent(inspect.getsource(function)), name=function.__name__)
    environment = os.environ | {"PYTHONPATH": search_path()}
    with tempfile.TemporaryDirectory() as folder:
        script, asked, answered = (Path(folder) / name for name in ("program.py", "arguments.json", "answer.json"))
        script.write_text(program, encoding="utf-8")
        asked.write_text(json.dumps(arguments), encoding="utf-8")
        command = [sys.executable, script, asked, answered]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise CourseError(f"{function.__name__} took more than {SECONDS} s in its own process.") from error
        if done.returncode:
            raise CourseError(_reason(function.__name__, done))
        answer = json.loads(answered.read_text(encoding="utf-8"))
    return Measured(**answer, together_mib=held + answer["peak_mib"])


def _reason(name: str, done: subprocess.CompletedProcess) -> str:
    if done.returncode == -9:  # SIGKILL
        return (
            f"The system ended the process of {name}, most likely because memory ran out: "
            "close other programs, or take a smaller batch."
        )
    said = done.stderr.strip().splitlines()
    last = said[-1] if said else f"exit code {done.returncode}"
    return f"{name} failed in its own process ({last[:300]}): fix it, and import inside the function what it uses."
