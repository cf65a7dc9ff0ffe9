"""A small hub of models on this machine: the few endpoints that huggingface_hub asks for, over real HTTP.

GET  /api/models/ID[/revision/REV]        what a model is: its commit and its files
GET  /api/models/ID/tree/COMMIT           its files again
HEAD, GET  /ID/resolve/COMMIT/FILE        a file, in whole or a range of it

POST /api/repos/create                    a new repository
POST /api/validate-yaml                   the metadata of a model card
POST /api/models/ID/preupload/REV         which files are large
POST /ID.git/info/lfs/objects/batch       which of the large files are to be sent, and where
PUT  /lfs/SHA256                          a large file
POST /api/models/ID/commit/REV            a commit
"""

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/(?P<id>[^/]+/[^/]+)(/(?P<what>revision|tree)/(?P<revision>[^/?]+))?")
_FILE = re.compile(r"/(?P<id>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<name>.+)")
_CHUNK = 1 << 14
_LARGE = (".safetensors", ".gguf", ".onnx")


@dataclass
class Hub:
    """What the server has, and what it was asked."""

    models: dict[str, Path] = field(default_factory=dict)
    """Directories by id."""
    gated: dict[str, str] = field(default_factory=dict)
    """Tokens that open a model, by id."""
    url: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request; `GET part` for a range with an end."""
    tokens: set[str] = field(default_factory=set)
    seconds_a_chunk: float = 0.0
    """Of a file; to see one on its way."""
    broken: int = 0
    """Answer everything with this status."""
    writes: dict[str, int] = field(default_factory=dict)
    """Status of the answer to a write, by the end of its path: `create`, `batch`, `commit`, or to `PUT`."""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files of repositories that were written, by id."""
    garbled: bool = False
    """Answer writes with something else than JSON."""
    public: set[str] = field(default_factory=set)
    """Ids of repositories that everybody sees."""
    large: dict[str, bytes] = field(default_factory=dict)
    """Large files by their SHA-256."""

    def sent(self, name: str) -> int:
        """How often a file was sent."""
        return sum(method == "GET" and path.endswith(f"/{name}") for method, path in self.asked)


@contextmanager
def serving(**models: Path) -> Iterator[Hub]:
    """A hub of `someone/NAME` models."""
    hub = Hub({f"someone/{name}": place for name, place in models.items()})

    class Handler(_Handler):
        pass

    Handler.hub = hub
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads it."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_POST(self) -> None:
        path, sent = self._received()
        name = path.rpartition("/")[2] if "/commit/" not in path else "commit"
        if status := self.hub.writes.get(name):
            return self._refuse(status, "")
        if path == "/api/repos/create":
            told = json.loads(sent)
            ident = f"{told['organization']}/{told['name']}" if told.get("organization") else f"someone/{told['name']}"
            if ident in self.hub.repositories:
                return self._json({"error": "You already created it", "url": f"{self.hub.url}/{ident}"}, 409)
            self.hub.repositories[ident] = {}
            if not told.get("private") and told.get("visibility") != "private":
                self.hub.public.add(ident)
            return self._json({"url": f"{self.hub.url}/{ident}", "name": ident, "id": "1"})
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if "/preupload/" in path:
            files = json.loads(sent)["files"]
            modes = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(_LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for f in files
            ]
            return self._json({"files": modes})
        if path.endswith("/info/lfs/objects/batch"):
            objects = json.loads(sent)["objects"]
            for one in objects:
                if one["oid"] not in self.hub.large:
                    one["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}
            return self._json({"transfer": "basic", "objects": objects})
        ident = path.removeprefix("/api/models/").partition("/commit/")[0]
        for line in map(json.loads, sent.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.hub.repositories[ident][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.hub.repositories[ident][value["path"]] = self.hub.large[value["oid"]]
            elif line["key"] == "deletedFile":
                del self.hub.repositories[ident][value["path"]]
        return self._json({"commitUrl": f"{self.hub.url}/{ident}/commit/{COMMIT}", "commitOid": COMMIT})

    def do_PUT(self) -> None:
        path, sent = self._received()
        if status := self.hub.writes.get("PUT"):
            return self._refuse(status, "")
        self.hub.large[path.rpartition("/")[2]] = sent
        return self._json({})

    def _received(self) -> tuple[str, bytes]:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        self.hub.tokens.add(self.headers.get("authorization", "").removeprefix("Bearer "))
        return path, self.rfile.read(int(self.headers.get("content-length", 0)))

    def _json(self, answer: Any, status: int = 200) -> None:
        text = json.dumps(answer).encode() if not self.hub.garbled else b"<html>"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        part = re.fullmatch(r"bytes=\d+-\d+", self.headers.get("range", ""))
        self.hub.asked.append((f"{self.command} part" if part else self.command, path))
        self.hub.tokens.add(token)
        found = _API.fullmatch(path) or _FILE.fullmatch(path)
        place = self.hub.models.get(found["id"]) if found else None
        if self.hub.broken:
            return self._refuse(self.hub.broken, "")
        if found and found.re is _API and found["id"] in self.hub.repositories:
            ident = found["id"]
            answer = {"id": ident, "modelId": ident, "private": ident not in self.hub.public}
            answer["siblings"] = [{"rfilename": name} for name in self.hub.repositories[ident]]
            return self._json({**answer, "sha": COMMIT})
        if found is None or place is None:
            return self._refuse(404, "RepoNotFound")
        if found["revision"] not in (None, "main", "v1", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        opens = self.hub.gated.get(found["id"])
        if opens and token != opens and (found.re is _FILE or found["what"] != "revision"):
            return self._refuse(403, "GatedRepo")
        if found.re is _API:
            return self._tell(place, found["id"], found["what"])
        file = place / found["name"]
        return self._send(file, body=body) if file.is_file() else self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
            self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _tell(self, place: Path, ident: str, what: str | None) -> None:
        files = [(p.relative_to(place).as_posix(), p) for p in sorted(place.rglob("*")) if p.is_file()]
        if what == "tree":
            found: Any = [{"type": "file", "path": n, "size": p.stat().st_size, "oid": _oid(p)} for n, p in files]
        else:
            siblings = [{"rfilename": n, "size": p.stat().st_size, "blobId": _oid(p)} for n, p in files]
            found = {"id": ident, "modelId": ident, "sha": COMMIT, "private": False, "siblings": siblings}
        text = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _send(self, file: Path, *, body: bool) -> None:
        content, start = file.read_bytes(), 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range", ""))
        if wanted:
            start = int(wanted[1])
            content = content[: int(wanted[2]) + 1] if wanted[2] else content
        self.send_response(206 if wanted else 200)
        self.send_header("ETag", f'"{_oid(file)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if not body:
            return
        for at in range(start, len(content), _CHUNK):
            self.wfile.write(content[at : at + _CHUNK])
            time.sleep(self.hub.seconds_a_chunk)


def _oid(file: Path) -> str:
    return hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
