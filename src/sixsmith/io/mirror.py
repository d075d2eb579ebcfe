"""A mirror: files by relative path, behind a URL or in a folder, and both behave alike.

Nothing that comes from here is verified: that is for whoever knows the checksum. What a mirror promises is the whole file
as the other side has it, or an error that names the file and the mirror.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from sixsmith.errors import DigestMismatch, FetchError, UsageError
from sixsmith.io.files import pieces
from sixsmith.io.http import FileMissing, Http, Memory, Sink, TooLarge, hide_credentials
from sixsmith.io.receipt import Trace

__all__ = ["FileMissing", "Mirror"]

_URL = r"([A-Za-z][A-Za-z0-9+.-]*)://"
_PIECE = 16 << 20
_NO_PLACES = frozenset(["", ".", ".."])


class Mirror:
    """Files at one place. `place` is an http(s) or file URL, or a folder. `trace` is told what is found there.

    Raises UsageError for any other kind of URL.
    """

    def __init__(self, place: str, http: Http, trace: Trace | None = None) -> None:
        self._http = http
        self._trace = trace or Trace()
        self._folder: Path | None = None
        scheme = re.match(_URL, place)
        if not scheme:
            self._folder = Path(place)
        elif scheme[1].lower() == "file":
            self._folder = Path(unquote(urlsplit(place).path))
        elif scheme[1].lower() not in ("http", "https"):
            raise UsageError(
                f"'{hide_credentials(place)}' is no place for a mirror", hint="a folder, or an http(s) URL"
            )
        self._url = place.rstrip("/")

    def __str__(self) -> str:
        return str(self._folder) if self._folder else hide_credentials(self._url)

    def __repr__(self) -> str:
        return f"Mirror({str(self)!r})"

    @property
    def is_folder(self) -> bool:
        """Whether the files are on this machine."""
        return self._folder is not None

    def read(self, path: str, *, limit: int, size: int | None = None) -> bytes:
        """The whole file, at most `limit` bytes; `size` as for `fetch`.

        Raises FetchError (FileMissing when the mirror answers and has no such file), DigestMismatch for the wrong size.
        """
        try:
            content = self.read_promised(path, limit=limit, size=size)
        except FileMissing:
            self._note(path, None)
            raise
        self._note(path, content)
        return content

    def read_promised(self, path: str, *, limit: int, size: int | None = None) -> bytes:
        """As `read`, for a file whose checksum the caller knows: that it was read says nothing about the build."""
        memory = Memory()
        self.fetch(path, memory, size=size, limit=limit)
        return memory.taken

    def _note(self, path: str, content: bytes | None) -> None:
        where = self._at(path)
        if isinstance(where, Path):
            self._trace.saw_bytes(where, content)
        else:
            self._trace.spoil(f"{path} was read from a mirror on the network")

    def fetch(
        self,
        path: str,
        sink: Sink,
        *,
        size: int | None = None,
        limit: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Stream the file into `sink`, a BlobWriter for one; returns its size in bytes.

        `size` is what the file is promised to have: more is not read. `progress` is told bytes so far and in all.
        Raises FetchError, FileMissing, DigestMismatch (another size than promised), and what the sink raises.
        """
        bound = limit if size is None else size
        where = self._at(path)
        try:
            if isinstance(where, Path):
                done = self._copy(where, sink, bound, progress)
            else:
                done = self._http.fetch(where, sink, size=size, limit=bound, progress=progress)
        except TooLarge:
            promise = f"where {size:,} are promised" if size is not None else "which is more than is allowed"
            wrong = f"{path} on the mirror {self} has more than {bound:,} bytes, {promise}"
            raise (FetchError(wrong) if size is None else DigestMismatch(wrong)) from None
        except FileMissing:
            raise self._no_such(path) from None
        except FetchError as error:
            raise self._failed(path, error) from None
        if size is not None and done != size:
            raise DigestMismatch(f"{path} on the mirror {self} has {done:,} bytes where {size:,} are promised")
        return done

    def exists(self, path: str) -> bool:
        """Whether the mirror has this file. Raises FetchError when it does not answer."""
        where = self._at(path)
        if isinstance(where, Path):
            self._trace.note("look", where)
            return where.is_file()
        self._trace.spoil(f"{path} was looked for on a mirror on the network")
        try:
            return self._http.exists(where)
        except FetchError as error:
            raise self._failed(path, error) from None

    def list(self, path: str = "") -> list[str] | None:
        """Names in a folder of the mirror, sorted; empty when there is no such folder, None for a URL: HTTP has no listing."""
        where = self._at(path, folder=True)
        if not isinstance(where, Path):
            return None
        self._trace.note("names", where)
        try:
            return sorted(entry.name for entry in where.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise FetchError(f"{path} on the mirror {self} cannot be listed ({error.strerror})") from None

    # ---- inside

    def _at(self, path: str, *, folder: bool = False) -> Path | str:
        """Where the file is: a path for a folder, a URL otherwise. Raises FetchError for a path that leads out."""
        parts = path.split("/") if path or not folder else []
        if not path.isprintable() or "\\" in path or not _NO_PLACES.isdisjoint(parts):
            raise FetchError(f"'{path}' is not a path on a mirror")
        if self._folder is not None:
            return self._folder / path
        return "/".join([self._url, *(quote(part, safe="+~@:,=") for part in parts)])

    def _copy(self, source: Path, sink: Sink, limit: int | None, progress: Callable[[int, int], None] | None) -> int:
        """As `Http.fetch`, from a file."""
        self._trace.explain(source)
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if stat.S_ISDIR(status.st_mode):
                    raise IsADirectoryError
                total = status.st_size
                if limit is not None and total > limit:
                    raise TooLarge(f"has {total:,} bytes")
                done = 0
                for chunk in pieces(descriptor, total, _PIECE):
                    done += len(chunk)
                    sink.write(chunk)
                    if progress:
                        progress(done, total)
                return done
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise FileMissing(str(source)) from None
        except OSError as error:
            raise FetchError(f"it cannot be read ({error.strerror})") from None

    def _no_such(self, path: str) -> FileMissing:
        if self._folder is not None and not self._folder.is_dir():
            return FileMissing(f"{path}: the mirror {self} is not there", hint="that folder does not exist")
        return FileMissing(f"{path} is not on the mirror {self}")

    def _failed(self, path: str, error: FetchError) -> FetchError:
        """The same failure, told of the mirror."""
        reason = error.message.removeprefix(f"{hide_credentials(str(self._at(path)))}: ")
        return FetchError(f"{path} could not be had from the mirror {self}: {reason}", hint=error.hint)
