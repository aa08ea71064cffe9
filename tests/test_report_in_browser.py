"""The report in a real browser: it opens, its links lead somewhere, and the console stays free of errors."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from test_runner import RECORDS, TINY, write_lesson

from course_utils.runner.run import run_lessons

DRAWS = """
for name in ("a-long-name-of-a-column", "another-one", "one-more"):
    for part in ("all", "scan", "text"):
        run.record_interval(f"ndcg@10/{name}/{part}", 0.5, 0.4, 0.6)
from matplotlib.figure import Figure
run.figure("wide", Figure(figsize=(12, 3)), alt="Nothing.")
run.save()"""
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")


class References(HTMLParser):
    """Collects what a page refers to: links, and everything that it loads."""

    def __init__(self, html: str):
        super().__init__()
        self.links, self.loads = [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or tag == "link":
            self.loads.append(found.get("src") or found.get("href"))


def opened(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's document once its scripts have run, and what went wrong on the console."""
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1400,2000",
            f"--user-data-dir={profile}",
            "--enable-logging=stderr",
            "--virtual-time-budget=3000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in console if re.search(r"error|failed|refused", line, re.IGNORECASE)]


WIDTH = "<script>if (document.documentElement.scrollWidth > innerWidth) console.error('error: wider than its window')</script>"


def test_a_broken_page_is_noticed(tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<html><body><p>here</p><script>no_such_function()</script></body></html>")
    document, errors = opened(page, tmp_path / "profile")
    assert "here" in document and len(errors) == 1 and "no_such_function" in errors[0]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """What runs of a lesson that ends well and of one that fails leave."""
    folder = tmp_path_factory.mktemp("course")
    good = write_lesson(folder / "notebooks", RECORDS + DRAWS)
    bad = write_lesson(folder / "notebooks", "1 / 0", name="08_broken")
    run_lessons([good, bad], TINY, folder / "build", say=lambda text: None)
    return folder / "build"


def test_the_report_opens_without_errors_and_every_link_leads_somewhere(build, tmp_path):
    document, errors = opened(build / "index.html", tmp_path / "profile")
    assert errors == [] and "✓ finished" in document and "✕ failed" in document
    found = References(document)
    assert all(load.startswith("data:") for load in found.loads), "the report loads something from outside"
    pages = {unquote(urlsplit(link).path) for link in found.links if not urlsplit(link).scheme and urlsplit(link).path}
    assert {"07_toy.html", "08_broken.html"} <= pages
    assert [page for page in pages if not (build / page).is_file()] == []
    anchors = {link[1:] for link in found.links if link.startswith("#")}
    assert anchors == {"07_toy", "08_broken"} and all(f'id="{anchor}"' in document for anchor in anchors)
    for page in sorted(page for page in pages if page.endswith(".html")):
        document, errors = opened(build / page, tmp_path / "profile")
        assert errors == [] and "A toy lesson" in document, page


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_a_window_of_that_width(build, tmp_path, width):
    report = (build / "index.html").read_text(encoding="utf-8")
    too_wide = f"<body><div style='width: {width + 50}px'>too wide</div></body>"
    for number, (html, expected) in enumerate([(report, 0), (too_wide, 1)]):
        (tmp_path / "inner.html").write_text(html.replace("</body>", f"{WIDTH}</body>"), encoding="utf-8")
        frame = tmp_path / f"{number}.html"  # a frame, since a window of the browser has a least width
        frame.write_text(f"<body><iframe src='inner.html' width='{width}' height='1000'></iframe></body>")
        _, errors = opened(frame, tmp_path / "profile")
        assert len(errors) == expected
