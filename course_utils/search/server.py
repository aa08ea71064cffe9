"""HTTP around the engine: one page, a few addresses, bad input answered with a sentence. On 127.0.0.1 only."""

import errno
import io
import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from PIL import Image, ImageOps
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from course_utils.errors import CourseError
from course_utils.search.engine import Engine, Found, Refused

HOST = "127.0.0.1"  # this machine only: the server has no passwords
WORDS = 300  # characters of a query at most
UPLOAD = 8 * 2**20  # bytes of an image at most
PIXELS = 25_000_000  # of an image at most
FORMATS = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
FILES = Path(__file__).parent / "page"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
# What to say about a parameter, never repeating what was sent.
SENTENCES = {
    "query": f"Write a query of 1 to {WORDS} characters.",
    "model": "Choose a model: before or after.",
    "fuse": "Give fuse as true or false.",
    "rerank": "Give rerank as true or false.",
    "count": "Ask for 1 to 20 pages.",
}
STATUSES = {
    404: "There is nothing at this address: open the first page.",
    405: "This address takes GET for words and POST for an image.",
}


class Options(BaseModel):
    """What can be said of a search with an image."""

    model_config = {"extra": "forbid"}
    model: Literal["before", "after"] = "before"
    count: Annotated[int, Query(ge=1, le=20)] = 5


class Asked(Options):
    """What can be said of a search with words."""

    query: Annotated[str, Query(min_length=1, max_length=WORDS)]
    fuse: bool = False
    rerank: bool = False


def create_app(engine: Engine) -> FastAPI:
    """The application. Functions without `async` run in a pool of threads, so one slow search stops nobody else."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    held = app.state  # FastAPI keeps the functions below for as long as the process lives, and must not keep the engine
    held.engine = engine

    @app.middleware("http")
    async def guard(request: Request, answer) -> Response:
        # A page of another site can have its name point to 127.0.0.1; the name then stands in this header.
        if request.url.hostname not in (HOST, "localhost"):
            response = _sentence("Open this page as http://127.0.0.1 on the machine where it runs.", 421)
        else:
            response = await answer(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        return _sentence(str(error), error.status)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        name = str(error.errors()[0]["loc"][-1])
        return _sentence(SENTENCES.get(name, f"Use these parameters only: {', '.join(SENTENCES)}."), 422)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        return _sentence(STATUSES.get(error.status_code, "This request cannot be answered."), error.status_code)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _sentence("The server failed; its window says why.", 500)

    @app.get("/")
    def page() -> Response:
        return FileResponse(FILES / "index.html")

    @app.get("/page.js")
    def script() -> Response:
        return FileResponse(FILES / "page.js")

    @app.get("/page.css")
    def style() -> Response:
        return FileResponse(FILES / "page.css")

    @app.get("/api/about")
    def about() -> dict[str, Any]:
        models = {name: name in held.engine.embed for name in held.engine.pages}
        return {
            "pages": len(held.engine.corpus.corpus),
            "models": models,
            "fuse": held.engine.texts is not None,
            "rerank": held.engine.judge is not None,
            "examples": list(held.engine.examples[:200]),
        }

    @app.get("/api/search")
    def search(asked: Annotated[Asked, Query()]) -> dict[str, Any]:
        words = read_words(asked.query)
        return _answer(held.engine, held.engine.search(words, asked.model, asked.fuse, asked.rerank, asked.count))

    @app.post("/api/search")
    async def search_image(request: Request, options: Annotated[Options, Query()]) -> dict[str, Any]:
        image = await read_image(request)
        found = await run_in_threadpool(held.engine.search, image, options.model, count=options.count)
        return _answer(held.engine, found)

    @app.get("/api/vector")
    def vector(asked: Annotated[Asked, Query()]) -> list[float]:
        return held.engine.vector(read_words(asked.query), asked.model).tolist()

    @app.post("/api/vector")
    async def vector_of_image(request: Request, options: Annotated[Options, Query()]) -> list[float]:
        image = await read_image(request)
        return (await run_in_threadpool(held.engine.vector, image, options.model)).tolist()

    @app.get("/api/pages/{page_id:path}")
    def page_image(page_id: str) -> Response:
        if page_id not in held.engine.corpus.corpus:  # a name that is looked up, never a path that is opened
            raise Refused("There is no such page in the collection.", 404)
        if page_id in held.engine.corpus.paths:
            return FileResponse(held.engine.corpus.paths[page_id])
        content = io.BytesIO()
        held.engine.image(page_id).save(content, "PNG")
        return Response(content.getvalue(), media_type="image/png")

    return app


def read_words(query: str) -> str:
    """The query, its spaces tidied. Raises Refused for no words, unprintable characters and marks."""
    words = " ".join(query.split())
    if not words:
        raise Refused(SENTENCES["query"], 422)
    if not words.isprintable() or "\ufffd" in words:
        raise Refused("The query has characters that cannot be printed: write it in plain words.", 422)
    if any(opened in words for opened in ("</", "<!", "<?", "<|")) or _tag(words):
        # also the marks of images in the model's own language
        raise Refused("The query has markup: write it in plain words, without tags.", 422)
    return words


def _tag(words: str) -> bool:
    return any(words[k + 1 : k + 2].isalpha() for k, letter in enumerate(words) if letter == "<")


async def read_image(request: Request) -> Image.Image:
    """The image in a request's body, RGB. Raises Refused for what is no image, or too large a one."""
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in FORMATS:
        raise Refused("Send the image itself, as image/png, image/jpeg or image/webp.", 415)
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > UPLOAD:
            raise Refused(f"The image is larger than {UPLOAD // 2**20} MB: make it smaller.", 413)
    return await run_in_threadpool(open_image, bytes(content))


def open_image(content: bytes) -> Image.Image:
    """An RGB image from the bytes of a PNG, JPEG or WebP file. Its size is read and checked before its pixels are."""
    too_large = Refused(f"The image has more than {PIXELS // 10**6} million pixels: make it smaller.", 413)
    try:
        with Image.open(io.BytesIO(content), formats=tuple(FORMATS.values())) as image:
            width, height = image.size
            if width * height > PIXELS:
                raise too_large
            if min(width, height) < 32 or max(width, height) > 20 * min(width, height):
                raise Refused("The image needs 32 pixels a side, and may be 20 times as long as wide.", 422)
            return ImageOps.exif_transpose(image).convert("RGB")
    except Refused:
        raise
    except Image.DecompressionBombError:
        raise too_large from None
    except Exception:  # Pillow's decoders raise errors of many kinds
        raise Refused("This is not a whole PNG, JPEG or WebP image: save it again and send that.", 422) from None


def _answer(engine: Engine, found: Found) -> dict[str, Any]:
    hits = [{"page": page, "title": engine.titles.get(page, page), "score": round(s, 4)} for page, s in found.hits]
    return {"hits": hits, "milliseconds": found.milliseconds}


def _sentence(text: str, status: int) -> JSONResponse:
    return JSONResponse({"error": text}, status)


@dataclass(frozen=True)
class Server:
    """A running server: open `address` in a browser; `stop()` ends it and lets go of the engine and its models."""

    address: str
    _server: uvicorn.Server
    _thread: threading.Thread

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._server.config.app.state.engine = None

    def wait(self) -> None:
        """Until it ends; Ctrl+C ends it."""
        try:
            while self._thread.is_alive():
                self._thread.join(0.5)
        except KeyboardInterrupt:
            self.stop()


def start(engine: Engine, port: int = 0) -> Server:
    """Serve the engine in a thread of this process. Port 0 takes any free one. Raises CourseError if it cannot be had."""
    listener = socket.socket()
    if os.name == "posix":  # so that a server can start again at once; elsewhere it would share a taken port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
        raise CourseError(f"Port {port} {why}: give another one, or 0 for any that is free.") from error
    listener.listen(128)  # connections wait until the server is up
    config = uvicorn.Config(
        create_app(engine), log_level="warning", lifespan="off", access_log=False, timeout_keep_alive=300
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    return Server(f"http://{HOST}:{listener.getsockname()[1]}", server, thread)
