"""What the commands share: the options for places, and the things that they open."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sixsmith.errors import UsageError
from sixsmith.io.receipt import Trace

if TYPE_CHECKING:
    from datetime import date

    from sixsmith.build import BuiltFamily
    from sixsmith.cli.console import PlainReporter
    from sixsmith.io.http import Http, Patience
    from sixsmith.io.mirror import Mirror
    from sixsmith.io.registry_auth import CredentialSource
    from sixsmith.io.store import Store
    from sixsmith.io.supply import Supply
    from sixsmith.lock import Lock
    from sixsmith.matrix import Family
    from sixsmith.model.digest import Digest
    from sixsmith.variant import Variant

__all__ = ["DEFAULT_MIRROR", "DEFAULT_OVERLAY_MIRROR", "Session", "family_options", "place_options"]

DEFAULT_MIRROR = "https://dl-cdn.alpinelinux.org/alpine"
DEFAULT_OVERLAY_MIRROR = "https://github.com/just-containers/s6-overlay/releases/download"

Function = TypeVar("Function", bound=Callable[..., Any])


class Session:
    """One run of one command: where things are and how to talk to the person."""

    def __init__(
        self,
        *,
        file: Path = Path("sixsmith.yaml"),
        mirror: str = DEFAULT_MIRROR,
        overlay_mirror: str = DEFAULT_OVERLAY_MIRROR,
        store: Path | None = None,
        offline: bool = False,
        allow_untrusted: bool = False,
        keys: Path | None = None,
        checksums: Path | None = None,
        vault: Path | None = None,
        jobs: int = 0,
        timeout: float | None = None,
        retries: int | None = None,
        json: bool = False,
        quiet: bool = False,
    ) -> None:
        self.file = file
        self.mirror = mirror
        self.overlay_mirror = overlay_mirror
        self.store = store
        self.offline = offline
        self.allow_untrusted = allow_untrusted
        self.keys = keys
        self.checksums = checksums
        self.vault = vault
        self.jobs = jobs
        self.timeout = timeout
        self.retries = retries
        self.json = json
        self.quiet = quiet
        self.trace = Trace()
        self._reporter: PlainReporter | None = None
        self._http: Http | None = None

    @property
    def reporter(self) -> PlainReporter:
        """The listener that shows progress on stderr."""
        if self._reporter is None:
            from sixsmith.cli.console import make_reporter

            self._reporter = make_reporter(quiet=self.quiet, plain=self.json)
        return self._reporter

    @property
    def workers(self) -> int:
        """How many transfers at once."""
        return self.jobs or min(8, 4 + (os.cpu_count() or 1))

    def store_root(self) -> Path:
        """Where the store is: the option, else the user's cache folder."""
        if self.store is not None:
            return self.store
        cache = os.environ.get("XDG_CACHE_HOME")
        return (Path(cache) if cache else Path.home() / ".cache") / "sixsmith"

    @contextmanager
    def open_store(self) -> Iterator[Store]:
        """The store, locked against collection while the command runs."""
        from sixsmith.io.store import Store

        with Store(self.store_root()) as store:
            try:
                yield store
            finally:
                if self._reporter is not None:
                    self._reporter.close()

    @property
    def http(self) -> Http:
        """The one HTTP client of the run; proxies as the environment names them."""
        if self._http is None:
            from sixsmith.io.http import Http

            self._http = Http(self._patience(), offline=self.offline, proxy=_proxy_for)
        return self._http

    def _patience(self) -> Patience:
        """How long to wait for a server, and how often to ask it again."""
        from sixsmith.io.http import Patience

        usual = Patience()
        stall = usual.stall if self.timeout is None else self.timeout
        attempts = usual.attempts if self.retries is None else self.retries + 1
        return Patience(connect=min(usual.connect, stall), stall=stall, attempts=attempts)

    def credentials(self) -> CredentialSource:
        """Docker's and Podman's own credential files and programs."""
        from sixsmith.io.registry_auth import CredentialSource

        return CredentialSource(os.environ, Path.home())

    def open_mirror(self, place: str) -> Mirror:
        """A mirror at a URL or in a folder."""
        from sixsmith.io.mirror import Mirror

        return Mirror(place, self.http, self.trace)

    def supply(self, store: Store, lock: Lock | None = None) -> Supply:
        """Everything that comes from outside, verified, through the store."""
        from sixsmith.io.supply import Supply

        if self.allow_untrusted:
            from sixsmith.events import Warned

            self.reporter(
                Warned(
                    "",
                    "signatures are NOT checked",
                    "--allow-untrusted takes whatever the mirror gives; never ship such images",
                )
            )
        vault = self.vault.absolute() if self.vault else None
        pins = lock.pins() if lock else {}
        if self.checksums:
            self.trace.note("bytes", self.checksums)
            pins |= _read_checksums(self.checksums)
        return Supply(
            store=store,
            mirror=self.open_mirror(str(vault / "alpine") if vault else self.mirror),
            overlay_mirror=self.open_mirror(str(vault / "s6-overlay") if vault else self.overlay_mirror),
            vault=self.open_mirror(str(vault)) if vault else None,
            open_mirror=self.open_mirror,
            http=self.http,
            credentials=self.credentials(),
            allow_untrusted=self.allow_untrusted,
            extra_keys=self._read_keys(self.keys) if self.keys else {},
            pins=pins,
            trace=self.trace,
            jobs=self.workers,
            reporter=self.reporter,
        )

    def _read_keys(self, folder: Path) -> dict[str, bytes]:
        """The public keys in a folder, by file name. Raises UsageError when there is none."""
        self.trace.note("names", folder)
        keys = {path.name: path.read_bytes() for path in sorted(folder.glob("*.pub"))}
        if not keys:
            raise UsageError(f"--keys {folder}: no *.pub in it")
        for name, content in keys.items():
            self.trace.saw_bytes(folder / name, content)
        return keys

    def load_family(self, store: Store | None = None) -> Family:
        """The family file; an open `store` remembers how it reads. Raises UsageError when it is not there, MatrixError when
        it is wrong."""
        from sixsmith.matrix import parse_family

        if self.file.is_dir():
            raise UsageError(f"{self.file} is a folder", hint=f"-f {self.file / 'sixsmith.yaml'}")
        if not self.file.is_file():
            raise UsageError(f"no {self.file} here", hint="`sixsmith init` writes one; `-f FILE` names another")
        try:
            content = self.file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read '{self.file}': {error.strerror}") from None
        self.trace.saw_bytes(self.file, content)
        return parse_family(content, file=str(self.file), folder=self.file.absolute().parent, records=store)

    @property
    def lock_file(self) -> Path:
        """Where the family's lock is: beside the family file."""
        return self.file.with_suffix(".lock")

    def load_lock(self, *, needed: bool = False) -> Lock | None:
        """The family's lock, or None where there is none. Raises UsageError when it is damaged, or `needed` and missing."""
        if not self.lock_file.is_file():
            self.trace.saw_bytes(self.lock_file, None)
            if needed:
                raise UsageError(f"no {self.lock_file} here", hint="`sixsmith lock` writes it")
            return None
        from sixsmith.lock import parse_lock

        content = self.lock_file.read_bytes()
        self.trace.saw_bytes(self.lock_file, content)
        return parse_lock(content, file=str(self.lock_file))

    def build(
        self,
        cells: Sequence[Variant],
        *,
        family: Family,
        store: Store,
        lock: Lock | None,
        frozen: bool = False,
        today: date | None = None,
    ) -> BuiltFamily:
        """These cells of the family, from this session's places; see `build_family` for what it does and raises."""
        from sixsmith.build import build_family

        return build_family(
            cells,
            family=family,
            supply=self.supply(store, lock),
            store=store,
            lock=lock,
            frozen=frozen,
            reporter=self.reporter,
            today=today,
        )

    def select(self, family: Family, patterns: tuple[str, ...], arches: tuple[str, ...]) -> tuple[Variant, ...]:
        """The cells that the arguments name; all of them when there are none."""
        from sixsmith.matrix import select

        return tuple(select(family.cells, patterns, arches))


def _read_checksums(file: Path) -> dict[str, Digest]:
    """`sha256sum`'s format; names are `alpine-minirootfs-….tar.gz` and `s6-overlay-VERSION/FILE` (or `vVERSION/FILE`)."""
    from sixsmith.errors import FormatError, Place
    from sixsmith.model.digest import parse_digest

    pins: dict[str, Digest] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        text, _, path = line.partition("  ")
        try:
            digest = parse_digest(f"sha256:{text.strip()}")
        except FormatError:
            raise UsageError(
                f"'{text[:70]}' is no sha256",
                place=Place(str(file), number),
                hint="lines look like those of sha256sum: SHA256  PATH",
            ) from None
        pins[re.sub(r"\Av(?=[0-9][^/]*/)", "s6-overlay-", path.strip().lstrip("*"))] = digest
    return pins


def _proxy_for(url: str) -> str | None:
    """The proxy of the environment (`https_proxy`, `no_proxy` …) for a URL, as curl and apk take it."""
    from urllib.parse import urlsplit
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(url)
    if not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)


def _session_of(values: dict[str, Any]) -> Session:
    given = {name: values.pop(name) for name in _OPTIONS if name in values}
    return Session(**{name: value for name, value in given.items() if value is not None})


def _folder_or_url(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    if value is None or "://" in value:
        return value.rstrip("/") if value else value
    return str(Path(value).expanduser().absolute())


_OPTIONS: dict[str, Callable[[Function], Function]] = {
    "file": click.option(
        "-f", "--file", type=click.Path(path_type=Path), help="The family file.  [default: sixsmith.yaml]"
    ),
    "mirror": click.option(
        "--mirror",
        metavar="URL|DIR",
        envvar="SIXSMITH_MIRROR",
        callback=_folder_or_url,
        help=f"Alpine mirror.  [default: {DEFAULT_MIRROR}]",
    ),
    "overlay_mirror": click.option(
        "--overlay-mirror",
        metavar="URL|DIR",
        envvar="SIXSMITH_OVERLAY_MIRROR",
        callback=_folder_or_url,
        help="s6-overlay's releases; a folder has v<version>/<file>.  [default: the project's release downloads]",
    ),
    "store": click.option(
        "--store",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="SIXSMITH_STORE",
        help="Where blobs and caches are kept.  [default: sixsmith in the user's cache folder]",
    ),
    "offline": click.option("--offline", is_flag=True, envvar="SIXSMITH_OFFLINE", help="Never use the network."),
    "allow_untrusted": click.option(
        "--allow-untrusted", is_flag=True, help="Take indexes without checking their signature."
    ),
    "keys": click.option(
        "--keys",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        envvar="SIXSMITH_KEYS",
        help="Folder of public keys to trust besides Alpine's own: those of a mirror that signs for itself.",
    ),
    "checksums": click.option(
        "--checksums",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        envvar="SIXSMITH_CHECKSUMS",
        help="File of lines `SHA256  PATH` that win over the catalogue's: for a mirror that makes its own releases.",
    ),
    "vault": click.option(
        "--vault",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        envvar="SIXSMITH_VAULT",
        help="Take every file from this vault instead of the mirrors (see `sixsmith vault`).",
    ),
    "jobs": click.option(
        "-j", "--jobs", metavar="N", type=click.IntRange(min=1), envvar="SIXSMITH_JOBS", help="Transfers at once."
    ),
    "timeout": click.option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        envvar="SIXSMITH_TIMEOUT",
        help="How long a server may be silent.  [default: 30]",
    ),
    "retries": click.option(
        "--retries",
        metavar="N",
        type=click.IntRange(min=0),
        envvar="SIXSMITH_RETRIES",
        help="How often to ask a server again that stalls, breaks off or is busy.  [default: 3]",
    ),
    "json": click.option("--json", is_flag=True, help="One JSON document on stdout, nothing else."),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="Only warnings and the result."),
}


def _with_options(names: tuple[str, ...]) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        from functools import wraps

        @wraps(function)
        def run(**values: Any) -> Any:
            session = _session_of(values)
            return function(session, **values)

        decorated: Any = run
        for name in reversed(names):
            decorated = _OPTIONS[name](decorated)
        return decorated  # type: ignore[no-any-return]  # click's decorators keep the function's type

    return decorate


def place_options(function: Function) -> Function:
    """The options for places, JSON and quiet; the command gets a Session as its first argument."""
    return _with_options(tuple(name for name in _OPTIONS if name != "file"))(function)


def family_options(function: Function) -> Function:
    """As `place_options`, with the family file."""
    return _with_options(tuple(_OPTIONS))(function)


def plain_options(function: Function) -> Function:
    """Only `--json` and `--quiet`."""
    return _with_options(("json", "quiet"))(function)
