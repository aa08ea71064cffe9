"""How each lesson went, its headline figures and what it left: the page `build/index.html`, and the book's first page.

The text is Markdown, so that the learner's page and the book are made from the same.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt

from course_utils.files import atomic_write
from course_utils.runner.lessons import FILE_NAME, Lesson, format_minutes
from course_utils.runner.records import Record, memory_text, read_metrics, read_record

HEADLINES = 6  # figures of a lesson; its notebook has all of them
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Course report</title>
<link rel="icon" href="data:,">
<style>
:root {{ color-scheme: light dark; }}
body {{ max-width: 60rem; margin: 0 auto; padding: 1rem; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }}
td, th {{ padding: .2rem .6rem .2rem 0; text-align: left; vertical-align: top; }}
</style>
</head>
<body>
<h1>Course report</h1>
{}
</body>
</html>
"""


def write_report(build: Path) -> Path:
    """Write `index.html` from the records and metrics in `build`; what cannot be read is left out."""
    names = sorted(path.name for path in build.iterdir() if FILE_NAME.fullmatch(f"{path.name}.ipynb"))
    entries = [_entry(build, record) for record in (read_record(build, name) for name in names) if record]
    html = MarkdownIt("commonmark", {"html": False}).enable("table").render(_markdown(entries))
    return atomic_write(build / "index.html", PAGE.format(html))


def book_report(build: Path, lessons: list[Lesson]) -> str:
    """The report on all `lessons`, also those that have not run, in Markdown with links between the book's pages."""
    entries = []
    for lesson in lessons:
        title, record = lesson.header().title, read_record(build, lesson.name)
        entry = _entry(build, record) if record else {"status": "not run"}
        entries.append({**entry, "title": title, "link": lesson.path.name, "links": []})
    return _markdown(entries)


def headlines(metrics: dict[str, Any]) -> list[tuple[str, float, float, float]]:
    """Name, value and interval of the first figures over the whole set (`measure/when`) that have an interval."""
    names = [name for name in metrics if name.count("/") == 1 and {f"{name}/low", f"{name}/high"} <= metrics.keys()]
    values = ((name, *(metrics[name + end] for end in ("", "/low", "/high"))) for name in names[:HEADLINES])
    return [(name.replace("ndcg", "NDCG").replace("/", " "), *numbers) for name, *numbers in values]


def _markdown(lessons: list[dict[str, Any]]) -> str:
    jinja = Environment(  # what is autoescaped for HTML here is escaped for Markdown by `code`
        loader=FileSystemLoader(Path(__file__).parent / "templates"), trim_blocks=True, autoescape=False
    )
    jinja.filters |= {"minutes": format_minutes, "code": _code}
    return jinja.get_template("report.md.j2").render(lessons=lessons)


def _code(text: Any) -> str:
    """Text of any kind as a code span, in which nothing is markup."""
    return "`` " + " ".join(str(text).replace("`", "'").split()) + " ``"


def _entry(build: Path, record: Record) -> dict[str, Any]:
    """What the template shows of one lesson that has a record."""
    content = read_metrics(build, record)
    files = {"read it": ".html", "its notebook": ".ipynb"} | ({"all its figures": "/metrics.json"} if content else {})
    content = content or {"metrics": {}}
    return {
        "record": record,
        "title": record.title,
        "status": record.status,
        "minutes": format_minutes(record.minutes),
        "memory": memory_text(content),
        "day": record.started[:10],
        "precomputed": content["metrics"].get("precomputed"),
        "figures": headlines(content["metrics"]),
        "links": [
            (label, record.lesson + end) for label, end in files.items() if (build / (record.lesson + end)).exists()
        ],
    }
