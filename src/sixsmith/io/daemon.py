"""A Docker daemon on this machine, asked over its socket: no client program is needed.

Sources: the Engine API (v1.41 and later; nothing here needs more), moby `daemon/attach.go` for the framing of streams.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote, urlencode

from sixsmith.errors import OutsideError

__all__ = ["DEFAULT_SOCKET", "Daemon", "frames", "socket_of"]

DEFAULT_SOCKET = "/var/run/docker.sock"
_PATIENCE = 60.0
_NOTHING: Mapping[str, str] = {}


def socket_of(host: str) -> str:
    """The socket that `DOCKER_HOST` names; empty means Docker's own. Raises OutsideError for a daemon that is elsewhere."""
    if not host:
        return DEFAULT_SOCKET
    scheme, found, path = host.partition("://")
    if scheme == "unix" and found and path.startswith("/"):
        return path
    raise OutsideError(
        f"the Docker daemon at {host} is not on this machine, so its containers cannot be looked into",
        hint="DOCKER_HOST=unix:///PATH names one that is",
    )


class _Connection(http.client.HTTPConnection):
    """HTTP over a socket file."""

    def __init__(self, path: str, seconds: float | None) -> None:
        super().__init__("docker", timeout=seconds)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    """The Engine API behind a socket; each request has a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def version(self) -> str:
        """The daemon's version. Raises OutsideError when none answers."""
        said = self.ask("GET", "/version")
        if not isinstance(said, dict) or "Version" not in said:
            raise OutsideError(f"what answers at {self.path} is no Docker daemon")
        return str(said["Version"])

    def ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        query: Mapping[str, str] = _NOTHING,
        fine: Iterable[int] = (),
    ) -> Any:
        """What the daemon answers, as JSON; None for nothing. Raises OutsideError for a refusal but those that are `fine`."""
        data = json.dumps(body).encode() if body is not None else None
        with closing(self.open(method, path, data, query=query, fine=fine)) as answer:
            text = self._rest(answer)
        return self._parse(text) if text.strip() and answer.status < 300 else None

    def _rest(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise OutsideError(
                f"the Docker daemon at {self.path} stopped in the middle of an answer: {error}"
            ) from None

    def _parse(self, text: bytes) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise OutsideError(f"what answers at {self.path} is no Docker daemon") from None

    def load(self, archive: Iterator[bytes | memoryview]) -> None:
        """Takes an archive as `docker save` writes it. Raises OutsideError when the daemon does not like it."""
        with closing(self.open("POST", "/images/load", archive, query={"quiet": "1"})) as answer:
            for line in self._rest(answer).splitlines():
                said = self._parse(line) if line.strip() else {}
                if "error" in said:
                    raise OutsideError(f"docker cannot load the image: {said['error']}")

    def open(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes | memoryview] | None = None,
        *,
        query: Mapping[str, str] = _NOTHING,
        fine: Iterable[int] = (),
        patient: bool = False,
    ) -> http.client.HTTPResponse:
        """The answer as it comes in; one that begins may take its time when `patient`.

        Raises OutsideError when nobody answers, and for a refusal.
        """
        connection = _Connection(self.path, _PATIENCE)
        target = quote(path) + (f"?{urlencode(query)}" if query else "")
        kind = "application/x-tar" if isinstance(body, Iterator) else "application/json"
        try:
            connection.request(method, target, body, {"Content-Type": kind, "Connection": "close"})
            sock = connection.sock
            answer = connection.getresponse()
            if patient:
                sock.settimeout(None)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise OutsideError(
                f"no Docker daemon answers at {self.path}: {why}", hint="start it, or name its socket in DOCKER_HOST"
            ) from None
        if answer.status >= 300 and answer.status not in fine:
            said = _message(self._rest(answer))
            answer.close()
            raise OutsideError(f"docker: {said or answer.reason}")
        return answer


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode("utf-8", "replace").strip()[:300]


def frames(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What a container writes: the contents of the frames (1 byte stream, 3 zero, 4 length) that a stream consists of."""
    held = b""
    while piece := answer.read1(1 << 16):
        held += piece
        while len(held) >= 8 and len(held) >= 8 + (length := int.from_bytes(held[4:8], "big")):
            yield held[8 : 8 + length]
            held = held[8 + length :]
