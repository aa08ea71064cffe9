"""The search page in a real browser, driven by its keyboard: a query typed, the right page first, at two widths."""

import json
import os
import subprocess
import time

import pytest
from test_report_in_browser import browser  # noqa: F401, a fixture
from test_search_server import HTML, toy_engine

from course_utils import search
from course_utils.profiles import PROFILES

SECONDS = 60
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "ArrowLeft": 37, "ArrowUp": 38}


class Tab:
    """One tab of a headless Chromium, told what to do over a pair of pipes (the DevTools protocol, no port)."""

    def __init__(self, chromium, profile):
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        options = "--headless --no-sandbox --disable-gpu --remote-debugging-pipe --no-first-run"
        command = f'exec "$0" {options} --user-data-dir="$1" about:blank 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, chromium, str(profile)],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._number, self._buffer, self._session, self.errors = 0, b"", None, []
        target = next(t for t in self.tell("Target.getTargets")["targetInfos"] if t["type"] == "page")["targetId"]
        self._session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.tell(f"{domain}.enable")

    def tell(self, method, **parameters):
        """Send a command, and what it returns. What the page complains about meanwhile is kept in `errors`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            event, about = answer.get("method"), answer.get("params", {})
            if event == "Runtime.exceptionThrown" or (event == "Log.entryAdded" and about["entry"]["level"] == "error"):
                self.errors.append(json.dumps(about))

    def _read(self):
        while b"\0" not in self._buffer:
            part = os.read(self._in, 2**16)
            assert part, "the browser is gone"
            self._buffer += part
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def open(self, address, width):
        self.tell(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        self.tell("Page.navigate", url=address)
        self.until("document.readyState == 'complete' && document.getElementById('about').textContent.length > 3")

    def value(self, script):
        """What a script in the page gives."""
        return self.tell("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script):
        """Wait for a condition in the page."""
        end = time.monotonic() + SECONDS
        while not self.value(script):
            assert time.monotonic() < end, f"never came true: {script}"
        return True

    def write(self, text):
        self.tell("Input.insertText", text=text)

    def press(self, key):
        about = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        about |= {"text": {"Enter": "\r", " ": " "}[key]} if key in ("Enter", " ") else {}
        self.tell("Input.dispatchKeyEvent", type="keyDown", **about)
        self.tell("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=KEYS[key])

    def close(self):
        os.close(self._out)  # which ends the browser
        os.close(self._in)
        self._process.wait(SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = search.start(toy_engine(tmp_path_factory.mktemp("search")))
    yield server
    server.stop()


@pytest.fixture(params=[390, 1280])
def tab(request, browser, server, tmp_path):  # noqa: F811
    tab = Tab(browser, tmp_path / "profile")
    tab.open(server.address, request.param)
    yield tab
    tab.close()


def hits(tab):
    tab.until("document.querySelectorAll('#hits img').length > 0")
    tab.until("[...document.querySelectorAll('#hits img')].every(image => image.complete && image.naturalWidth)")
    return tab.value("[...document.querySelectorAll('#hits li')].map(item => item.textContent)")


def focused(tab):
    return tab.value("document.activeElement.id || document.activeElement.value")


def test_a_query_is_typed_and_the_right_page_comes_first_without_an_error(tab):
    assert focused(tab) == "query", "one can type at once"
    tab.write("number 3")
    tab.press("Enter")
    assert hits(tab)[0].startswith("1. page-3 (1.0")
    assert "embed" in tab.value("document.getElementById('status').textContent")
    assert tab.value("document.documentElement.scrollWidth <= innerWidth"), "the page is wider than its window"
    assert tab.errors == []


def test_everything_can_be_reached_and_switched_with_the_keyboard(tab):
    tab.write("number 8")
    reached = []
    for _ in range(7):
        tab.press("Tab")
        reached.append(focused(tab))
        if reached[-1] == "after":
            tab.press("ArrowLeft")  # to "before"
        if reached[-1] in ("fuse", "rerank"):
            tab.press(" ")
    assert {"after", "fuse", "rerank", "image", "send"} <= set(reached)
    assert tab.value("[...document.querySelectorAll('input:checked')].map(box => box.id || box.value)") == [
        "before",
        "fuse",
        "rerank",
    ]
    tab.value("document.getElementById('query').focus()")
    tab.press("Enter")
    assert len(hits(tab)) == 5
    status = tab.value("document.getElementById('status').textContent")
    assert "fuse" in status and "rerank" in status and tab.errors == []


def test_what_is_wrong_is_said_and_nothing_becomes_markup(tab):
    tab.press("Enter")
    tab.until("document.getElementById('problem').textContent == 'Write a query first.'")
    tab.write(HTML)
    tab.press("Enter")
    tab.until("document.getElementById('problem').textContent.includes('markup')")
    assert tab.value("document.querySelectorAll('#hits *').length") == 0
    tab.value("document.getElementById('query').value = ''; document.querySelector('[value=before]').checked = true")
    tab.write("number 0")
    tab.press("Enter")
    assert hits(tab)[0].startswith("1. Zero: <b>first</b>"), "a title is text, whatever it holds"
    assert tab.value("document.querySelectorAll('#hits b').length") == 0


def test_an_image_of_one_s_own_finds_its_page(tab, tmp_path):
    from test_search_server import picture

    (tmp_path / "mine.png").write_bytes(picture(shade=7))
    tab.value("document.querySelector('[value=before]').checked = true")
    document = tab.tell("DOM.getDocument")["root"]["nodeId"]
    field = tab.tell("DOM.querySelector", nodeId=document, selector="#image")["nodeId"]
    tab.tell("DOM.setFileInputFiles", nodeId=field, files=[str(tmp_path / "mine.png")])
    tab.value("document.getElementById('send').focus()")
    tab.press("Enter")
    assert hits(tab)[0].startswith("1. page-7") and tab.errors == []


@pytest.mark.slow
def test_the_course_s_own_page_comes_first_on_a_phone(browser, dataset, tmp_path):  # noqa: F811
    engine = search.load_engine(PROFILES["tiny"], tmp_path / "index")
    server = search.start(engine)
    phone = Tab(browser, tmp_path / "profile")
    try:
        phone.open(server.address, 390)
        phone.write(engine.corpus.queries["q0"])
        phone.press("Enter")
        right = engine.titles[min(engine.corpus.relevant["q0"])]
        assert hits(phone)[0].startswith(f"1. {right} (") and phone.errors == []
        assert phone.value("document.documentElement.scrollWidth <= innerWidth")
    finally:
        phone.close()
        server.stop()
