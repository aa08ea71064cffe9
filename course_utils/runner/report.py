"""The page `build/index.html`: how each lesson went, its headline figures, and links to what it left."""

from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from course_utils.files import atomic_write
from course_utils.runner.lessons import FILE_NAME, format_minutes
from course_utils.runner.records import Record, memory_text, read_metrics, read_record

HEADLINES = 6  # figures of a lesson; its notebook has all of them


def write_report(build: Path) -> Path:
    """Write `index.html` from the records and metrics in `build`; what cannot be read is left out."""
    jinja = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, trim_blocks=True)
    jinja.filters["minutes"] = format_minutes
    names = sorted(path.name for path in build.iterdir() if FILE_NAME.fullmatch(f"{path.name}.ipynb"))
    records = filter(None, (read_record(build, name) for name in names))
    lessons = [_lesson(build, record) for record in records]
    written = f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}"
    return atomic_write(
        build / "index.html", jinja.get_template("report.html.j2").render(lessons=lessons, written=written)
    )


def headlines(metrics: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Name, value and interval of the first figures over the whole set (`measure/when`) that have an interval."""
    names = [name for name in metrics if name.count("/") == 1 and {f"{name}/low", f"{name}/high"} <= metrics.keys()]
    values = ((name, *(metrics[name + end] for end in ("", "/low", "/high"))) for name in names[:HEADLINES])
    return [(name.replace("ndcg", "NDCG").replace("/", " "), *numbers) for name, *numbers in values]


def _lesson(build: Path, record: Record) -> dict[str, Any]:
    """What the template shows of one lesson."""
    content = read_metrics(build, record) or {"metrics": {}}
    files = {"read it": ".html", "its notebook": ".ipynb", "all its figures": "/metrics.json"}
    return {
        "record": record,
        "memory": memory_text(content),
        "precomputed": content["metrics"].get("precomputed"),
        "figures": headlines(content["metrics"]),
        "links": [
            (label, record.lesson + end) for label, end in files.items() if (build / (record.lesson + end)).exists()
        ],
    }
