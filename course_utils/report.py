"""The report in `build/index.html`: one file that opens anywhere, without a network."""

import base64
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from course_utils.errors import CourseError
from course_utils.files import atomic_write
from course_utils.lessons import FILE_NAME
from course_utils.records import FINISHED, Record, read_record

TEMPLATES = Path(__file__).parent / "templates"


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

    def overall(self, when: str) -> Score | None:
        return self.rows.get("", {}).get(when)


def write_report(build: Path) -> Path:
    """Write `index.html` from the records and metrics in `build`; what cannot be read is left out."""
    build = Path(build)
    cards = [_card(build, record) for record in _records(build)]
    jinja = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"number": format_number, "minutes": format_minutes, "plain": plain_name}
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
            "metrics": {str(name): value for name, value in content["metrics"].items() if isinstance(value, (int, float))},
            "figures": {str(name): {"path": str(figure["path"]), "alt": str(figure["alt"])}
                        for name, figure in content.get("figures", {}).items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def tabulate(metrics: dict[str, float]) -> tuple[list[Measure], dict[str, float]]:
    """Sort `measure/when[/slice][/low|/high]` into measures, and names without a slash into plain counts."""
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
        when, part = parts[1], "/".join(parts[2:])
        if when not in measure.whens:
            measure.whens.append(when)
        score = Score(value, metrics.get(f"{name}/low"), metrics.get(f"{name}/high"))
        measure.rows.setdefault(part, {})[when] = score
    for measure in measures.values():
        measure.rows = dict(sorted(measure.rows.items(), key=lambda row: row[0] != ""))
    return list(measures.values()), counts


def headline(measures: list[Measure]) -> dict[str, Any] | None:
    """Before, after, gain and the share of the error that went, for the first measure that has them."""
    for measure in measures:
        before, after = measure.overall("before"), measure.overall("after")
        if before and after:
            gain = measure.overall("gain") or Score(after.value - before.value)
            error_cut = 100 * (after.value - before.value) / (1 - before.value) if before.value < 1 else None
            return {"measure": measure.name, "before": before, "after": after, "gain": gain, "error_cut": error_cut}
    return None


def format_number(value: float | None) -> str:
    """3 decimals for scores, none for large figures, separators for counts; a dash for nothing."""
    if value is None:
        return "–"
    text = f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:.3f}"
    return text.replace("-", "−")


def format_minutes(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value * 60:.0f} s" if value < 1 else f"{value:.1f} min"


def plain_name(name: str) -> str:
    """A metric's name for people: `ndcg@10` as NDCG@10, `unseen-country` as unseen country."""
    return name.replace("ndcg", "NDCG").replace("mrr", "MRR").replace("-", " ").replace("_", " ") or "all"


def _records(build: Path) -> list[Record]:
    records = []
    for folder in sorted(path for path in build.iterdir() if path.is_dir() and FILE_NAME.fullmatch(f"{path.name}.ipynb")):
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
    figures = sorted(content["figures"].items(), key=lambda item: item[0] != "before_after")
    return {
        "record": record,
        "started": datetime.fromisoformat(record.started).strftime("%d %B %Y, %H:%M"),
        "memory": content["peak_memory_mib"],
        "headline": headline(measures),
        "measures": measures,
        "counts": counts,
        "figures": [{"name": name, "alt": figure["alt"], "uri": uri}
                    for name, figure in figures if (uri := _data_uri(build / record.lesson / figure["path"]))],
        "links": [(label, file) for label, file in (("Read it", f"{record.lesson}.html"), ("Notebook", f"{record.lesson}.ipynb"))
                  if (build / file).exists()],
    }


def _data_uri(path: Path) -> str | None:
    try:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return None
