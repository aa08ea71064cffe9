"""The report in a real browser: it opens, its links lead somewhere, and it fits a phone and a laptop."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_runner import a_record

from course_utils.runner.records import write_record
from course_utils.runner.report import write_report
from course_utils.runner.run import write_html

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH = "<script>if (document.documentElement.scrollWidth > innerWidth) console.error('error: too wide')</script>"
LONG = "a-very-long-name-without-a-space-that-a-narrow-window-has-to-break" * 3
NOTEBOOK = """{"cells": [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": "# 07"}],
"metadata": {}, "nbformat": 4, "nbformat_minor": 5}"""


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing = f"Install a browser: none of {', '.join(NAMES)} is here."
        # in CI, Linux must have one: .ci/run installs it
        (pytest.fail if os.environ.get("CI") and sys.platform == "linux" else pytest.skip)(missing)
    return found


def opened(browser: str, page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's document once its scripts have run, and what went wrong on the console."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=3000"]
    command = [browser, *options, f"--user-data-dir={profile}", "--window-size=1400,2000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, [line for line in console if re.search(r"error|failed|refused", line, re.IGNORECASE)]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """What runs of a lesson that ends well and of one that fails leave, with names that fill a line."""
    build = tmp_path_factory.mktemp("build")
    (build / "07_toy.ipynb").write_text(NOTEBOOK, encoding="utf-8")
    write_html(build / "07_toy.ipynb")
    write_record(build, a_record(status="finished", minutes=5.0, parameters={LONG: 1}))
    metrics = ", ".join(f'"{LONG}/{when}{end}": 0.5' for when in ("before", "after") for end in ("", "/low", "/high"))
    (build / "07_toy" / "metrics.json").write_text(f'{{"metrics": {{{metrics}}}}}', encoding="utf-8")
    failure = {"class": "error", "advice": "Look.", "error": LONG, "cell": LONG}
    write_record(build, a_record(lesson="08_broken", status="failed", failure=failure))
    write_report(build)
    return build


def test_the_report_opens_without_errors_and_every_link_leads_somewhere(browser, build, tmp_path):
    document, errors = opened(browser, build / "index.html", tmp_path / "profile")
    assert errors == [] and "finished" in document and "failed" in document
    assert not re.search(r"""(src|href)=["'](?!data:)\w+:""", document), "the report loads something from outside"
    pages = re.findall(r'<a href="([^"]+)"', document)
    assert "07_toy.html" in pages and all((build / page).is_file() for page in pages)
    assert opened(browser, build / "07_toy.html", tmp_path / "profile")[1] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_a_window_of_that_width(browser, build, tmp_path, width):
    report = (build / "index.html").read_text(encoding="utf-8")
    too_wide = f"<body><div style='width: {width + 50}px'>too wide</div></body>"
    for number, (html, expected) in enumerate([(report, 0), (too_wide, 1)]):
        (tmp_path / "inner.html").write_text(html.replace("</body>", f"{WIDTH}</body>"), encoding="utf-8")
        frame = tmp_path / f"{number}.html"  # a frame, since a window of the browser has a least width
        frame.write_text(
            f"<body><iframe src='inner.html' width='{width}' height='1000'></iframe></body>", encoding="utf-8"
        )
        _, errors = opened(browser, frame, tmp_path / "profile")
        assert len(errors) == expected
