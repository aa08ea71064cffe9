"""The search server: right answers, many clients at once, and a sentence for whatever is wrong with a request."""

import gc
import http.client
import io
import json
import re
import struct
import weakref
import zlib
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from urllib.parse import quote, urlencode

import numpy as np
import pytest
from PIL import Image

from course_utils import search
from course_utils.corpus import Corpus
from course_utils.dataset import page_table
from course_utils.errors import CourseError
from course_utils.profiles import PROFILES
from course_utils.search.engine import RANK_SHIFT, Engine
from course_utils.search.server import PIXELS, UPLOAD, WORDS

PNG = {"Content-Type": "image/png"}
IDS = [f"page-{k}" for k in range(30)]


def words_to_vector(query):
    """A number in the query is the page that it wants; an image wants the page of its grey level."""
    wanted = int(re.search(r"\d+", query)[0]) if isinstance(query, str) else query.getpixel((0, 0))[0]
    return np.eye(32, dtype=np.float32)[wanted] + 0.001 * np.arange(32, dtype=np.float32)


def toy_engine(folder, **parts):
    """Thirty grey pages; the text model knows only the even ones, and the judge prefers the last."""
    shades = {page: Image.new("RGB", (64, 80), (k, k, k)) for k, page in enumerate(IDS)}
    first = folder / "page-0.png"
    shades["page-0"].save(first)
    corpus = Corpus({}, shades | {"page-0": str(first)}, {}, {"page-0": str(first)})
    vectors = np.eye(32, dtype=np.float32)[:30]
    parts = {
        "pages": {"before": vectors, "after": vectors},
        "embed": {"before": words_to_vector},
        "known": {"after": {"number 3": vectors[3]}},
        "texts": (IDS[::2], vectors[::2], words_to_vector),
        "judge": lambda query, pages: np.arange(len(pages), dtype=float),
        "weight": 100.0,
        "titles": {"page-0": "Zero: <b>first</b>"},
        "examples": ["number 3"],
    } | parts
    return Engine(folder / "index", corpus, **parts)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = search.start(toy_engine(tmp_path_factory.mktemp("search")))
    yield server
    server.stop()


def ask(server, path, method="GET", body=None, headers=None):
    """Status, headers and body of one request, sent as it is."""
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def found(server, **asked):
    status, _, body = ask(server, "/api/search?" + urlencode(asked))
    assert status == 200, body
    return [hit["page"] for hit in json.loads(body)["hits"]]


def picture(width=64, height=80, shade=7, kind="PNG"):
    content = io.BytesIO()
    Image.new("RGB", (width, height), (shade, shade, shade)).save(content, kind)
    return content.getvalue()


def claimed(width, height):
    """A small PNG file that says that it is this large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# --- answers ---


def test_the_right_page_comes_first_with_its_score_and_the_time_of_each_stage(server):
    status, headers, body = ask(server, "/api/search?query=number+7&count=3")
    answer = json.loads(body)
    assert (status, len(answer["hits"]), answer["hits"][0]["page"]) == (200, 3, "page-7")
    assert 0.9 < answer["hits"][0]["score"] <= 1 and set(answer["milliseconds"]) == {"embed", "search"}
    assert "script-src 'self'" in headers["Content-Security-Policy"]


def test_without_the_finetuned_model_its_known_queries_are_answered_and_others_say_what_to_do(server):
    assert found(server, query="number 3", model="after")[0] == "page-3"
    status, _, body = ask(server, "/api/search?query=number+4&model=after")
    assert status == 409 and "course run 07" in json.loads(body)["error"]


def test_fusion_lifts_what_both_lists_have_and_its_scores_are_sums_of_reciprocal_ranks(server):
    answer = json.loads(ask(server, "/api/search?query=number+8&fuse=true")[2])
    assert answer["hits"][0] == {"page": "page-8", "title": "page-8", "score": round(2 / (RANK_SHIFT + 1), 4)}
    assert "fuse" in answer["milliseconds"]


def test_reranking_orders_the_first_twenty_by_both_scores(server):
    plain = found(server, query="number 8", count=20)
    assert found(server, query="number 8", rerank="true", count=20) == plain[::-1]


def test_an_image_is_a_query_too(server):
    for kind in ("PNG", "JPEG", "WEBP"):
        headers = {"Content-Type": f"image/{kind.lower()}"}
        status, _, body = ask(server, "/api/search", "POST", picture(kind=kind), headers)
        assert status == 200 and json.loads(body)["hits"][0]["page"] == "page-7"


def test_pages_are_given_as_images_whether_they_are_files_or_not(server):
    for page, shade in (("page-0", 0), ("page-9", 9)):
        status, headers, body = ask(server, f"/api/pages/{page}")
        assert status == 200 and headers["Content-Type"] == "image/png"
        assert Image.open(io.BytesIO(body)).getpixel((0, 0)) == (shade,) * 3


def test_a_vector_is_that_of_the_engine(server):
    vector = np.array(json.loads(ask(server, "/api/vector?query=number+7")[2]))
    expected = words_to_vector("number 7")
    assert np.allclose(vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert np.allclose(vector, json.loads(ask(server, "/api/vector", "POST", picture(), PNG)[2]))


# --- bad input ---


def get(query, **more):
    return ("/api/search?" + urlencode({"query": query} | more), "GET", None, None)


def post(body, kind="image/png", **more):
    return ("/api/search?" + urlencode(more), "POST", body, {"Content-Type": kind})


HTML = "<script>alert(1)</script>"
BAD = {
    "no query": ("/api/search", "GET", None, None),
    "an empty query": get(""),
    "only spaces": get("   \t  "),
    "too long": get("a" * (WORDS + 1)),
    "much too long": get("word " * 4000),
    "a null character": get("chad\0inflation"),
    "a control character": get("chad \x1b[31m inflation"),
    "bytes that are no text": ("/api/search?query=%ff%fe", "GET", None, None),
    "HTML": get(HTML),
    "an image tag": get('pages <img src=x onerror="alert(1)">'),
    "a mark of the model's own language": get("<|vision_start|><|image_pad|><|vision_end|>"),
    "an unknown model": get("number 1", model="gpt"),
    "HTML as model": get("number 1", model=HTML),
    "fuse of the wrong type": get("number 1", fuse="perhaps"),
    "rerank of the wrong type": get("number 1", rerank=HTML),
    "no pages": get("number 1", count=0),
    "fewer than no pages": get("number 1", count=-5),
    "too many pages": get("number 1", count=10**9),
    "pages in words": get("number 1", count="ten"),
    "HTML as a parameter's name": get("number 1", **{HTML: 1}),
    "an unknown parameter": get("number 1", sort="asc"),
    "an image and fusion": post(picture(), fuse="true"),
    "text as image": post(b"hello", "image/png"),
    "HTML as image": post(HTML.encode(), "text/html"),
    "no image": post(b""),
    "half an image": post(picture(600, 600)[:200]),
    "a GIF": post(picture(kind="GIF"), "image/gif"),
    "a GIF under another name": post(picture(kind="GIF")),
    "an SVG": post(f"<svg xmlns='http://www.w3.org/2000/svg'>{HTML}</svg>".encode(), "image/svg+xml"),
    "100 megapixels": post(claimed(10_000, 10_000)),
    "10,000 megapixels": post(claimed(100_000, 100_000)),
    "too many bytes": post(b"\x89PNG" + b"\0" * UPLOAD),
    "an image of one pixel": post(picture(1, 1)),
    "an image that is a line": post(picture(4000, 32)),
    "a page that is not there": ("/api/pages/page-99", "GET", None, None),
    "a path upwards": ("/api/pages/../../../../etc/passwd", "GET", None, None),
    "an encoded path upwards": ("/api/pages/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "GET", None, None),
    "a path with backslashes": ("/api/pages/..%5c..%5cwindows%5cwin.ini", "GET", None, None),
    "an absolute path": ("/api/pages//etc/passwd", "GET", None, None),
    "a page's name with a null": ("/api/pages/page-0%00.png", "GET", None, None),
    "HTML as a page": ("/api/pages/" + quote(HTML), "GET", None, None),
    "a path upwards from the page": ("/../engine.py", "GET", None, None),
    "an address that is not there": ("/" + quote(HTML), "GET", None, None),
    "another method": ("/api/search?query=number+1", "DELETE", None, None),
    "another host": ("/api/search?query=number+1", "GET", None, {"Host": "evil.example"}),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_a_sentence_and_nothing_of_it_comes_back(server, name):
    status, headers, body = ask(server, *BAD[name])
    text = body.decode()
    assert 400 <= status < 500, text
    assert headers["Content-Type"] == "application/json" and headers["X-Content-Type-Options"] == "nosniff"
    assert re.fullmatch(r"[A-Z][^<>\n]{15,200}\.", json.loads(text)["error"]), text
    assert not re.search(r"[<>]|Traceback|File \"|etc.passwd|alert", text)


def test_there_are_thirty_kinds_of_bad_input_at_least():
    assert len(BAD) >= 30 and len({str(request) for request in BAD.values()}) == len(BAD)
    assert PIXELS < 100_000_000


def test_signs_that_are_no_markup_may_be_asked_for(server):
    assert found(server, query="growth > 5 % and < 9 %, page 5")


def test_the_server_still_answers_after_all_that(server):
    assert found(server, query="number 7")[0] == "page-7"


def test_a_fault_of_ours_says_so_and_shows_no_traceback(tmp_path):
    def broken(query):
        raise RuntimeError("secret")

    server = search.start(toy_engine(tmp_path, embed={"before": broken}))
    status, _, body = ask(server, "/api/search?query=number+1")
    server.stop()
    assert status == 500 and "secret" not in body.decode() and "Traceback" not in body.decode()
    assert json.loads(body)["error"].endswith(".")


def test_a_taken_port_is_said_in_one_sentence(server):
    with pytest.raises(CourseError, match="taken"):
        search.start(None, int(server.address.rsplit(":", 1)[1]))


def test_a_server_that_stopped_holds_no_engine_whose_models_would_stay_in_memory(tmp_path):
    engine = toy_engine(tmp_path)
    server, held = search.start(engine), weakref.ref(engine)
    found(server, query="7")
    server.stop()
    del engine, server
    gc.collect()
    assert held() is None


def test_it_listens_on_this_machine_only(server):
    assert server.address.startswith("http://127.0.0.1:")


# --- the course's own pages ---


def test_a_page_on_which_ocr_read_nothing_is_left_out_of_fusion(dataset, monkeypatch):
    table = page_table(PROFILES["tiny"])
    nothing_read, *others = table[table["split"] == "test"].index
    read = dict.fromkeys(others, "words") | {nothing_read: " "}
    monkeypatch.setattr("course_utils.search.load.ocr_texts", lambda: read)
    assert list(search.page_texts(PROFILES["tiny"]).index) == others


# --- many at once ---


def crowd(server, paths, clients=32):
    """Statuses and seconds of all requests, sent by this many clients at once."""

    def one(path):
        began = perf_counter()
        status, _, _ = ask(server, path)
        return status, perf_counter() - began

    with ThreadPoolExecutor(clients) as pool:
        return zip(*pool.map(one, paths), strict=True)


def test_thirty_two_clients_get_their_own_answers(server):
    with ThreadPoolExecutor(32) as pool:
        wanted = [k % 30 for k in range(200)]
        first = pool.map(lambda k: found(server, query=f"number {k}", fuse=bool(k % 2))[0], wanted)
        assert list(first) == [f"page-{k}" for k in wanted]


@pytest.mark.slow
def test_the_course_s_own_models_answer_a_thousand_requests_of_thirty_two_clients(dataset, tmp_path):
    engine = search.load_engine(PROFILES["tiny"], tmp_path / "index")
    server = search.start(engine)
    try:
        queries = [engine.examples[k % len(engine.examples)] for k in range(1000)]
        paths = [
            "/api/search?" + urlencode({"query": q, "model": ("before", "after")[k % 2]}) for k, q in enumerate(queries)
        ]
        statuses, seconds = crowd(server, paths)
        assert set(statuses) == {200}
        print(f"95% of the answers came within {np.percentile(seconds, 95):.2f} s")
        right = {query: next(iter(engine.corpus.relevant[q])) for q, query in engine.corpus.queries.items()}
        top = [found(server, query=q, model="after")[0] == right[q] for q in engine.examples[:50]]
        assert np.mean(top) > 0.9
        assert found(server, query=engine.examples[0], fuse="true", rerank="true")
    finally:
        server.stop()
