"""A folder of PDFs: good pages are read, everything else gets a sentence, and nothing stops the rest."""

import io
import os
import re
import shutil
import sys
import zlib

import pytest
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from course_utils.documents import reading
from course_utils.documents.reading import read_folder
from course_utils.errors import CourseError

PIXELS = 200 * 280
WORDS = "Arable land and permanent crops of the whole country, in square kilometres"


def pdf(*pages, encrypt=None):
    """A PDF of (width, height, words, rotation) pages, sizes as they are shown, as bytes; the outline has a title for each page with words."""
    stream = io.BytesIO()
    canvas = Canvas(stream, encrypt=encrypt, invariant=1)
    for number, (width, height, words, turn) in enumerate(pages or [(300, 400, WORDS, 0)]):
        canvas.setPageSize((width, height))
        canvas.setPageRotation(turn)
        if words:
            canvas.setFont("Helvetica-Bold", 24)
            canvas.drawString(20, height - 40, "Land use")
            canvas.setFont("Helvetica", 9)
            for line in range(4):
                canvas.drawString(20, height - 70 - 12 * line, words)
            canvas.bookmarkPage(f"p{number}")
            canvas.addOutlineEntry(f"Land use {number}", f"p{number}")
        canvas.showPage()
    canvas.save()
    return stream.getvalue()


def scan():
    """A PDF with an image of stripes and no text."""
    stream, canvas = io.BytesIO(), None
    canvas = Canvas(stream, pagesize=(300, 400))
    stripes = Image.linear_gradient("L").resize((300, 400))
    path = io.BytesIO()
    stripes.save(path, "PNG")
    from reportlab.lib.utils import ImageReader

    canvas.drawImage(ImageReader(path), 0, 0, 300, 400)
    canvas.showPage()
    canvas.save()
    return stream.getvalue()


def by_hand(*objects):
    """A PDF of numbered objects, without the table that says where they are; readers rebuild it."""
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (k, part) for k, part in enumerate(objects, start=1))
    return b"%PDF-1.4\n" + body + b"trailer\n<< /Root 1 0 R /Size 9 >>\n%%EOF\n"


def with_stream(data, filters, page=b""):
    stream = b"<< /Length %d /Filter [%s] >>\nstream\n%s\nendstream" % (len(data), filters, data)
    kids = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    leaf = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 400] /Contents 4 0 R %s >>" % page
    return by_hand(b"<< /Type /Catalog /Pages 2 0 R >>", kids, leaf, stream)


def bomb():
    """A page whose content unpacks twice, to 28 MB of drawing."""
    packed = zlib.compress(zlib.compress(b"0 0 m 9 9 l S\n" * 2_000_000, 9), 9)
    return with_stream(packed, b"/FlateDecode /FlateDecode")


def image_bomb():
    """An image that claims 60,000 x 60,000 pixels in a few bytes."""
    image = (
        b"<< /Type /XObject /Subtype /Image /Width 60000 /Height 60000 /ColorSpace /DeviceRGB /BitsPerComponent 8 "
        b"/Filter /FlateDecode /Length 8 >>\nstream\n" + zlib.compress(b"") + b"\nendstream"
    )
    content = b"<< /Length 30 >>\nstream\nq 300 0 0 400 0 0 cm /X Do Q   \nendstream"
    leaf = (
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 400] /Contents 4 0 R "
        b"/Resources << /XObject << /X 5 0 R >> >> >>"
    )
    kids = b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"
    return by_hand(b"<< /Type /Catalog /Pages 2 0 R >>", kids, leaf, content, image)


def claims(count):
    kids = b"<< /Type /Pages /Kids [3 0 R] /Count %d >>" % count
    leaf = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 400] >>"
    return by_hand(b"<< /Type /Catalog /Pages 2 0 R >>", kids, leaf)


GOOD = pdf()
BROKEN = {  # file name: content, and words of the sentence
    "no bytes.pdf": (b"", "no bytes"),
    "only a head.pdf": (b"%PDF-1.7\n", "damaged"),
    "truncated early.pdf": (GOOD[:300], "damaged"),
    "noise.pdf": (b"%PDF-1.4\n" + os.urandom(5000), "damaged"),
    "picture.pdf": (b"\x89PNG\r\n\x1a\n" + bytes(100), "damaged"),
    "web page.pdf": (b"<html><body>404</body></html>", "damaged"),
    "zeros.pdf": (bytes(4000), "damaged"),
    "password.pdf": (pdf(encrypt=StandardEncryption("secret", ownerPassword="owner")), "password"),
    "pässword für Öl.pdf": (pdf(encrypt=StandardEncryption("geheim", ownerPassword="o", strength=128)), "password"),
    "no pages.pdf": (by_hand(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"), ""),
    "no catalog.pdf": (by_hand(b"<< /Type /Nothing >>"), ""),
    "loop.pdf": (by_hand(b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"), ""),
    "ten thousand pages.pdf": (claims(10_000), ""),
    "two thousand million pages.pdf": (claims(2_000_000_000), ""),
    "nested streams.pdf": (bomb(), ""),
    "image bomb.pdf": (image_bomb(), ""),
    "many filters.pdf": (with_stream(zlib.compress(b"x"), b"/FlateDecode " * 200), ""),
    "empty page.pdf": (pdf((300, 400, "", 0)), "empty"),
    "strip.pdf": (pdf((10, 4000, WORDS, 0)), "strip"),
    "notes.txt": (b"not a PDF", "no PDF"),
}


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A folder of 20 broken files among good ones, read; one more is a folder and one leads nowhere."""
    folder = tmp_path_factory.mktemp("pdfs")
    for name, (content, _) in BROKEN.items():
        (folder / name).write_bytes(content)
    (folder / "a folder.pdf").mkdir()
    if os.name == "posix":
        (folder / "leads nowhere.pdf").symlink_to(folder / "gone")
    (folder / "a good one.pdf").write_bytes(GOOD)
    (folder / "Zürich größer.PDF").write_bytes(pdf((400, 300, WORDS, 90), (300, 400, WORDS, 0)))
    (folder / "wrong ending.dat").write_bytes(pdf((3000, 2000, WORDS, 0)))
    (folder / "zz a copy.pdf").write_bytes(GOOD)
    (folder / "zz scan.pdf").write_bytes(scan())
    return read_folder(folder, tmp_path_factory.mktemp("cache"), PIXELS, page_seconds=6)


def notes_of(read, name):
    return read.notes[read.notes["file"] == name]


def test_there_are_twenty_broken_files():
    assert len(BROKEN) == 20


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_gets_a_sentence_and_no_page(read, name):
    found = notes_of(read, name)
    assert len(found) >= 1 and found["refused"].any()
    for sentence in found["what"]:
        assert sentence.endswith(".") and "Error" not in sentence and "Traceback" not in sentence
    assert BROKEN[name][1] in " ".join(found["what"])
    kept = read.pages[read.pages["file"] == name]
    assert kept["text"].tolist() in ([], [""]), "only a page that can be drawn may be left"


def test_the_good_files_beside_them_are_read_under_plain_names(read):
    ids = set(read.pages.index)
    assert {
        "a-good-one-p0001",
        "zurich-groer-p0001",
        "zurich-groer-p0002",
        "wrong-ending-p0001",
        "zz-scan-p0001",
    } <= ids
    assert all(
        WORDS.split(",")[0] in text for text in read.pages.loc[["a-good-one-p0001", "zurich-groer-p0002"], "text"]
    )


@pytest.mark.parametrize(
    ("name", "words"), [("Zürich größer.PDF", "turned by 90°"), ("wrong ending.dat", "huge (42 x 28 inches)")]
)
def test_a_page_that_is_turned_or_huge_is_kept_with_a_remark(read, name, words):
    found = notes_of(read, name)
    assert not found["refused"].any() and words in found["what"].iloc[0] and found["page"].iloc[0] == "1"


def test_folders_copies_and_links_that_lead_nowhere_get_a_sentence(read):
    assert "folder" in notes_of(read, "a folder.pdf")["what"].item()
    assert "a good one.pdf" in notes_of(read, "zz a copy.pdf")["what"].item()
    if os.name == "posix":
        assert "cannot be read" in notes_of(read, "leads nowhere.pdf")["what"].item()


def test_pages_have_images_of_the_budget_and_titles_and_headings(read):
    page = read.pages.loc["a-good-one-p0001"]
    image = Image.open(page["image"])
    assert 0.95 * PIXELS < image.width * image.height < 1.05 * PIXELS
    assert (page["titles"], page["heading"], page["chapter"], page["scan"]) == (["Land use 0"], "Land use", 1, False)


def test_a_turned_page_is_drawn_as_a_person_sees_it(read):
    turned, upright = (Image.open(read.pages.at[f"zurich-groer-p000{k}", "image"]) for k in (1, 2))
    assert turned.width > turned.height and upright.width < upright.height


def test_a_scan_has_no_text_and_a_larger_image_for_ocr(read):
    page = read.pages.loc["zz-scan-p0001"]
    assert page["scan"] and page["text"] == ""
    assert os.path.exists(page["image"].replace(".png", "-ocr.png"))


def test_what_was_read_is_not_read_again_and_what_is_gone_is_forgotten(tmp_path, monkeypatch):
    folder, cache = tmp_path / "pdfs", tmp_path / "cache"
    folder.mkdir()
    for name, size in (("one.pdf", 300), ("two.pdf", 310)):
        (folder / name).write_bytes(pdf((size, 400, WORDS, 0)))
    first = read_folder(folder, cache, PIXELS)
    (cache / "two" / "vectors.npy").write_bytes(b"of somebody else")
    (folder / "two.pdf").unlink()
    monkeypatch.setattr(reading, "COMMAND", [sys.executable, "-c", "raise SystemExit"])  # nothing can be read now
    again = read_folder(folder, cache, PIXELS)
    assert again.pages.equals(first.pages[first.pages["document"] == "one"])
    assert not (cache / "two").exists() and not len(again.notes)


@pytest.mark.parametrize(
    ("command", "words", "seconds"),
    [("import time; time.sleep(60)", "takes too long", 0.3), ("raise SystemExit", "too much memory", 30)],
)
def test_a_reader_that_hangs_or_dies_is_stopped_and_named(tmp_path, monkeypatch, command, words, seconds):
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "one.pdf").write_bytes(GOOD)
    monkeypatch.setattr(reading, "COMMAND", [sys.executable, "-c", command])
    monkeypatch.setattr(reading, "START_SECONDS", seconds)
    with pytest.raises(CourseError, match=words):
        read_folder(tmp_path / "pdfs", tmp_path / "cache", PIXELS, page_seconds=0.3)


def on_page_two(what):
    """The command of a worker in which `what` happens on page 2 of each file."""
    program = (
        "import errno, os, time\nfrom course_utils import pdf_worker\nplain = pdf_worker._page\n"
        "def full(): raise OSError(errno.ENOSPC, 'full')\n"
        f"pdf_worker._page = lambda d, number, *rest: {what} if number == 2 else plain(d, number, *rest)\n"
        "pdf_worker.main()"
    )
    return [sys.executable, "-c", program]


@pytest.fixture
def three_pages(tmp_path):
    (tmp_path / "pdfs").mkdir()
    (tmp_path / "pdfs" / "one.pdf").write_bytes(pdf(*[(300, 400, WORDS, 0)] * 3))
    return tmp_path / "pdfs", tmp_path / "cache", PIXELS


def test_a_page_that_fails_is_left_out_and_the_next_one_is_read(three_pages, monkeypatch):
    """The worker here dies on page 2, as a crash in the library would have it."""
    monkeypatch.setattr(reading, "COMMAND", on_page_two("os._exit(1)"))
    read = read_folder(*three_pages)
    assert list(read.pages["page"]) == [1, 3]
    assert read.notes[["page", "refused"]].values.tolist() == [["2", True]]


def test_a_file_that_takes_too_long_says_that_its_rest_is_left_out_and_how_to_try_again(three_pages, monkeypatch):
    command = reading.COMMAND
    monkeypatch.setattr(reading, "COMMAND", on_page_two("time.sleep(60)"))
    monkeypatch.setattr(reading, "FILE_SECONDS", 2)
    read = read_folder(*three_pages)
    assert list(read.pages["page"]) == [1] and "after 2 are left out" in read.notes["what"].iloc[-1]
    monkeypatch.setattr(reading, "COMMAND", command)
    assert list(read_folder(*three_pages).pages["page"]) == [1], "a slow file was waited for again"
    shutil.rmtree(re.search("remove (.+)[.]$", read.notes["what"].iloc[0])[1])
    assert list(read_folder(*three_pages).pages["page"]) == [1, 2, 3]


def test_a_full_disk_is_no_damaged_page(three_pages, monkeypatch):
    monkeypatch.setattr(reading, "COMMAND", on_page_two("full()"))
    with pytest.raises(OSError, match="No space left"):
        read_folder(*three_pages)


def test_a_reader_that_died_between_two_files_is_started_again(three_pages):
    with reading._Worker(30) as worker:
        file = three_pages[0] / "one.pdf"
        worker.read(file, three_pages[1] / "one", "key", PIXELS)
        worker.process.kill()
        worker.process.wait()
        assert len(worker.read(file, three_pages[1] / "two", "key", PIXELS)["pages"]) == 3


def test_a_document_s_name_does_not_change_when_another_folder_has_a_file_of_that_name(three_pages):
    folder = three_pages[0]
    (folder / "a").mkdir()
    (folder / "a" / "one.pdf").write_bytes(pdf((310, 400, WORDS, 0)))
    found = read_folder(*three_pages).pages
    assert found.loc["one-p0001", "file"] == "one.pdf" and found.loc["a-one-p0001", "file"] == "a/one.pdf"


def test_the_same_words_on_pages_in_a_row_are_said_once():
    notes = [("3", True, "is damaged."), ("4", True, "is damaged."), ("6", True, "is damaged."), ("", True, "is odd.")]
    assert reading._joined(notes) == [("3–4", True, "is damaged."), ("6", True, "is damaged."), ("", True, "is odd.")]


def test_a_missing_or_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(CourseError, match="FOLDER"):
        read_folder(tmp_path / "nowhere", tmp_path / "cache", PIXELS)
    with pytest.raises(CourseError, match="no PDF"):
        read_folder(tmp_path, tmp_path / "cache", PIXELS)
