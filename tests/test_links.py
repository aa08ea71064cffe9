"""Links between the repository's own pages lead to files and headings that are there; no network is asked."""

import re
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from markdown_it import MarkdownIt

from course_utils.paths import NOTEBOOKS, ROOT, SOLUTIONS

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "data").rglob("README.md"),
    *NOTEBOOKS.glob("*.ipynb"),
    *SOLUTIONS.glob("*.ipynb"),
]


def tokens(path):
    """The markdown tokens of a page, blocks and what stands in them; of a notebook, those of its prose."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for token in MarkdownIt().enable("table").parse(text):
        yield from [token, *(token.children or [])]


def targets(path):
    return [
        token.attrs.get("href") or token.attrs["src"] for token in tokens(path) if token.type in ("link_open", "image")
    ]


def anchors(path):
    """Anchors of a page's headings as GitHub makes them; a notebook's, as JupyterLab does."""
    found = list(tokens(path))
    titles = [after.content for token, after in zip(found, found[1:], strict=False) if token.type == "heading_open"]
    if path.suffix == ".ipynb":
        return {title.replace(" ", "-") for title in titles}
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title)).lower().replace(" ", "-") for title in titles}


def broken(path):
    for target in targets(path):
        parts = urlsplit(target)
        if parts.scheme:
            continue
        there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not there.exists() or not there.is_relative_to(ROOT):
            yield f"{target}: no such file"
        elif parts.fragment and unquote(parts.fragment) not in anchors(there):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(path):
    assert list(broken(path)) == []


def test_a_missing_file_and_a_missing_heading_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# Two *words*, `three`\n[a](#two-words-three) [b](#four) [c](gone.md) ![d](gone.png) `[e](no-link.md)`\n"
        "[f](https://example.org/gone) [g](page.md#two-words-three) [h](../)\n",
        encoding="utf-8",
    )
    assert [line.split(":")[0] for line in broken(page)] == ["#four", "gone.md", "gone.png", "../"]
