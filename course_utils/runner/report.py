"""The page `build/index.html`: how each lesson went, its headline figures, and links to what it left."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.runner.lessons import FILE_NAME, format_minutes
from course_utils.runner.records import Record, memory_text, read_metrics, read_record

HEADLINES = 6  # figures of a lesson; its notebook has all of them


@dataclass(frozen=True)
class Figure:
    """One figure and its 95% interval, as text."""

    name: str
    value: str
    interval: str


def write_report(build: Path) -> Path:
    """Write `index.html` from the records and metrics in `build`; what cannot be read is left out."""
    jinja = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True)
    jinja.filters["minutes"] = format_minutes
    lessons = [_lesson(Path(build), record) for record in _records(Path(build))]
    page = jinja.get_template("report.html.j2").render(
        lessons=lessons, written=f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}"
    )
    return atomic_write(Path(build) / "index.html", page)


def headlines(metrics: dict[str, Any]) -> list[Figure]:
    """The first figures over the whole set (`measure/when`) that have an interval (`measure/when/low` and `/high`)."""
    names = [name for name in metrics if name.count("/") == 1 and {f"{name}/low", f"{name}/high"} <= metrics.keys()]
    return [
        Figure(
            name.replace("ndcg", "NDCG").replace("/", " ").replace("-", " "),
            _number(metrics[name]),
            f"{_number(metrics[f'{name}/low'])} to {_number(metrics[f'{name}/high'])}",
        )
        for name in names[:HEADLINES]
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3f}".replace("-", "−")


def _records(build: Path) -> list[Record]:
    records = []
    for folder in sorted(build.iterdir()):
        if FILE_NAME.fullmatch(f"{folder.name}.ipynb"):
            try:
                records.append(read_record(build, folder.name))
            except CourseError:
                continue
    return [record for record in records if record]


def _lesson(build: Path, record: Record) -> dict[str, Any]:
    """What the template shows of one lesson."""
    content = read_metrics(build, record)
    metrics = content["metrics"] if content else {}
    files = (("read it", f"{record.lesson}.html"), ("its notebook", f"{record.lesson}.ipynb"))
    figures = (("all its figures", f"{record.lesson}/metrics.json"),) if content else ()
    return {
        "record": record,
        "started": f"{datetime.fromisoformat(record.started):%d %B %Y, %H:%M}",
        "memory": memory_text(content),
        "precomputed": metrics.get("precomputed"),
        "figures": headlines(metrics),
        "links": [(label, file) for label, file in files + figures if (build / file).exists()],
    }
