"""The book of all lessons: what a page shows, and in a real browser that it is found, read and reached."""

import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from nbformat.v4 import new_output
from test_report_in_browser import browser, fits, opened  # noqa: F401  (a fixture)
from test_runner import a_record

from course_utils.maintain.book import book_page, make_book
from course_utils.paths import NOTEBOOKS, ROOT, SOLUTIONS
from course_utils.runner.lessons import find_lessons
from course_utils.runner.records import write_record

LESSON = find_lessons(NOTEBOOKS, ["07"])[0]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
TABLE = "<table border='1'><thead><tr><th>query</th><th>NDCG@10</th></tr></thead><tbody><tr><td>a</td><td>1</td></tr></tbody></table>"
AXE = ROOT / "build" / "axe" / "node_modules" / "axe-core" / "axe.min.js"  # npm install --prefix build/axe axe-core
RUN_AXE = """<style>* { transition: none !important }</style><script src="axe.min.js"></script><script>
document.documentElement.dataset.mode = document.documentElement.dataset.theme = "THEME";
addEventListener("load", () => axe.run({preload: false}).then(result => {
  const pre = document.createElement("pre");
  pre.id = "faults";
  pre.textContent = JSON.stringify(result.violations.map(
    fault => [fault.impact, fault.id, fault.nodes.map(node => node.html.slice(0, 160))]));
  document.body.append(pre);
}));
</script></body>"""


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """What a run of lesson 07 leaves, with an output of every kind that lessons have; the others were not run."""
    build = tmp_path_factory.mktemp("build")
    notebook = nbformat.read(SOLUTIONS / LESSON.path.name, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    code[0].outputs = [
        new_output("stream", name="stderr", text="\rMap:  50%\rMap: 100%"),
        new_output("stream", name="stdout", text="a line of text " * 30),
        new_output("display_data", {"text/html": f"<progress value='3' max='3'></progress>{TABLE}"}),
        new_output("display_data", {"image/png": PIXEL, "text/plain": "<Figure>"}),
    ]
    drawn = next(cell for cell in code if 'run.figure("before_after"' in cell.source)
    drawn.outputs = [new_output("execute_result", {"image/png": PIXEL}, execution_count=1)]
    nbformat.write(notebook, build / LESSON.path.name)
    write_record(build, a_record(lesson=LESSON.name, status="finished", minutes=4.8))
    figure = {"path": "before_after.png", "alt": "Two bars & intervals."}
    metrics = {f"ndcg@10/after{end}": value for end, value in (("", 0.93), ("/low", 0.91), ("/high", 0.95))}
    content = {"peak_memory_mib": 2000.0, "metrics": metrics, "figures": {"before_after": figure}}
    (build / LESSON.name / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    return build


@pytest.fixture(scope="module")
def html(build):
    pytest.importorskip("myst_nb", reason="`make book` installs what makes the book")
    return make_book(build, say=print).parent


class Page(HTMLParser):
    """The links and the ids of a page, and its pictures without alt text."""

    def __init__(self, path):
        super().__init__()
        self.links, self.ids, self.silent = [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.links += [values[name] for name in ("href", "src") if values.get(name)]
        self.ids.add(values.get("id"))
        if tag == "img" and not values.get("alt"):
            self.silent.append(values["src"])


def test_a_figure_has_the_alt_text_that_the_lesson_gave_it_and_solutions_are_folded(build):
    cells = book_page(LESSON, build).cells
    drawn = next(cell for cell in cells if 'run.figure("before_after"' in cell.source)
    assert drawn.metadata["mystnb"]["image"]["alt"] == "Two bars & intervals."
    solved = [cell for cell in cells if cell.cell_type == "code" and "# <solution>" in cell.source]
    assert solved and all(cell.metadata["tags"] == ["hide-input"] for cell in solved)


def test_a_lesson_that_was_not_run_says_so(tmp_path):
    assert "was not run" in book_page(LESSON, tmp_path).cells[1].source


@pytest.mark.slow
def test_the_first_page_has_every_lesson_and_what_its_run_gave(html):
    first = (html / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{lesson.name}.html"' in first for lesson in find_lessons(NOTEBOOKS))
    for words in ("finished", "not run", "4.8 min", "2.1 GB", "0.930", "0.910 to 0.950"):
        assert words in first, words


@pytest.mark.slow
def test_every_link_and_picture_inside_the_book_leads_somewhere_and_nothing_is_loaded_from_outside(html):
    pages = {path: Page(path) for path in html.glob("*.html")}
    for path, page in pages.items():
        assert page.silent == [], path.name
        for target in page.links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert there.exists(), f"{path.name}: {target}"
            if parts.fragment and there in pages:
                assert unquote(parts.fragment) in pages[there].ids, f"{path.name}: {target}"
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r"""<(?:script|img|iframe)\b[^>]*\bsrc=["'](?:https?:)?//[^"']+""", text)
        assert loaded + re.findall(r"""<link rel="stylesheet"[^>]*href=["'](?:https?:)?//[^"']+""", text) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", LESSON.name, "teaching"])
def test_a_page_opens_without_errors_and_fits_a_phone_and_a_laptop(browser, html, tmp_path, name):  # noqa: F811
    page = html / f"{name}.html"
    assert opened(browser, page, tmp_path / "profile")[1] == []
    for width in (390, 1280):
        assert fits(browser, page, tmp_path / "profile", width), width


@pytest.mark.slow
def test_the_search_finds_a_word_of_a_lesson(browser, html, tmp_path):  # noqa: F811
    document, errors = opened(browser, html / "search.html", tmp_path / "profile", "?q=Matryoshka")
    assert errors == []
    assert f"{LESSON.name}.html" in document.split('id="search-results"')[1]


@pytest.mark.slow
@pytest.mark.skipif(not AXE.exists(), reason="install the checker: npm install --prefix build/axe axe-core@4.14.1")
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index", LESSON.name, "teaching", "search"])
def test_a_checker_finds_no_serious_fault_of_accessibility(browser, html, tmp_path, name, theme):  # noqa: F811
    shutil.copy(AXE, html)
    page = html / f"axe-{name}-{theme}.html"
    text = (html / f"{name}.html").read_text(encoding="utf-8")
    page.write_text(text.replace("</body>", RUN_AXE.replace("THEME", theme)), encoding="utf-8")
    document, _ = opened(browser, page, tmp_path / "profile", seconds=60)
    page.unlink()
    faults = json.loads(unescape(re.search(r'<pre id="faults"[^>]*>(.*?)</pre>', document, re.DOTALL)[1]))
    assert [fault for fault in faults if fault[0] in ("serious", "critical")] == []
