"""Run lessons one after the other on papermill and keep a record of each."""

import logging
import os
import shlex
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from course_utils.errors import CourseError
from course_utils.paths import ROOT
from course_utils.runner.failures import ADVICE, classify
from course_utils.runner.lessons import Lesson
from course_utils.runner.records import FAILED, FINISHED, INTERRUPTED, RUNNING, Record, read_record, write_record
from course_utils.runner.report import format_minutes, read_metrics, write_report

# nbconvert's page without the scripts that it would fetch from a network
HTML_TEMPLATE = """{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock %}{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}"""


class ProfileValues(Protocol):
    """The values of a profile that the runner needs; `minutes` are expected minutes by lesson number."""

    name: str
    network: bool
    minutes: dict[str, float]


class Interrupted(CourseError):
    """The learner stopped the run; the message says how to go on."""


def run_lessons(
    lessons: list[Lesson],
    profile: ProfileValues,
    build: Path,
    parameters: dict[str, Any] | None = None,
    variant: str = "learner",
    resume: bool = False,
    say: Callable[[str], None] = print,
    cell_minutes: float | None = None,
) -> list[Record]:
    """Run the lessons and write notebooks, HTML, records and `index.html` to `build`.

    A cell that takes longer than `cell_minutes` ends its lesson (None: no limit). `variant` is `learner` or `solutions` and
    is kept in the record. With `resume`, lessons that finished with the same cells, settings and packages are left as they
    are, and the others get `RESUME=True` if they know that parameter.
    Returns the records in order. Raises Interrupted on Ctrl-C, CourseError if `build` cannot be used.
    """
    build = Path(build).resolve()
    records = []
    for lesson in lessons:
        earlier = _earlier_run(build, lesson, say)
        record = Record(
            lesson=lesson.name,
            title=lesson.title(),
            profile=profile.name,
            parameters=dict(parameters or {}),
            variant=variant,
            fingerprint=lesson.fingerprint(),
            expected_minutes=profile.minutes.get(lesson.number),
        )
        if resume and earlier and _is_done(earlier, record, build):
            say(f"{lesson.number} finished before with the same settings: left as it is.")
            records.append(earlier)
            continue
        try:
            _run_lesson(lesson, record, profile, build, resume, cell_minutes)
        except KeyboardInterrupt:
            again = resume_command(lessons, profile, parameters, variant, cell_minutes)
            raise Interrupted(f"Stopped in lesson {lesson.number}; go on where it was with: {again}") from None
        finally:
            write_report(build)
        say(_summary(lesson, record, build))
        records.append(record)
    write_report(build)
    return records


def resume_command(
    lessons: list[Lesson],
    profile: ProfileValues,
    parameters: dict[str, Any] | None,
    variant: str,
    cell_minutes: float | None,
) -> str:
    """The command that goes on with a run that was stopped."""
    words = ["course", "run", *(lesson.number for lesson in lessons)]
    if profile.name != "tiny":
        words += ["--profile", profile.name]
    for name, value in (parameters or {}).items():
        words += ["-p", name, str(value)]
    if variant == "solutions":
        words.append("--solutions")
    if cell_minutes:
        words += ["--cell-minutes", f"{cell_minutes:g}"]
    return shlex.join([*words, "--resume"])


def kernel_environment(profile: ProfileValues, build: Path) -> dict[str, str]:
    """Environment variables for the notebook's process: this checkout, this build, and no network in `tiny`."""
    search = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {
        "COURSE_BUILD": str(build),
        "PYTHONPATH": os.pathsep.join(search),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if not profile.network:
        variables |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return variables


def _earlier_run(build: Path, lesson: Lesson, say: Callable[[str], None]) -> Record | None:
    try:
        (build / lesson.name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CourseError(
            f"{build / lesson.name} cannot be used as a folder ({error.strerror}): move it away, "
            "or set COURSE_BUILD to another folder."
        ) from error
    try:
        earlier = read_record(build, lesson.name)
    except CourseError as error:
        say(f"{error} Lesson {lesson.number} runs from its start.")
        return None
    if earlier and earlier.status == RUNNING and earlier.process[0] != os.getpid():
        raise CourseError(
            f"Another run of lesson {lesson.number} (process {int(earlier.process[0])}) is working in {build}: "
            "wait for it to end, or set COURSE_BUILD to another folder."
        )
    return earlier


def _is_done(earlier: Record, record: Record, build: Path) -> bool:
    return earlier.status == FINISHED and earlier.same_run(record) and (build / f"{record.lesson}.ipynb").exists()


def _run_lesson(
    lesson: Lesson, record: Record, profile: ProfileValues, build: Path, resume: bool, cell_minutes: float | None
) -> None:
    """Execute one notebook and fill in its record, which is on disk from the first moment."""
    known = lesson.parameters()
    values = dict(record.parameters)
    if "PROFILE" in known:
        values["PROFILE"] = profile.name
    if resume and "RESUME" in known:
        values["RESUME"] = True
    output = build / f"{lesson.name}.ipynb"
    write_record(build, record)
    started = time.monotonic()
    record.status = INTERRUPTED
    try:
        limit = round(60 * cell_minutes) if cell_minutes else None
        error = _execute(
            lesson, output, values, kernel_environment(profile, build), f"{record.title} ({profile.name})", limit
        )
        record.status = FAILED if error else FINISHED
        if error:
            record.failure = _describe_failure(error, output)
    finally:
        record.minutes = round((time.monotonic() - started) / 60, 3)
        record.slowest = slowest_cells(output)
        write_record(build, record)
    _write_html(output)


def _execute(
    lesson: Lesson, output: Path, values: dict[str, Any], environment: dict[str, str], title: str, limit: int | None
) -> Exception | None:
    """Run the notebook in its own folder with this Python, `limit` seconds a cell; returns the error that stopped it, if any."""
    _quieten()
    import papermill

    _register_engine()
    manager = _kernel_manager(environment)
    try:
        papermill.execute_notebook(
            str(lesson.path.resolve()).replace("{", "{{").replace("}", "}}"),
            str(output).replace("{", "{{").replace("}", "}}"),
            parameters=values,
            engine_name="course",
            kernel_name="python3",
            language="python",
            cwd=str(lesson.path.resolve().parent),
            execution_timeout=limit,
            kernel_manager_class=manager,
            progress_bar={
                "desc": title,
                "disable": None,
                "bar_format": "{desc} {percentage:3.0f}%|{bar:20}| {elapsed}{postfix}",
            },
        )
    except Exception as error:  # whatever a cell or its process can raise: it becomes the record's failure
        return (
            MemoryError("The system ended the notebook's process.") if manager.exit_status == -signal.SIGKILL else error
        )
    return None


def _kernel_manager(environment: dict[str, str]) -> type:
    """A kernel manager that always starts this very Python, whatever kernels the home folder has."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class CourseKernelManager(AsyncKernelManager):
        exit_status: int | None = None  # of the last process that ended by itself; a signal's number is negative

        async def is_alive(self) -> bool:
            alive = await super().is_alive()
            if not alive and self.has_kernel:
                type(self).exit_status = await self.provisioner.poll()
            return alive

        @property
        def kernel_spec(self) -> KernelSpec:
            # `$` would be read as the start of a variable
            env = {name: value.replace("$", "$$") for name, value in environment.items()}
            return KernelSpec(**get_kernel_dict(["--log-level=50"]), env=env)  # a cell's own errors still show

    return CourseKernelManager


def _register_engine() -> None:
    """Papermill's engine with a clock that goes on in long cells and the heading of the cell that runs."""
    from papermill.engines import NBClientEngine, papermill_engines

    class CourseEngine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> None:
            done = threading.Event()
            ticker = threading.Thread(target=_tick, args=(nb_man.pbar, nb_man.nb, done), daemon=True)
            ticker.start()
            try:
                super().execute_managed_notebook(nb_man, kernel_name, **kwargs)
            finally:
                done.set()
                ticker.join()
                nb_man.cleanup_pbar()  # where it stopped, not at 100%

    papermill_engines.register("course", CourseEngine)


def _tick(bar: Any, notebook: Any, done: threading.Event) -> None:
    while not done.wait(1.0):
        running = [
            index
            for index, cell in enumerate(notebook.cells)
            if cell.metadata.get("papermill", {}).get("status") == "running"
        ]
        if running:
            bar.set_postfix_str(_heading(notebook.cells, running[0])[:40], refresh=False)
        bar.refresh()


def _heading(cells: list[Any], index: int) -> str:
    """The nearest heading at or above a cell."""
    for cell in reversed(cells[: index + 1]):
        if cell["cell_type"] == "markdown":
            for line in reversed(cell["source"].splitlines()):
                if line.startswith("#"):
                    return line.lstrip("# ").strip()
    return ""


def _read_notebook(path: Path) -> list[Any]:
    import nbformat

    try:
        return nbformat.read(path, as_version=4).cells
    except (OSError, ValueError, nbformat.reader.NotJSONError):
        return []


def slowest_cells(notebook: Path, count: int = 5) -> list[dict[str, Any]]:
    """The slowest cells of an executed notebook: number, heading, first line and seconds, slowest first."""
    cells = _read_notebook(notebook)
    timed = []
    for index, cell in enumerate(cells):
        seconds = cell.metadata.get("papermill", {}).get("duration")
        if cell.cell_type == "code" and seconds:
            timed.append(
                {
                    "number": cell.execution_count,
                    "heading": _heading(cells, index),
                    "line": _first_line(cell.source),
                    "seconds": round(seconds, 2),
                }
            )
    return sorted(timed, key=lambda cell: -cell["seconds"])[:count]


def _first_line(source: str) -> str:
    lines = [line.strip() for line in source.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith(("#", "%"))), lines[0] if lines else "")[:100]


def _describe_failure(error: Exception, output: Path) -> dict[str, str]:
    """Class, advice, error and cell of what stopped a lesson."""
    name, message = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    kind, advice = classify(name, message)
    cells = _read_notebook(output)
    begun = [
        index
        for index, cell in enumerate(cells)
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]
    if kind == "kernel" and not begun:
        advice = ADVICE["no kernel"]
    failure = {"class": kind, "advice": advice, "error": f"{name}: {message}".strip().rstrip(":")[:500], "cell": ""}
    if begun:
        cell, heading = cells[begun[-1]], _heading(cells, begun[-1])
        place = f"[{cell.execution_count or '*'}]"
        failure["cell"] = (
            f"{place}, {heading}: {_first_line(cell.source)}" if heading else f"{place}: {_first_line(cell.source)}"
        )
    return failure


def _write_html(notebook: Path) -> None:
    """Put the executed notebook beside itself as HTML that needs no network."""
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    from course_utils.files import atomic_write

    try:
        content = nbformat.read(notebook, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError):
        return
    exporter = HTMLExporter(raw_template=HTML_TEMPLATE, log=_silent_log())
    exporter.register_preprocessor(
        CoalesceStreamsPreprocessor(enabled=True), enabled=True
    )  # progress bars as they ended
    html, _ = exporter.from_notebook_node(content, {"metadata": {"name": notebook.stem}})
    atomic_write(notebook.with_suffix(".html"), html)


def _silent_log() -> logging.Logger:
    log = logging.getLogger("course.nbconvert")
    log.setLevel(logging.CRITICAL)
    return log


def _quieten() -> None:
    """Keep notices about the machinery, which no learner can act on, off the screen."""
    for name in ("papermill", "traitlets", "nbclient", "blib2to3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for module in ("papermill", "nbformat", "nbclient", "nbconvert", "jupyter_client", "zmq", "traitlets"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")


def _summary(lesson: Lesson, record: Record, build: Path) -> str:
    minutes = format_minutes(record.minutes)
    if record.expected_minutes:
        minutes += f" (about {format_minutes(record.expected_minutes)} expected)"
    if record.status == FAILED and record.failure:
        failure = record.failure
        return (
            f"{lesson.number} failed after {minutes} in cell {failure['cell']}\n"
            f"   {failure['error']}\n   {failure['advice']}\n"
            f"   The notebook up to there: {build / lesson.name}.ipynb"
        )
    metrics = read_metrics(build, record)
    memory = f", {metrics['peak_memory_mib']:,.0f} MiB" if metrics else ""
    return f"{lesson.number} finished in {minutes}{memory}"
