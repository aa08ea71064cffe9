"""A small Hugging Face Hub on 127.0.0.1: serves folders as repositories, and writes down every request.

`folder/models/<org>/<name>` and `folder/datasets/<org>/<name>` are repositories with one commit each. It speaks what
`huggingface_hub` and `datasets` ask for when they read: repository information, file trees, and files with
HEAD and GET. No Xet, no ranges, no uploads, no log-in.
"""

import hashlib
import json
import re
import shutil
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

API = re.compile(r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.+))?)?")
FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
DATE = "2026-01-01T00:00:00.000Z"


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

    def tree(self, below: str, recursive: bool) -> list[dict[str, Any]]:
        """The entries under the folder `below` ("" for all): all files, or files and folders of one level."""
        start, entries = f"{below}/" if below else "", {}
        for name, path in self.files.items():
            if not name.startswith(start):
                continue
            part = name[len(start) :].split("/")
            oid = self.etag(name)[:40]
            if recursive or len(part) == 1:
                entries[name] = {"type": "file", "path": name, "oid": oid, "size": path.stat().st_size}
            else:
                entries[start + part[0]] = {"type": "directory", "path": start + part[0], "oid": oid, "size": 0}
        return list(entries.values())

    def information(self) -> dict[str, Any]:
        """What the Hub says of a repository."""
        sizes = [{"rfilename": name, "size": path.stat().st_size} for name, path in self.files.items()]
        return {"id": self.name, "sha": self.commit, "lastModified": DATE, "tags": [], "siblings": sizes}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    known: dict[tuple[str, str], _Repository]
    lock: threading.Lock

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        if found := FILE.fullmatch(path):
            kind, self.repo, revision, self.file = "datasets" if found[1] else "models", *found.groups()[1:]
        elif found := API.fullmatch(path):
            kind, self.repo, what, revision, below = found.groups()
            self.file = below or ""
        else:
            self.repo, self.file = query.get("dataset", [""])[0], ""  # the dataset viewer's address: there is none here
            return self._end(200 if path == "/" else 404)
        repository = self._repository(kind, self.repo)
        if repository is None:
            return self._end(404, error="RepoNotFound")
        if revision not in (None, "main", repository.commit):
            return self._end(404, error="RevisionNotFound")
        if "/resolve/" in path:
            return self._file(repository, self.file)
        if what != "tree":
            return self._json(repository.information())
        recursive = query.get("recursive", [""])[0].lower() == "true"
        entries = repository.tree(self.file, recursive)
        return self._json(entries) if entries else self._end(404, error="EntryNotFound")

    def log_message(self, *arguments) -> None:
        pass

    def _repository(self, kind: str, name: str) -> _Repository | None:
        folder = self.hub.folder / kind / name
        with self.lock:
            if (kind, name) not in self.known and folder.is_dir():
                self.known[kind, name] = _Repository(name, folder)
            return self.known.get((kind, name))

    def _json(self, content: Any) -> None:
        self._end(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, repository: _Repository, file: str) -> None:
        headers = {"X-Repo-Commit": repository.commit}
        if file not in repository.files:
            return self._end(404, headers=headers, error="EntryNotFound")
        path = repository.files[file]
        headers |= {"ETag": f'"{repository.etag(file)}"', "Content-Length": str(path.stat().st_size)}
        self._begin(200, headers)
        if self.command == "GET":
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, self.wfile)

    def _end(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, error: str = "") -> None:
        headers = {**(headers or {}), "Content-Length": str(len(body))}
        self._begin(status, headers | ({"X-Error-Code": error, "X-Error-Message": error} if error else {}))
        if self.command == "GET":
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
