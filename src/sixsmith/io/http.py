"""One HTTP client for mirrors and registries: it waits, tries again, resumes, and says what it tried.

A request fails in one of two ways. The far side answers and means it (404, 401): that is final. Or it stalls, breaks off,
answers 429 or 5xx: then the request is sent again after a pause, and a body that had begun goes on where it stopped, when
the server can (`Range` with `If-Range`, RFC 9110 section 14). Only when all attempts are used up is there an error, and it
lists them.

Safety: redirects are followed by hand, a few, never from https down to http, and credentials stay with the origin that
they were meant for. urllib3 is imported at the first request, because a build from folders or from the store needs none.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote, urljoin, urlsplit

import msgspec

from sixsmith.errors import FetchError, UsageError

if TYPE_CHECKING:
    import ssl

    import urllib3

__all__ = [
    "Again",
    "Answer",
    "Body",
    "CredentialsNeeded",
    "FileMissing",
    "Http",
    "Memory",
    "Patience",
    "Readable",
    "Sink",
    "TlsFailed",
    "TooLarge",
    "TransferFailed",
    "hide_credentials",
    "retry_after",
]

MAX_REDIRECTS = 5
Result = TypeVar("Result")

CHUNK = 64 << 10
MAX_ANSWER = 4 << 20


class Readable(Protocol):
    """What is asked of a file that is sent."""

    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, /) -> object: ...
    def close(self) -> None: ...


Body = bytes | Callable[[], Readable] | None
"""What a request sends: bytes, or a function that opens the file from its start, for each attempt anew."""

_USER = r"(?ai)\A([a-z][a-z0-9+.-]*://)[^/?#]*@"
_CONTENT_RANGE = r"bytes (\d+)-\d+/(?:\d+|\*)\Z"


class FileMissing(FetchError):
    """The server answered, and it has no such file."""


class CredentialsNeeded(FetchError):
    """The server wants to know who asks, or does not take who asked (401)."""


class TooLarge(FetchError):
    """The body is larger than the caller takes."""


class TransferFailed(FetchError):
    """The far side could not be reached, stalled, broke off or kept failing."""


class TlsFailed(FetchError):
    """The far side does not speak TLS, or not with a certificate that is trusted."""


class Patience(msgspec.Struct, frozen=True):
    """How long to wait and how often to try, in seconds and attempts."""

    connect: float = 10.0
    stall: float = 30.0
    attempts: int = 4
    pause: float = 0.5  # before the second attempt; doubled each time
    longest_pause: float = 60.0  # also the most that a Retry-After is obeyed


class Sink(Protocol):
    """Takes a body in pieces. `restart` is called when the body begins anew."""

    def write(self, chunk: bytes, /) -> object: ...
    def restart(self) -> None: ...


class Answer(msgspec.Struct, frozen=True):
    """A whole answer. `headers` has lower-case names; `url` is where it came from after redirects."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


class Again(Exception):
    """This attempt failed, another may do better. `after`: seconds that the server asked for."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.after = after


class _Final(Exception):
    """This attempt failed, and so would any other."""

    def __init__(self, reason: str, kind: type[FetchError] = FetchError) -> None:
        super().__init__(reason)
        self.reason = reason
        self.kind = kind


class _Transfer(msgspec.Struct):
    """A body on its way into a sink, over one or more attempts. Sizes in bytes."""

    sink: Sink
    size: int | None  # what it must be, when that is known
    limit: int | None
    done: int = 0
    total: int | None = None
    validator: str = ""
    progress: Callable[[int, int], None] | None = None

    def resume_headers(self) -> dict[str, str]:
        if self.done and self.validator:
            return {"range": f"bytes={self.done}-", "if-range": self.validator}
        return {}

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Look at the head of an answer: does it go on, or begin anew? Raises Again when it does neither."""
        if status == 206:
            matched = re.match(_CONTENT_RANGE, headers.get("content-range", ""))
            if not matched or int(matched[1]) != self.done:
                self.forget()
                raise Again("answered with another part of the file than was asked for")
            return
        if self.done:
            self.forget()
        etag = headers.get("etag", "")
        self.validator = headers.get("last-modified", "") if not etag or etag.startswith("W/") else etag
        length = headers.get("content-length", "")
        self.total = int(length) if length.isdecimal() else None

    def forget(self) -> None:
        """Begin anew with the next attempt."""
        self.sink.restart()
        self.done = 0
        self.validator = ""

    def take(self, chunk: bytes) -> None:
        self.done += len(chunk)
        if self.limit is not None and self.done > self.limit:
            raise _Final(f"is larger than the {self.limit:,} bytes that are allowed", TooLarge)
        self.sink.write(chunk)
        if self.progress:
            self.progress(self.done, self.total or 0)

    def how_far(self) -> str:
        total = self.total if self.total is not None else self.size
        return f"after {self.done:,} of {total:,} bytes" if total is not None else f"after {self.done:,} bytes"


class Memory:
    """A sink that keeps the body in memory."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    @property
    def taken(self) -> bytes:
        """The body so far."""
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def write(self, chunk: bytes, /) -> None:
        """Append."""
        self._pieces.append(chunk)

    def restart(self) -> None:
        """Forget what was taken."""
        self._pieces.clear()


class Http:
    """Requests with patience. Safe to use from many threads; connections are kept and shared.

    `ca_file` is trusted besides the system's certificates. `proxy` says which proxy a URL goes through, if any.
    """

    def __init__(
        self,
        patience: Patience | None = None,
        *,
        ca_file: Path | None = None,
        offline: bool = False,
        proxy: Callable[[str], str | None] = lambda url: None,
        connections: int = 16,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.patience = patience or Patience()
        self.ca_file = ca_file
        self.offline = offline
        self.proxy = proxy
        self.connections = connections
        self.sleep = sleep
        self._pools: dict[tuple[str, str | None], urllib3.PoolManager] = {}
        self._making = threading.Lock()

    def trusting(self, ca_file: Path) -> Http:
        """The same patience with another certificate file, and connections of its own."""
        return Http(
            self.patience,
            ca_file=ca_file,
            offline=self.offline,
            proxy=self.proxy,
            connections=self.connections,
            sleep=self.sleep,
        )

    def close(self) -> None:
        """Let go of all connections."""
        with self._making:
            for pool in self._pools.values():
                pool.clear()
            self._pools.clear()

    # ---- files

    def read(self, url: str, *, limit: int, size: int | None = None) -> bytes:
        """The whole body, at most `limit` bytes. Raises FetchError; FileMissing when there is none."""
        memory = Memory()
        self.fetch(url, memory, limit=limit, size=size)
        return memory.taken

    def fetch(
        self,
        url: str,
        sink: Sink,
        *,
        size: int | None = None,
        limit: int | None = None,
        headers: Mapping[str, str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Stream the body into `sink`; returns its size in bytes.

        `size` is what it should have when no Content-Length says so; whether it has is for the caller, with the checksum.
        `progress` is told bytes so far and in all (0: unknown). Raises FetchError; FileMissing when there is no such file.
        """
        transfer = _Transfer(sink, size, limit, progress=progress)

        def attempt() -> int:
            wanted = {**(headers or {}), **transfer.resume_headers()}
            with self._open("GET", url, wanted, None, self.patience.stall) as (response, _):
                head = _lower(response.headers)
                if response.status == 416:
                    transfer.forget()
                _check_file(response.status, head)
                transfer.begin(response.status, head)
                for chunk in self._pieces(response, self.patience.stall, transfer.how_far):
                    transfer.take(chunk)
                if transfer.total is None and size is not None and transfer.done < size:
                    raise Again(f"broke off {transfer.how_far()}")
            return transfer.done

        return self.persist(url, attempt)

    def exists(self, url: str) -> bool:
        """Whether there is such a file. Raises FetchError when that cannot be told."""
        answer = self.exchange("HEAD", url)
        if answer.status in (404, 410):
            return False
        if answer.status >= 400:
            raise FetchError(f"{hide_credentials(url)}: {_status_words(answer.status)}")
        return True

    # ---- exchanges

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        limit: int = MAX_ANSWER,
        attempts: int | None = None,
        stall: float | None = None,
        final: Callable[[Answer], bool] = lambda answer: False,
    ) -> Answer:
        """One request and its whole answer, whatever its status; 429 and 5xx are tried again unless `final` says no.

        `attempts` and `stall` (seconds) are those of `patience` unless given.
        When all attempts ended in such a status the last answer is returned. Raises TransferFailed when there was none,
        FetchError when the answer is larger than `limit` bytes.
        """
        answers: list[Answer] = []

        silence = stall or self.patience.stall

        def attempt() -> Answer:
            answers.clear()
            with self._open(method, url, headers or {}, body, silence) as (response, where):
                taken = bytearray()
                for chunk in self._pieces(response, silence, lambda: "in its answer"):
                    taken += chunk
                    if len(taken) > limit:
                        raise _Final(f"answers with more than {limit:,} bytes", TooLarge)
                answer = Answer(response.status, _lower(response.headers), bytes(taken), where)
            if _worth_another(answer.status) and not final(answer):
                answers.append(answer)
                raise Again(_status_words(answer.status), retry_after(answer.headers))
            return answer

        try:
            return self.persist(url, attempt, attempts)
        except TransferFailed:
            if answers:
                return answers[0]
            raise

    def persist(self, url: str, attempt: Callable[[], Result], attempts: int | None = None) -> Result:
        """The result of the first attempt that does not raise Again; between them it waits.

        Raises TransferFailed with what was tried when no attempt is left, and what `attempt` raises. `url` is what messages
        begin with.
        """
        reasons: list[str] = []
        pause = self.patience.pause
        shown = hide_credentials(url)
        while True:
            try:
                return attempt()
            except _Final as final:
                raise final.kind(f"{shown}: {final.reason}") from None
            except Again as failed:
                reasons.append(failed.reason)
                if len(reasons) >= (attempts or self.patience.attempts):
                    raise TransferFailed(f"{shown}: {_tried(reasons)}") from None
                self.sleep(min(max(pause, failed.after or 0.0), self.patience.longest_pause))
                pause *= 2

    # ---- inside

    def _pieces(self, response: urllib3.BaseHTTPResponse, stall: float, how_far: Callable[[], str]) -> Iterator[bytes]:
        """The body as it comes. Raises Again when it stalls or breaks off."""
        from urllib3.exceptions import HTTPError

        try:
            yield from response.stream(CHUNK, decode_content=False)
        except HTTPError as error:
            raise Again(f"{_why(error, self.patience.connect, stall)} {how_far()}") from error

    @contextmanager
    def _open(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, stall: float
    ) -> Iterator[tuple[urllib3.BaseHTTPResponse, str]]:
        """One answer after redirects, its body not read yet, and where it came from."""
        if self.offline:
            raise _Final("not fetched, because of --offline")
        try:
            urlsplit(url)
        except ValueError:
            raise _Final("is not a URL") from None
        where, sent = _take_credentials(url, {name.lower(): value for name, value in headers.items()})
        sent.setdefault("accept-encoding", "identity")
        sent.setdefault("user-agent", _user_agent())
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(method, where, sent, body, stall)
            target = response.headers.get("location") if response.status in (301, 302, 303, 307, 308) else None
            if not target or (response.status < 304 and method not in ("GET", "HEAD")):
                try:
                    yield response, where
                finally:
                    response.close()  # after a whole body this only says so; else the rest is not waited for
                return
            response.drain_conn()
            where, sent = _follow(where, target, sent)
        raise _Final(f"redirects more than {MAX_REDIRECTS} times")

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: Body, stall: float
    ) -> urllib3.BaseHTTPResponse:
        from urllib3.exceptions import HTTPError, LocationParseError, SSLError
        from urllib3.util import Timeout

        file = body() if callable(body) else None
        content = body if file is None else file
        try:
            return self._pool(url).urlopen(
                method,
                url,
                headers=dict(headers),
                body=content,
                redirect=False,
                retries=False,
                timeout=Timeout(connect=self.patience.connect, read=stall),
                preload_content=False,
                decode_content=False,
            )
        except LocationParseError:
            raise _Final("is not a URL") from None
        except SSLError as error:
            if "EOF" in str(error):
                raise Again("the TLS handshake broke off") from error
            raise _Final(_tls_words(str(error)), TlsFailed) from error
        except (HTTPError, OSError) as error:
            raise Again(_why(error, self.patience.connect, stall)) from error
        finally:
            if file is not None:
                file.close()

    def _pool(self, url: str) -> urllib3.PoolManager:
        import urllib3

        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https"):
            raise _Final("is not an http or https URL")
        proxy = self.proxy(url)
        with self._making:
            if (scheme, proxy) not in self._pools:
                context = self._trust() if scheme == "https" else None
                make = partial(urllib3.ProxyManager, proxy) if proxy else urllib3.PoolManager
                self._pools[scheme, proxy] = make(ssl_context=context, maxsize=self.connections, blocksize=CHUNK)
            return self._pools[scheme, proxy]

    def _trust(self) -> ssl.SSLContext:
        """The system's certificates and `ca_file`, loaded once: urllib3 would load them for every connection."""
        import ssl

        context = ssl.create_default_context()
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise UsageError(f"{self.ca_file} cannot be read as certificates in PEM form ({error})") from None
        return context


# ---- plain functions


def hide_credentials(url: str) -> str:
    """The URL as it may be shown: without user and password."""
    return re.sub(_USER, r"\1", url, count=1)


def _take_credentials(url: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """User and password out of the URL and into the headers."""
    parts = urlsplit(url)
    if parts.username is not None and "authorization" not in headers:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
    return hide_credentials(url), headers


def _follow(old: str, target: str, headers: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Where a redirect leads, and the headers that may be sent there. Raises _Final for a step down from https."""
    try:
        new = urljoin(old, target)
        before, after = urlsplit(old), urlsplit(new)
    except ValueError:
        raise _Final("redirects to what is not a URL") from None
    if before.scheme == "https" and after.scheme != "https":
        raise _Final(f"redirects from https to {hide_credentials(new)}, which is refused")
    if (before.scheme, before.netloc) != (after.scheme, after.netloc):
        headers = {name: value for name, value in headers.items() if name not in ("authorization", "cookie")}
    return hide_credentials(new), headers


def _check_file(status: int, headers: Mapping[str, str]) -> None:
    """Raises Again or _Final unless this is the head of a file."""
    if status in (200, 206):
        return
    if status in (404, 410):
        raise _Final(_status_words(status), FileMissing)
    if status == 401:
        raise _Final(_status_words(status), CredentialsNeeded)
    if status == 416 or _worth_another(status):
        raise Again(_status_words(status), retry_after(headers))
    raise _Final(_status_words(status))


def _worth_another(status: int) -> bool:
    return status in (408, 425, 429) or (500 <= status < 600 and status not in (501, 505, 507))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server wants us to wait (RFC 9110 section 10.2.3); a date is held against the server's own."""
    from email.utils import parsedate_to_datetime

    wanted = headers.get("retry-after", "").strip()
    if wanted.isdecimal():
        return float(wanted)
    try:
        return (parsedate_to_datetime(wanted) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (ValueError, TypeError):
        return None


def _lower(headers: urllib3.HTTPHeaderDict) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.itermerged()}


def _tried(reasons: Iterable[str]) -> str:
    """What happened, attempt by attempt, runs of the same told once."""
    runs = [(reason, len(list(run))) for reason, run in groupby(reasons)]
    return "; then ".join(f"{reason} ({count} attempts)" if count > 1 else reason for reason, count in runs)


def _status_words(status: int) -> str:
    from http import HTTPStatus

    known = {401: "credentials are needed", 403: "refused", 404: "not found", 429: "too many requests"}
    try:
        phrase = known.get(status) or HTTPStatus(status).phrase.lower()
    except ValueError:
        phrase = "an unknown status"
    return f"the server answers {status} ({phrase})"


def _why(error: Exception, connect: float, stall: float) -> str:
    """What went wrong on the way, in words."""
    from urllib3 import exceptions as wrong

    if isinstance(error, wrong.NameResolutionError):
        return "the host name is not known"
    if isinstance(error, wrong.NewConnectionError):
        return f"cannot connect ({_innermost(error)})"
    if isinstance(error, wrong.ConnectTimeoutError):
        return f"no connection within {connect:g} s"
    if isinstance(error, wrong.ReadTimeoutError):
        return f"stalled for {stall:g} s"
    if isinstance(error, wrong.ProxyError):
        return f"the proxy failed ({_innermost(error)})"
    if isinstance(error, wrong.IncompleteRead) or any(isinstance(part, wrong.IncompleteRead) for part in error.args):
        return "broke off"
    return f"broke off ({_innermost(error)})"


def _innermost(error: BaseException) -> str:
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def _tls_words(text: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        reason = re.search(r"certificate verify failed: (.*?)(?: \(_ssl|\Z)", text)
        return f"its certificate is not trusted ({reason[1] if reason else text})"
    if re.search(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST", text):
        return "does not speak TLS"
    return f"TLS failed ({text})"


def _user_agent() -> str:
    from sixsmith import __version__

    return f"sixsmith/{__version__}"
