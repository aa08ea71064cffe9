"""A small Hugging Face Hub on 127.0.0.1: serves folders as repositories, and writes down every request.

`folder/models/<org>/<name>` and `folder/datasets/<org>/<name>` are repositories with one commit each. It speaks what
`huggingface_hub` and `datasets` ask for when they read: repository information, file trees, `paths-info`, and files with
HEAD, GET and ranges. No Xet, no uploads, no log-in.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from course_utils.files import sha256
from course_utils.local_server import answering

API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(?:/(.+))?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
DATE = "2026-01-01T00:00:00.000Z"
PIECE = 1 << 20
TRUE = ("true", "1")


@dataclass(frozen=True)
class Request:
    """One line of the log. `repo` is `org/name`, "" where no repository was asked for; `file` as in the repository."""

    method: str
    path: str
    status: int
    repo: str = ""
    file: str = ""


@dataclass
class Hub:
    """What is served from `folder`, and `log`, every request so far; `address` is what HF_ENDPOINT is set to."""

    folder: Path
    address: str = ""
    log: list[Request] = field(default_factory=list)

    def repositories(self) -> set[str]:
        """The names that are served: `org/name` of models and data sets."""
        return {f"{path.parent.name}/{path.name}" for path in self.folder.glob("*/*/*") if path.is_dir()}


@dataclass(frozen=True)
class _Repository:
    kind: str
    name: str
    folder: Path

    @cached_property
    def files(self) -> dict[str, Path]:
        return {
            path.relative_to(self.folder).as_posix(): path for path in sorted(self.folder.rglob("*")) if path.is_file()
        }

    @cached_property
    def commit(self) -> str:
        content = json.dumps([[name, self.etag(name)] for name in self.files])
        return hashlib.sha1(content.encode()).hexdigest()

    @cached_property
    def _etags(self) -> dict[str, str]:
        return {name: sha256(path) for name, path in self.files.items()}

    def etag(self, file: str) -> str:
        return self._etags[file]

    def has(self, revision: str) -> bool:
        return revision in ("main", self.commit)

    def entry(self, path: str) -> dict[str, Any] | None:
        """What a tree says of a file or a folder."""
        if path in self.files:
            size, oid = self.files[path].stat().st_size, self.etag(path)
            return {"type": "file", "path": path, "oid": oid[:40], "size": size}
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
        return None

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]] | None:
        """The entries under the folder `below` ("" for all); None where there is no such folder."""
        inside = [name for name in self.files if not below or name.startswith(f"{below}/")]
        if not inside:
            return None
        start = len(below) + 1 if below else 0
        parts = [name[start:].split("/") for name in inside]
        depths = [range(1, len(part) + 1) if recursive else [1] for part in parts]
        paths = dict.fromkeys("/".join(part[:k]) for part, ks in zip(parts, depths, strict=True) for k in ks)
        return [self.entry(f"{below}/{path}" if below else path) for path in paths]

    def information(self, sizes: bool) -> dict[str, Any]:
        """What the Hub says of a repository, with the bytes of every file where `sizes` are asked for."""
        files = [
            {"rfilename": name} | ({"size": path.stat().st_size, "blobId": self.etag(name)[:40]} if sizes else {})
            for name, path in self.files.items()
        ]
        return {
            "_id": self.commit[:24],
            "id": self.name,
            "author": self.name.split("/")[0],
            "sha": self.commit,
            "private": False,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "createdAt": DATE,
            "lastModified": DATE,
            "siblings": files,
        } | ({"modelId": self.name} if self.kind == "models" else {})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    known: dict[tuple[str, str], _Repository]
    lock: threading.Lock

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *arguments) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if found := FILE.fullmatch(path):
            kind, name, revision, file = "datasets" if found[1] else "models", found[2], found[3], found[4]
            self.repo, self.file = name, file
            self._file(self._repository(kind, name), revision, file)
        elif (found := API.fullmatch(path)) and (self.command == "POST") == (found[3] == "paths-info"):
            kind, name, what, revision, below = found.groups()
            self.repo, self.file = name, below or ""
            self._api(self._repository(kind, name), what, revision or "main", below or "", query | parse_qs(body), body)
        else:
            self.repo, self.file = query.get("dataset", [""])[0], ""  # the dataset viewer's address: there is none here
            self._end(200 if path == "/" else 404)

    def _repository(self, kind: str, name: str) -> _Repository | None:
        folder = self.hub.folder / kind / name
        with self.lock:
            if (kind, name) not in self.known and folder.is_dir() and ".." not in name:
                self.known[kind, name] = _Repository(kind, name, folder)
            return self.known.get((kind, name))

    def _api(
        self,
        repository: _Repository | None,
        what: str | None,
        revision: str,
        below: str,
        values: dict[str, list[str]],
        body: str,
    ) -> None:
        if repository is None:
            self._end(404, error="RepoNotFound")
        elif not repository.has(revision):
            self._end(404, error="RevisionNotFound")
        elif what == "tree":
            entries = repository.tree(below, values.get("recursive", ["false"])[0].lower() in TRUE)
            self._end(404, error="EntryNotFound") if entries is None else self._json(entries)
        elif what == "paths-info":
            paths = json.loads(body)["paths"] if body.startswith("{") else values.get("paths", [])
            self._json([entry for path in paths if (entry := repository.entry(path))])
        else:
            self._json(repository.information(values.get("blobs", ["false"])[0].lower() in TRUE))

    def _json(self, content: Any) -> None:
        self._end(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: _Repository | None, revision: str, file: str) -> None:
        if repository is None:
            return self._end(404, error="RepoNotFound")
        if not repository.has(revision):
            return self._end(404, error="RevisionNotFound")
        commit = {"X-Repo-Commit": repository.commit}
        if file not in repository.files:
            return self._end(404, error="EntryNotFound", headers=commit)
        path = repository.files[file]
        size = path.stat().st_size
        first, last, status = 0, size - 1, 200
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last, status = int(asked[1]), min(int(asked[2] or size - 1), size - 1), 206
        if first > last and size:
            return self._end(416, headers={"Content-Range": f"bytes */{size}"})
        headers = commit | {
            "ETag": f'"{repository.etag(file)}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        self._begin(status, headers | {"Content-Length": str(last - first + 1)})
        if self.command == "HEAD":
            return
        with path.open("rb") as stream:
            stream.seek(first)
            left = last - first + 1
            while left and (piece := stream.read(min(PIECE, left))):
                self.wfile.write(piece)
                left -= len(piece)

    def _end(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, error: str = "") -> None:
        headers = {**(headers or {}), "Content-Length": str(len(body))}
        self._begin(status, headers | ({"X-Error-Code": error, "X-Error-Message": error} if error else {}))
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        with self.lock:
            self.hub.log.append(Request(self.command, self.path, status, self.repo, self.file))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serving_hub(folder: Path) -> Iterator[Hub]:
    """A hub of what is in `folder`, on a free port of 127.0.0.1, until the block ends."""
    hub = Hub(Path(folder))
    handler = type("Handler", (_Handler,), {"hub": hub, "known": {}, "lock": threading.Lock()})
    with answering(handler) as hub.address:
        yield hub
