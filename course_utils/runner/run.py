"""Run lessons one after the other on papermill and keep a record of each."""

import logging
import shutil
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.paths import NOTEBOOKS, search_path
from course_utils.profiles import Profile
from course_utils.runner.failures import classify
from course_utils.runner.lessons import Lesson, format_minutes
from course_utils.runner.records import FAILED, FINISHED, Record, memory_text, read_metrics, read_record, write_record
from course_utils.runner.report import write_report

CELL_MINUTES = 720.0  # longer than any training of the published models
TINY_CELL_MINUTES = 60.0  # longer than any cell in tiny, so that one that hangs does not hold up the night
WIDGET = "application/vnd.jupyter.widget-view+json"
# nbconvert's page without the scripts that it would fetch from a network
HTML_TEMPLATE = """{% extends "lab/index.html.j2" %}
{% block html_head_js %}{% endblock %}{% block html_head_js_mermaidjs %}{% endblock %}
{% block html_head_js_mathjax %}{% endblock %}"""


def run_lessons(
    lessons: list[Lesson],
    profile: Profile,
    build: Path,
    parameters: dict[str, Any] | None = None,
    variant: str = "learner",
    resume: bool = False,
    say: Callable[[str], None] = print,
    cell_minutes: float | None = None,
) -> list[Record]:
    """Run the lessons and write notebooks, HTML, records and `index.html` to `build`.

    A cell that takes longer than `cell_minutes` (an hour in `tiny`, else twelve) ends its lesson. `variant` is `learner`
    or `solutions` and is kept in the record. With `resume`, lessons that finished with the same cells, settings and
    packages are left as they are, and the others get `RESUME=True` if they know that parameter.
    Returns the records in order. Raises CourseError if another run is at work on the lesson in `build`, OSError if
    `build` cannot be written; KeyboardInterrupt passes through.
    """
    build = Path(build).resolve()
    limit = cell_minutes or (CELL_MINUTES if profile.network else TINY_CELL_MINUTES)
    records = []
    for lesson in lessons:
        header = lesson.header()
        record = Record(
            lesson=lesson.name,
            title=header.title,
            profile=profile.name,
            parameters=dict(parameters or {}),
            variant=variant,
            fingerprint=lesson.fingerprint(),
            expected_minutes=header.minutes.get(profile.name),
        )
        (build / lesson.name).mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(build / lesson.name / "run.lock", timeout=0):
                earlier = read_record(build, lesson.name)
                done = earlier and earlier.status == FINISHED and (build / f"{lesson.name}.ipynb").exists()
                if resume and done and earlier.same_run(record):
                    record = earlier
                    say(f"{lesson.number} finished before with the same settings: left as it is.")
                else:
                    _run_lesson(lesson, record, profile, build, resume, limit)
                    say(_summary(record, build))
        except Timeout as error:
            raise CourseError(
                f"Another run of lesson {lesson.number} is at work in {build}: wait for its end, "
                "or set COURSE_BUILD to another folder."
            ) from error
        finally:
            write_report(build)
        records.append(record)
    return records


def kernel_environment(profile: Profile, build: Path) -> dict[str, str]:
    """Environment variables for the notebook's process: this checkout, this build, and no network in `tiny`."""
    variables = {
        "COURSE_BUILD": str(build),
        "PYTHONPATH": search_path(),
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if not profile.network:
        variables |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    return variables


def _run_lesson(
    lesson: Lesson, record: Record, profile: Profile, build: Path, resume: bool, cell_minutes: float
) -> None:
    """Execute one notebook and fill in its record, which is on disk, as interrupted, from the first moment."""
    own = {"PROFILE": profile.name} | ({"RESUME": True} if resume else {})
    values = record.parameters | {name: value for name, value in own.items() if name in lesson.parameters()}
    output = build / f"{lesson.name}.ipynb"
    write_record(build, record)
    for earlier in (output, output.with_suffix(".html")):
        earlier.unlink(missing_ok=True)
    started = time.monotonic()
    try:
        title = f"{record.title} ({profile.name})"
        error = _execute(lesson, output, values, kernel_environment(profile, build), title, round(60 * cell_minutes))
        record.status = FAILED if error else FINISHED
        record.failure = _describe_failure(error, output) if error else None
    finally:
        record.minutes = round((time.monotonic() - started) / 60, 3)
        write_record(build, record)
    if output.exists():
        shutil.copytree(NOTEBOOKS / "images", build / "images", dirs_exist_ok=True)
        write_html(output)


def _execute(
    lesson: Lesson, output: Path, values: dict[str, Any], environment: dict[str, str], title: str, limit: int
) -> Exception | None:
    """Run the notebook in its own folder with this Python, `limit` seconds a cell; the error that stopped it, if any."""
    for name in ("papermill", "traitlets", "nbclient", "blib2to3"):  # no learner can act on what they say
        logging.getLogger(name).setLevel(logging.CRITICAL)
    for module in ("papermill", "nbformat", "nbclient", "nbconvert", "jupyter_client", "zmq", "traitlets"):
        warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
    import papermill

    try:
        papermill.execute_notebook(
            str(lesson.path),
            str(output),
            parameters=values,
            kernel_name="python3",
            language="python",
            cwd=str(lesson.path.resolve().parent),
            execution_timeout=limit,
            kernel_manager_class=_kernel_manager(environment),
            progress_bar={"desc": title, "disable": None},
        )
    except Exception as error:  # whatever a cell or its process can raise: it becomes the record's failure
        return error
    return None


def _kernel_manager(environment: dict[str, str]) -> type:
    """A kernel manager that always starts this very Python, whatever kernels the home folder has."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class CourseKernelManager(AsyncKernelManager):
        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(**get_kernel_dict(["--log-level=50"]), env=environment)  # a cell's own errors still show

    return CourseKernelManager


def _describe_failure(error: Exception, output: Path) -> dict[str, str]:
    """Class, advice, error and cell of what stopped a lesson."""
    import nbformat

    name, message = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    kind, advice = classify(name, message)
    place = ""
    for cell in nbformat.read(output, as_version=4).cells if output.exists() else []:
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time"):  # the last that began
            lines = [line.strip() for line in cell.source.splitlines()]
            code = next((line for line in lines if line and not line.startswith(("#", "%"))), "")
            place = f"[{cell.execution_count or '*'}]: {code[:100]}"
    return {"class": kind, "advice": advice, "error": f"{name}: {message}".strip().rstrip(":")[:500], "cell": place}


def as_page(notebook: Any) -> Any:
    """The executed notebook, changed to be read as a page: without widgets, its diagrams in `images` beside it."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        else:
            cell.source = cell.source.replace("](../images/", "](images/")  # as a solution has it
    return notebook


def write_html(notebook: Path) -> None:
    """Put the executed notebook beside itself as HTML that needs no network.

    Its diagrams are those in the folder `images` beside it. They are not embedded: nbconvert would then parse each
    piece of HTML alone, and close `<details>` before the text that it folds. Widgets are left out: they need a kernel.
    """
    import nbformat
    from nbconvert import HTMLExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    log = logging.getLogger("course.nbconvert")
    log.setLevel(logging.CRITICAL)
    exporter = HTMLExporter(raw_template=HTML_TEMPLATE, log=log)
    exporter.register_preprocessor(CoalesceStreamsPreprocessor(enabled=True), enabled=True)  # bars as they ended
    content = as_page(nbformat.read(notebook, as_version=4))
    html, _ = exporter.from_notebook_node(content, {"metadata": {"name": notebook.stem}})
    atomic_write(notebook.with_suffix(".html"), html)


def _summary(record: Record, build: Path) -> str:
    number, minutes = record.lesson[:2], format_minutes(record.minutes)
    if record.expected_minutes:
        minutes += f" (about {format_minutes(record.expected_minutes)} expected)"
    if record.failure:
        return (
            f"{number} failed after {minutes} in cell {record.failure['cell']}\n"
            f"   {record.failure['error']}\n   {record.failure['advice']}\n"
            f"   The notebook up to there: {build / record.lesson}.ipynb"
        )
    memory = memory_text(read_metrics(build, record))
    return f"{number} finished in {minutes}{memory and f', {memory}'}"
