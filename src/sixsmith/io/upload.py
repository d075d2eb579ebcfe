"""How one blob gets into a registry, as steps without I/O (distribution-spec, "Pushing blobs").

`upload_steps` is a generator: it yields what to ask, is sent the answer, and returns how it went. Whoever drives it brings
sockets, credentials and patience. In order of preference:

1. mount: the registry has the blob in another repository, and no byte is sent
2. small blobs in one POST; a registry that cannot answers 202 and goes on with 3.
3. POST for a session, PUT for the whole blob
4. where the PUT is refused for its kind or size: a new session, PATCH by PATCH, and an empty PUT
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Literal
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

import msgspec

from sixsmith.io.http import Answer, Body, Readable
from sixsmith.model.digest import Digest

__all__ = ["Ask", "Blob", "Outcome", "Refused", "upload_steps"]

SMALL = 64 << 10  # bytes: what may be sent twice for the chance to save a round trip
CHUNK = 16 << 20

_OCTETS = "application/octet-stream"
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)\Z")


class Blob(msgspec.Struct, frozen=True):
    """What to upload: `open` gives the bytes from their start, each time anew. Size in bytes."""

    digest: Digest
    size: int
    open: Callable[[], Readable]


class Ask(msgspec.Struct, frozen=True):
    """One request. `length` is that of the body in bytes."""

    method: str
    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    body: Body = b""
    length: int = 0


class Outcome(msgspec.Struct, frozen=True):
    """How the blob got there, and what is known of the registry since."""

    how: Literal["mounted", "uploaded"]
    single_post: bool = True


class Refused(Exception):
    """The registry's answer is none that the protocol has for this step."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


Steps = Generator[Ask, Answer, Outcome]


def upload_steps(
    start: str, blob: Blob, *, mount_from: str | None = None, single_post: bool = True, chunk: int = CHUNK
) -> Steps:
    """Upload `blob` by way of `start`, the URL `…/v2/NAME/blobs/uploads/`; `chunk` in bytes. Raises Refused."""
    answer = None
    if mount_from:
        answer = yield Ask("POST", f"{start}?mount={quote(blob.digest)}&from={quote(mount_from, safe='')}")
        if answer.status == 201:
            return Outcome("mounted", single_post)
    elif single_post and blob.size <= SMALL:
        answer = yield _whole("POST", f"{start}?digest={quote(blob.digest)}", blob)
        if answer.status == 201:
            return Outcome("uploaded", True)
        single_post = False
    if answer is None or answer.status != 202:
        answer = yield Ask("POST", start)
    answer = yield _whole("PUT", _closing(_session(answer), blob), blob)
    if answer.status in (201, 204):
        return Outcome("uploaded", single_post)
    if answer.status not in (405, 411, 413, 415, 416, 501):
        raise Refused(answer)
    return (yield from _by_chunks(start, blob, single_post, chunk))


def _by_chunks(start: str, blob: Blob, single_post: bool, chunk: int) -> Steps:
    answer = yield Ask("POST", start)
    least = answer.headers.get("oci-chunk-min-length", "")
    chunk = max(chunk, int(least) if least.isdecimal() else 0)
    session, offset = _session(answer), 0
    while offset < blob.size:
        end = min(offset + chunk, blob.size)
        headers = {"content-type": _OCTETS, "content-range": f"{offset}-{end - 1}"}
        part = _opener(blob, offset, end)
        answer = yield Ask("PATCH", session, headers, part, end - offset)
        if answer.status == 416:  # out of step: the session knows how far it is
            answer = yield Ask("GET", session, body=None)
            end = _taken(answer, -1)
            if end <= offset:
                raise Refused(answer)
        elif answer.status in (201, 202, 204):
            end = _taken(answer, end)
            if end <= offset:
                raise Refused(answer)
        else:
            raise Refused(answer)
        session, offset = _session(answer, session), end
    answer = yield Ask("PUT", _closing(session, blob))
    if answer.status not in (201, 204):
        raise Refused(answer)
    return Outcome("uploaded", single_post)


def _whole(method: str, url: str, blob: Blob) -> Ask:
    return Ask(method, url, {"content-type": _OCTETS}, blob.open, blob.size)


def _opener(blob: Blob, start: int, end: int) -> Callable[[], Readable]:
    return lambda: _Part(blob.open(), start, end)


def _session(answer: Answer, before: str | None = None) -> str:
    """Where the upload goes on. Relative Locations are allowed; one that steps down to http on our own host is mended,
    since a registry behind a proxy often does not know that it is asked by TLS."""
    if before is None and answer.status != 202:
        raise Refused(answer)
    location = answer.headers.get("location")
    if not location:
        if before is None:
            raise Refused(answer)
        return before
    target = urlsplit(urljoin(answer.url, location))
    asked = urlsplit(answer.url)
    if asked.scheme == "https" and target.scheme == "http" and asked.hostname == target.hostname:
        target = target._replace(scheme=asked.scheme, netloc=asked.netloc)
    return urlunsplit(target)


def _closing(session: str, blob: Blob) -> str:
    """The session's URL with the digest that ends it; the session's own query stays as it is."""
    return f"{session}{'&' if urlsplit(session).query else '?'}digest={quote(blob.digest)}"


def _taken(answer: Answer, otherwise: int) -> int:
    """How many bytes the session has, by its Range header (`0-N`, N included)."""
    matched = _RANGE.match(answer.headers.get("range", ""))
    return int(matched[1]) + 1 if matched else otherwise


class _Part:
    """The bytes `start` to `end` of a file."""

    def __init__(self, file: Readable, start: int, end: int) -> None:
        self._file = file
        self._start = start
        self._end = end
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(piece)
        return piece

    def seek(self, offset: int) -> None:
        self._file.seek(self._start + offset)
        self._left = self._end - self._start - offset

    def close(self) -> None:
        self._file.close()
