"""What lesson 12 keeps beside the PDFs: reports, scans, judgements, rankings, vectors."""

import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from course_utils import documents
from course_utils.documents import reading, store
from course_utils.documents.reports import plan
from course_utils.errors import CourseError


def pages_in(folder, **counts):
    """A table of pages with images, as `read_folder` returns it: document to number of pages."""
    rows = []
    for document, count in counts.items():
        (folder / document).mkdir(parents=True)
        for number in range(1, count + 1):
            image = folder / document / f"p{number:04d}.png"
            Image.new("L", (8, 8), 40 * number).save(image)
            rows.append(
                (f"{document}-p{number:04d}", document, str(image), number == 2, "" if number == 2 else "words")
            )
    table = pd.DataFrame(rows, columns=["id", "document", "image", "scan", "text"])
    return table.set_index("id")


# --- reports ---


@pytest.mark.slow
def test_reports_for_training_share_no_page_and_no_country_with_the_test(dataset):
    from pathlib import Path

    pages, asked, logged = plan(Path(dataset))
    test, train = (pages[pages["split"] == split] for split in ("test", "train"))
    assert len(test) + len(train) == len(pages) and not set(test["country"]) & set(train["country"])
    assert set(asked["page"]) <= set(test.index) and len(asked) > 100
    assert set(logged["page"]) <= set(train.index) and len(logged) > 1000
    assert test["scan"].mean() > 0.1 and train["scan"].mean() > 0.1


# --- scans ---


def test_scans_are_read_once_and_what_is_left_unread_is_counted(tmp_path):
    pages, asked = pages_in(tmp_path, a=3, b=3), []

    def ocr(file):
        asked.append(file)
        return SimpleNamespace(txts=("read", "aloud"))

    some, left = documents.read_scans(pages, ocr, most=1)
    assert (left, len(asked)) == (1, 1) and asked[0].endswith("p0002-ocr.png")
    everything, left = documents.read_scans(pages, ocr)
    assert (left, len(asked)) == (0, 2)
    assert everything["text"].tolist() == ["words", "read aloud", "words"] * 2
    assert pages["text"].tolist() == ["words", "", "words"] * 2, "the table that was given stays as it was"


# --- judgements ---


def test_each_click_is_kept_and_a_judged_pair_is_not_asked_again(tmp_path):
    pages, file = pages_in(tmp_path, a=3), tmp_path / "judgements.csv"
    pairs = [("q, with a comma", page) for page in pages.index]
    box = documents.judge(pairs, pages["image"], file)
    answers, does_not, skip = box.children[1].children
    answers.click()
    assert documents.read_judgements(file) == {pairs[0]: 1}
    skip.click()
    does_not.click()
    assert documents.read_judgements(file) == {pairs[0]: 1, pairs[2]: 0}
    again = documents.judge(pairs, pages["image"], file)
    assert "1 left" in again.children[0].value and pairs[1][1] in again.children[0].value


def test_a_click_keeps_what_another_widget_wrote_meanwhile(tmp_path):
    pages, file = pages_in(tmp_path, a=2), tmp_path / "judgements.csv"
    pairs = [("query", page) for page in pages.index]
    boxes = [documents.judge([pair], pages["image"], file) for pair in pairs]
    for box in boxes:
        box.children[1].children[0].click()
    assert documents.read_judgements(file) == dict.fromkeys(pairs, 1)


@pytest.mark.parametrize("content", ["query,page\na,b\n", "query,page,grade\na,b,maybe\n", "query,page,grade\na,b,7\n"])
def test_a_judgement_file_that_cannot_be_used_says_why(tmp_path, content):
    file = tmp_path / "judgements.csv"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(CourseError, match="grade"):
        documents.read_judgements(file)


def test_the_manual_s_queries_have_a_judged_answer_on_the_page_that_they_name():
    queries = pd.read_csv(documents.MANUAL / "queries.csv")
    judged = documents.read_judgements(documents.MANUAL / "judgements.csv")
    assert len(queries) >= 40 and queries["query"].is_unique
    for row in queries.itertuples():
        assert judged[row.query, f"debmake-doc-en-p{row.page:04d}"] == 1


# --- rankings ---


def test_bm25_ranks_a_page_with_the_rare_word_first_and_leaves_out_pages_without_a_word():
    texts = ["the cat sat", "a cat and a zebra", "nothing here"]
    assert documents.bm25(["a", "b", "c"], texts, ["zebra cat", "submarine"]) == [["b", "a"], []]
    assert documents.bm25(["a"], ["text"], []) == [] and documents.bm25([], [], ["query"]) == [[]]


def test_fusion_prefers_what_both_rank_high():
    assert documents.fuse(["a", "b", "c"], ["c", "b", "d"])[0] in ("b", "c")
    assert documents.fuse(["a", "b"], ["b", "a"]) == ["a", "b"], "equal sums keep the order of ids"


# --- vectors ---


def test_only_documents_without_vectors_are_embedded(tmp_path):
    pages, seen = pages_in(tmp_path, a=2, b=3), []

    def encode(images):
        seen.extend(images)
        return np.ones((len(images), 4)) * len(seen)

    first, count = documents.embed_pages(pages[pages["document"] == "a"], "model", encode)
    assert (first.shape, count) == ((2, 4), 2)
    both, count = documents.embed_pages(pages, "model", encode)
    assert (both.shape, count, len(seen)) == ((5, 4), 3, 5) and (both[:2] == first).all()
    assert documents.embed_pages(pages, "another model", encode)[1] == 5
    file = next(tmp_path.rglob("model.npy"))
    file.write_bytes(file.read_bytes()[:20])
    assert documents.embed_pages(pages, "model", encode)[1] in (2, 3), "half a file was not made again"


def test_a_model_s_mark_changes_with_its_weights(tmp_path):
    marks = set()
    for weights in (b"one", b"two"):
        (tmp_path / "model.safetensors").write_bytes(weights)
        marks.add(documents.mark(str(tmp_path)))
    assert len(marks) == 2 and documents.mark("tiny-qwen3-vl-embedding") not in marks


def test_a_collection_that_nobody_saved_names_the_lesson(tmp_path):
    with pytest.raises(CourseError, match="course run 12"):
        store.load_collection(tmp_path / "none")


def test_reading_pdfs_does_not_wait_for_torch():
    import subprocess

    code = "import sys, course_utils.documents; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=reading.paths.ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
