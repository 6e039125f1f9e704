"""A hub on a real socket: as much of its interface as ``huggingface_hub`` needs to list and download models."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class HubServer:
    """What the hub has, and how it behaves; change it while it runs."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Of the one repository, ``owner/repo``."""
    claimed_bytes: dict[str, int] = field(default_factory=dict)
    """Sizes that the listing gives in place of the real ones."""
    commit: str = COMMIT
    problem: tuple[int, str] | None = None
    """Status and error code of every answer."""
    files_problem: tuple[int, str] | None = None
    """Only of files; a gated repository can be listed by everyone."""
    breaks_after: int | None = None
    """The connection of the next download is cut after so many bytes."""
    requests: list[str] = field(default_factory=list)
    """Method, path and range of each request."""
    endpoint: str = ""

    @property
    def downloads(self) -> list[str]:
        """The requests that fetched a file."""
        return [request for request in self.requests if request.startswith("GET") and "/resolve/" in request]


@contextmanager
def serving() -> Iterator[HubServer]:
    """A hub that listens until the end."""
    state = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *args: object) -> None:
        """Nothing: the output is the tests'."""

    def _answer(self, body: bool) -> None:
        self.state.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
        path = self.path.partition("?")[0]
        if self.state.problem is not None:
            self._refuse(*self.state.problem)
        elif listing := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._list(listing[1], listing[2])
        elif file := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._file(file[3], body)
        else:
            self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code, "Content-Type": "application/json"})

    def _list(self, repo: str, revision: str | None) -> None:
        if repo != "owner/repo":
            self._refuse(404, "RepoNotFound")
        elif revision not in (None, "main", self.state.commit):
            self._refuse(404, "RevisionNotFound")
        else:
            siblings = [self._sibling(name, data) for name, data in self.state.files.items()]
            listing = {"id": repo, "sha": self.state.commit, "siblings": siblings}
            self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _sibling(self, name: str, data: bytes) -> dict[str, object]:
        size = self.state.claimed_bytes.get(name, len(data))
        lfs = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 100}
        return {"rfilename": name, "size": size, "blobId": "b" * 40, "lfs": lfs}

    def _file(self, name: str, body: bool) -> None:
        data = self.state.files.get(name)
        if self.state.files_problem is not None:
            self._refuse(*self.state.files_problem)
            return
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": self.state.commit,
            "Accept-Ranges": "bytes",
        }
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self._send(206 if begin else 200, data[begin:], headers, body)

    def _send(self, status: int, data: bytes, headers: dict[str, str], body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if not body or self.command == "HEAD":
            return
        if "ETag" not in headers or self.state.breaks_after is None:
            self.wfile.write(data)
            return
        self.wfile.write(data[: self.state.breaks_after])
        self.state.breaks_after = None
        self.close_connection = True
