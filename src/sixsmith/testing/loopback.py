"""A server on loopback that can misbehave on purpose.

`Loopback` speaks HTTP/1.1 from threads and leaves the answers to a subclass: `FileServer` here (a mirror), `FakeRegistry` in
`sixsmith.testing.registry`. A `Fault` says which request goes wrong, how, and how often; everything asked for is kept in
`requests`. Standard library only, so that it starts in milliseconds.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

__all__ = ["Fault", "FileServer", "Loopback", "Reply", "Request"]

Self = TypeVar("Self", bound="Loopback")

Kind = Literal["status", "break-off", "stall", "vanish", "flip"]

_RANGE = re.compile(r"bytes=(\d+)-(\d*)\Z")


@dataclass(slots=True)
class Fault:
    """What goes wrong with the next `times` requests of this method whose path matches; -1 for all of them.

    - `status`: answered with `status`, `headers` and `body` instead
    - `break-off`: the answer's head is right, and the connection is closed after `after` bytes of the body
    - `stall`: nothing more comes after `after` bytes of the body, until the server is closed
    - `vanish`: the connection is closed after `after` bytes of the request's body were read, with no answer
    - `flip`: one bit of the body is wrong
    """

    kind: Kind
    method: str = ""
    path: str = ""
    times: int = 1
    after: int = 0
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def meets(self, method: str, path: str) -> bool:
        """Whether this fault is for this request."""
        return self.times != 0 and self.method in ("", method) and re.search(self.path, path) is not None


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int = -1, /) -> bytes: ...
    def readline(self) -> bytes: ...


@dataclass(slots=True)
class Request:
    """One request. `path` is decoded and without the query, `pairs` are those of the query in order; `headers` has lower-case names."""

    method: str
    path: str
    pairs: list[tuple[str, str]]
    headers: dict[str, str]
    body: _Body

    @property
    def query(self) -> dict[str, str]:
        """The query by name; of a name that is repeated the last one."""
        return dict(self.pairs)

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(iter(lambda: self.body.read(1 << 20), b""))


@dataclass(slots=True)
class Reply:
    """One answer. Content-Length is filled in; for HEAD the body is measured and not sent."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Loopback:
    """A threaded HTTP server on 127.0.0.1, started by `with` and ended with it.

    `certificate` is a PEM file with certificate and key: then it speaks TLS.
    """

    def __init__(self, *, faults: Iterable[Fault] = (), port: int = 0, certificate: Path | None = None) -> None:
        self.faults = list(faults)
        self.requests: list[Request] = []
        self.closed = threading.Event()
        self._turn = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.owner = self
        self._scheme = "https" if certificate else "http"
        if certificate:
            import ssl

            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def host(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """Scheme and host."""
        return f"{self._scheme}://{self.host}"

    def __enter__(self: Self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; requests that stall are let go."""
        self.closed.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.hang_up()

    def answer(self, request: Request) -> Reply:
        """The right answer; a subclass knows it."""
        raise NotImplementedError

    def asked(self, method: str = "", path: str = "") -> list[Request]:
        """The requests so far of this method whose path matches."""
        with self._turn:
            return [one for one in self.requests if method in ("", one.method) and re.search(path, one.path)]

    def _note(self, request: Request) -> Fault | None:
        """Remember the request; returns the fault that it meets."""
        with self._turn:
            self.requests.append(request)
            for fault in self.faults:
                if fault.meets(request.method, request.path):
                    fault.times -= 1
                    return fault
        return None


class FileServer(Loopback):
    """Serves a folder as a mirror would: GET and HEAD, ranges, entity tags. `resumable` False: ranges are ignored."""

    def __init__(
        self, root: Path, *, resumable: bool = True, faults: Iterable[Fault] = (), certificate: Path | None = None
    ) -> None:
        super().__init__(faults=faults, certificate=certificate)
        self.root = root
        self.resumable = resumable

    def answer(self, request: Request) -> Reply:
        """A file, part of it, or 404."""
        path = self.root / request.path.lstrip("/")
        if ".." in request.path.split("/") or not path.is_file():
            return Reply(404, {}, b"not found\n")
        content = path.read_bytes()
        if not self.resumable:
            return Reply(200, {}, content)
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        wanted = _RANGE.match(request.headers.get("range", ""))
        if not wanted or request.headers.get("if-range", etag) != etag:
            return Reply(200, {"ETag": etag, "Accept-Ranges": "bytes"}, content)
        start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
        if start >= len(content):
            return Reply(416, {"Content-Range": f"bytes */{len(content)}"})
        part = {"ETag": etag, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
        return Reply(206, part, content[start : end + 1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    owner: Loopback

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._open: set[socket.socket] = set()
        self._counting = threading.Lock()

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        """Serve one connection, and know of it while it is open."""
        with self._counting:
            self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._counting:
                self._open.discard(request)

    def hang_up(self) -> None:
        """Close the connections that clients keep open."""
        with self._counting:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are what this server is for: silence."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Silence: what was asked is in `requests`."""

    def _serve(self) -> None:
        owner = self.server.owner
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = _Body(self.rfile, headers)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        request = Request(self.command, unquote(parts.path), pairs, headers, body)
        fault = owner._note(request)
        if fault and fault.kind == "vanish":
            body.read(fault.after)
            self._hang_up()
            return
        if fault and fault.kind == "status":
            reply = Reply(fault.status, dict(fault.headers), fault.body)
        else:
            reply = owner.answer(request)
        request.read()
        self._send(reply, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _serve

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers and reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        body = b"" if self.command == "HEAD" else reply.body
        if fault and fault.kind == "flip" and body:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if fault and fault.kind in ("break-off", "stall"):
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            if fault.kind == "stall":
                self.server.owner.closed.wait()
            self._hang_up()
            return
        self.wfile.write(body)
        self.wfile.flush()

    def _hang_up(self) -> None:
        """Close without ceremony."""
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


class _Body:
    """The request's body: as long as Content-Length says, or chunked."""

    def __init__(self, source: Readable, headers: Mapping[str, str]) -> None:
        self._source = source
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = 0 if self._chunked else int(headers.get("content-length") or 0)

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end."""
        if not self._left and self._chunked:
            self._left = int(self._source.readline().split(b";")[0] or b"0", 16)
            if not self._left:
                self._source.readline()
                self._chunked = False
        piece = self._source.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        if not piece:
            self._left = 0
        elif not self._left and self._chunked:
            self._source.readline()
        return piece
