"""Scripts in processes of their own: what they say, their time and memory; and Ray kept to this machine."""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil

from course_utils.errors import CourseError
from course_utils.paths import search_path

NOT_PASSED_ON = (
    "RAY_ADDRESS",
    "REHEARSAL_GPU",
)  # a cluster; a pretended GPU, with which each of Ray's processes loads torch
TIMEOUT = -1000  # in place of an exit code
RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a worker without a GPU of its own keeps its environment
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: listen on 127.0.0.1 only
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}


@dataclass(frozen=True)
class Ended:
    """What a script said on its standard output, its exit code and seconds, and the most memory of all its processes.

    Memory is resident memory in MiB, added up over the script and all that it started; shared pages count more than once.
    """

    said: str
    code: int
    seconds: float
    peak_mib: float


def run_script(
    command: Sequence[str | Path], seconds: float = 600, with_ray: bool = False, may_fail: bool = False
) -> Ended:
    """Run a Python script, `command` being its path and arguments, until it ends or `seconds` have passed.

    It gets one thread for torch, and this course on its path; `with_ray` keeps all of Ray's files and requests here.
    Raises CourseError with the end of what it said if it takes longer, or if it fails and may not.
    """
    variables = {name: value for name, value in os.environ.items() if name not in NOT_PASSED_ON}
    variables |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "LANCEDB_LOG": "error"}
    variables["PYTHONPATH"] = search_path()
    with _ray_home() if with_ray else tempfile.TemporaryDirectory() as folder:
        if with_ray:
            variables.setdefault("HF_HOME", str(Path.home() / ".cache" / "huggingface"))
            variables |= RAY | {"HOME": str(folder), "USERPROFILE": str(folder), "RAY_TMPDIR": str(folder)}
        said, complained = Path(folder) / "said.txt", Path(folder) / "complained.txt"
        with open(said, "wb") as out, open(complained, "wb") as errors:
            ended = _watch([sys.executable, *map(str, command)], variables, seconds, out, errors)
        text = said.read_text(encoding="utf-8", errors="replace")
        if ended.code and not may_fail:
            last = (complained.read_text(encoding="utf-8", errors="replace") or text).strip()[-1500:]
            why = f"took more than {seconds:g} s" if ended.code == TIMEOUT else f"ended with code {ended.code}"
            raise CourseError(f"{Path(command[0]).name} {why}. The last that it said: {last}")
    return Ended(text, ended.code, ended.seconds, ended.peak_mib)


def _watch(command: list[str], variables: dict[str, str], seconds: float, out, errors) -> Ended:
    """Run the command, and end all that it started when it ends."""
    began, peak, seen, code = time.monotonic(), 0.0, {}, None
    process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
    try:
        while process.poll() is None and time.monotonic() - began < seconds:
            family = _family(process.pid)
            seen |= {one.pid: one for one in family}
            peak = max(peak, sum(map(_resident, family)) / 2**20)
            time.sleep(0.2)
        code = process.poll()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        seen.pop(process.pid, None)
        _, left = psutil.wait_procs(list(seen.values()), timeout=10 if code is not None else 0)
        for one in left:
            if one.is_running():  # the same process, not another one with its number
                one.kill()
        psutil.wait_procs(left, timeout=10)
    return Ended("", TIMEOUT if code is None else code, time.monotonic() - began, peak)


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


@contextmanager
def _ray_home() -> Iterator[Path]:
    """A folder that is Ray's home and holds its files, removed at the end.

    Its path is short, since sockets lie in it, whose paths have at most 107 characters. The file in it keeps Ray from
    asking cloud providers' addresses where it runs.
    """
    short = Path("/tmp")
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir=short if short.is_dir() else None))
    (folder / "ray_bootstrap_config.yaml").write_text("{}\n", encoding="utf-8")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def throughput(batches: pd.DataFrame) -> float:
    """Pages a second while all workers were at work, from the columns worker, began and ended (seconds) of each page.

    A batch that lies in that time in part counts in part. Workers start one after another: the time in which only some
    of them work says nothing about all. Where they never worked together, it is the whole time that counts.
    """
    spans = batches.groupby("worker").agg(began=("began", "min"), ended=("ended", "max"))
    start, end = spans["began"].max(), spans["ended"].min()
    if end <= start:
        start, end = spans["began"].min(), spans["ended"].max()
    inside = (batches["ended"].clip(upper=end) - batches["began"].clip(lower=start)).clip(lower=0)
    shares = inside / (batches["ended"] - batches["began"]).clip(lower=1e-9)
    return float(shares.sum() / max(end - start, 1e-9))


def kept_log(name: str) -> list[str]:
    """What the logger of that name says from now on, as a list that grows, and nowhere else."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger(name)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    return lines


def file_bytes(folder: str | Path) -> int:
    """The bytes of all files in the folder and below."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
