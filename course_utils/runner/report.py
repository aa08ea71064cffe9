"""The report in `build/index.html`: one file that opens anywhere, without a network."""

import base64
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup, escape

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.runner.lessons import FILE_NAME
from course_utils.runner.records import FINISHED, Record, read_record

TEMPLATES = Path(__file__).parent / "templates"
COLUMNS = 6  # of figures in a table, so that it fits


@dataclass(frozen=True)
class Score:
    """A figure with its interval, if it has one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass
class Measure:
    """One measure as a table: `rows[slice][when]` is a Score; the slice "" is all of it."""

    name: str
    whens: list[str] = field(default_factory=list)
    rows: dict[str, dict[str, Score]] = field(default_factory=dict)


def write_report(build: Path) -> Path:
    """Write `index.html` from the records and metrics in `build`; what cannot be read is left out."""
    build = Path(build)
    cards = [_card(build, record) for record in _records(build)]
    jinja = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {
        "number": format_number,
        "range": format_range,
        "minutes": format_minutes,
        "percent": format_percent,
        "plain": plain_name,
        "heading": heading,
        "sentence": sentence,
    }
    page = jinja.get_template("report.html.j2").render(
        cards=cards,
        finished=sum(card["record"].status == FINISHED for card in cards),
        minutes=sum(card["record"].minutes or 0 for card in cards),
        memory=max((card["memory"] or 0 for card in cards), default=0),
        written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
    )
    return atomic_write(build / "index.html", page)


def read_metrics(build: Path, record: Record) -> dict[str, Any] | None:
    """The lesson's `metrics.json` if this very run wrote it, else None.

    Keys: `minutes`, `peak_memory_mib` (0 if unknown), `metrics` (name: number), `figures` (name: {path, alt}).
    """
    path = Path(build) / record.lesson / "metrics.json"
    try:
        if path.stat().st_mtime + 1 < datetime.fromisoformat(record.started).timestamp():
            return None
        content = json.loads(path.read_text(encoding="utf-8"))
        return {
            **content,
            "peak_memory_mib": float(content.get("peak_memory_mib") or 0),
            "metrics": {
                str(name): value for name, value in content["metrics"].items() if isinstance(value, (int, float))
            },
            "figures": {
                str(name): {"path": str(figure["path"]), "alt": str(figure["alt"])}
                for name, figure in content.get("figures", {}).items()
            },
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def tabulate(metrics: dict[str, float]) -> tuple[list[Measure], dict[str, float]]:
    """Sort `measure/when[/slice][/low|/high]` into tables, and names without a slash into plain counts."""
    measures: dict[str, Measure] = {}
    counts = {}
    for name, value in metrics.items():
        parts = name.split("/")
        if len(parts) == 1:
            counts[name] = value
            continue
        if parts[-1] in ("low", "high") and len(parts) > 2:
            continue
        measure = measures.setdefault(parts[0], Measure(parts[0]))
        when, part = parts[1], "/".join(parts[2:]).removeprefix("all")
        if when not in measure.whens:
            measure.whens.append(when)
        measure.rows.setdefault(part, {})[when] = _score(metrics, name)
    return [table for measure in measures.values() for table in _split(measure)], counts


def _split(measure: Measure) -> list[Measure]:
    """One table for each group of columns that have slices in common, the whole set's row first, COLUMNS at most.

    Columns of one figure (`gain` apart, which stands beside what it compares) make a list of their own.
    """
    columns = {when: {part: row[when] for part, row in measure.rows.items() if when in row} for when in measure.whens}
    lone = {when for when, column in columns.items() if list(column) == [""] and when != "gain"}
    if lone == columns.keys() - {"gain"}:
        lone = set()
    tables: list[Measure] = []
    for when, column in columns.items():
        table = next(
            (
                table
                for table in tables
                if table.rows.keys() & column.keys()
                and (table.whens[0] in lone) == (when in lone)
                and (when in lone or len(table.whens) < COLUMNS)
            ),
            None,
        )
        if table is None:
            tables.append(table := Measure(measure.name))
        table.whens.append(when)
        for part, score in column.items():
            table.rows.setdefault(part, {})[when] = score
    for table in tables:
        table.rows = dict(sorted(table.rows.items(), key=lambda row: row[0] != ""))
    return tables


def headline(metrics: dict[str, float]) -> dict[str, Any] | None:
    """Before, after, gain and error cut (a share), for the first measure that has a before and an after."""
    for name in metrics:
        measure = name.removesuffix("/before")
        after, before = metrics.get(f"{measure}/after"), metrics[name]
        if name.count("/") == 1 and measure != name and after is not None:
            return {
                "measure": measure,
                "before": _score(metrics, name),
                "after": _score(metrics, f"{measure}/after"),
                "gain": _score(metrics, f"{measure}/gain") or Score(after - before),
                "error_cut": _score(metrics, f"{measure}/error-cut")
                or (Score((after - before) / (1 - before)) if before < 1 else None),
            }
    return None


def _score(metrics: dict[str, float], name: str) -> Score | None:
    if name not in metrics:
        return None
    return Score(metrics[name], metrics.get(f"{name}/low"), metrics.get(f"{name}/high"))


def format_number(value: float | None) -> str:
    """3 decimals for scores, none for large figures, powers of ten for tiny ones; a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 100:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.1e}" if 0 < abs(value) < 0.0005 else f"{value:.3f}"
    return text.replace("-", "−")


def format_range(score: Score) -> str:
    """The interval as `low to high`, a score's bounds with 3 decimals even when tiny; nothing without an interval."""
    if score.low is None or score.high is None:
        return ""
    small = 0.0005 <= abs(score.value) < 100
    return " to ".join(
        f"{bound:.3f}".replace("-", "−") if small else format_number(bound) for bound in (score.low, score.high)
    )


def format_minutes(value: float | None) -> str:
    if value is None:
        return "–"
    if value < 1:
        return f"{value * 60:.0f} s"
    return f"{value:.0f} min" if value >= 10 or value == int(value) else f"{value:.1f} min"


def format_percent(share: float) -> str:
    return f"{100 * share:.0f}%".replace("-", "−")


def plain_name(name: str) -> str:
    """A metric's name for people: `ndcg@10` as NDCG@10, `unseen-country` as unseen country."""
    return name.replace("ndcg", "NDCG").replace("mrr", "MRR").replace("-", " ").replace("_", " ") or "all"


def heading(name: str) -> str:
    """A measure's name over its table, with its unit where the name does not say it."""
    plain = plain_name(name)
    return {"memory": "Memory (MiB)", "p": "p-values"}.get(name, plain[0].upper() + plain[1:])


def sentence(text: str) -> Markup:
    """A sentence with its `commands` set as code; everything else is escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _records(build: Path) -> list[Record]:
    records = []
    for folder in sorted(
        path for path in build.iterdir() if path.is_dir() and FILE_NAME.fullmatch(f"{path.name}.ipynb")
    ):
        try:
            record = read_record(build, folder.name)
        except CourseError:
            continue
        if record:
            records.append(record)
    return records


def _card(build: Path, record: Record) -> dict[str, Any]:
    """What the template shows of one lesson."""
    content = read_metrics(build, record) or {"metrics": {}, "figures": {}, "peak_memory_mib": 0}
    measures, counts = tabulate(content["metrics"])
    precomputed = counts.pop("precomputed", 0)
    top = headline(content["metrics"])
    shown = {"before", "after", "gain"} if top else set()  # as large figures: no table of the same
    measures = [
        table
        for table in measures
        if not (top and table.name == top["measure"] and list(table.rows) == [""] and set(table.whens) <= shown)
    ]
    figures = sorted(content["figures"].items(), key=lambda item: item[0] != "before_after")
    return {
        "record": record,
        "started": datetime.fromisoformat(record.started).strftime("%d %B %Y, %H:%M"),
        "memory": content["peak_memory_mib"],
        "headline": top,
        "precomputed": precomputed,
        "measures": measures,
        "counts": counts,
        "figures": [
            {"name": name, "alt": figure["alt"], "uri": uri}
            for name, figure in figures
            if (uri := _data_uri(build / record.lesson / figure["path"]))
        ],
        "links": [
            (label, file)
            for label, file in (
                ("Read the executed lesson", f"{record.lesson}.html"),
                ("open its notebook", f"{record.lesson}.ipynb"),
            )
            if (build / file).exists()
        ],
    }


def _data_uri(path: Path) -> str | None:
    try:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return None
