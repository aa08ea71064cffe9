"""The text that OCR reads is kept page by page, by several processes, and with the settings that lesson 04 shows."""

import ast
from types import SimpleNamespace

import pytest

from course_utils.maintain import ocr
from course_utils.paths import SOURCES

FILES = {page: f"{page}.png" for page in "abcde"}


@pytest.fixture
def read(monkeypatch):
    """The images that a pretended engine was given, in order."""
    images = []

    def engine(params):
        return lambda image: images.append(image) or SimpleNamespace(txts=("text", "of", image))

    monkeypatch.setattr(ocr, "RapidOCR", engine)
    return images


def test_two_processes_read_each_page_once(tmp_path, read):
    assert ocr.read_pages(FILES, tmp_path, 1, 2).keys() == {"a", "c", "e"}
    texts = ocr.read_pages(FILES, tmp_path, 2, 2)
    assert read == ["a.png", "c.png", "e.png", "b.png", "d.png"]
    assert texts == {page: f"text of {file}" for page, file in FILES.items()}
    assert list(texts) == list(FILES), "the order is that of the pages, whoever read them"


def test_a_second_run_reads_what_the_first_did_not_end(tmp_path, read):
    ocr.read_pages({"a": "a.png"}, tmp_path)
    log = tmp_path / "1-of-1.jsonl"
    log.write_text(log.read_text(encoding="utf-8") + '\n["b", "text of', encoding="utf-8")
    assert ocr.read_pages(FILES, tmp_path)["b"] == "text of b.png"
    assert read == [f"{page}.png" for page in "abcde"]
    ocr.read_pages(FILES, tmp_path, 2, 3)
    assert len(read) == 5


def test_lesson_04_shows_the_settings():
    tree = ast.parse((SOURCES / "04_measure_retrieval.py").read_text(encoding="utf-8"))
    shown = next(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "settings"
    )
    pairs = zip(shown.keys, shown.values, strict=True)
    values = {key.value: ast.literal_eval(value) for key, value in pairs if not key.value.startswith("EngineConfig")}
    assert values == ocr.SETTINGS
