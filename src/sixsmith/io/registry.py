"""A registry, spoken to as the OCI distribution-spec says, and as registries really are.

Names: a *registry* is a host, an image *repository* is a name on it. Manifests come with their raw bytes, because their digest
is that of the bytes. Nothing here decides what to push: that is `sixsmith.publish`.

Three things are found out while asking: whether the host speaks TLS (loopback hosts are tried without when they do not),
who wants to know who we are (`registry_auth`), and whether blobs may come in one POST (`upload`).
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urljoin, urlsplit

import msgspec

from sixsmith.errors import DigestMismatch, FetchError, FormatError, RegistryError
from sixsmith.io.http import Again, Answer, Body, CredentialsNeeded, Http, Sink, TlsFailed, TransferFailed, retry_after
from sixsmith.io.registry_auth import HUB_HOSTS, Authenticator, CredentialSource
from sixsmith.io.upload import CHUNK, Ask, Blob, Outcome, Refused, upload_steps
from sixsmith.model.digest import Digest, check_digest, digest_of, hex_of, parse_digest

__all__ = ["INDEX_TYPES", "MANIFEST_TYPES", "Blob", "Manifest", "Registry", "is_loopback"]

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)

_ACCEPT = {"accept": ", ".join([*INDEX_TYPES, *MANIFEST_TYPES])}
_MAX_MANIFEST = 16 << 20
_MAX_PAGES = 10_000
_SETTLING_SPEED = 1 << 20  # bytes per second that any registry manages
_PULL = frozenset({"pull"})
_PUSH = frozenset({"pull", "push"})
# docker-registry tells of a full disk as errno 28 inside of "unknown error"
_FULL = re.compile(
    rb'no space left|not enough space|insufficient storage|disk quota|ENOSPC|"Err":\s*28\b', re.IGNORECASE
)
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?', re.IGNORECASE)
_LOOPBACK = re.compile(r"(?:localhost|.*\.localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?\Z", re.IGNORECASE)

Result = TypeVar("Result")


def is_loopback(host: str) -> bool:
    """Whether `host[:port]` is this machine."""
    return _LOOPBACK.match(host) is not None


class Manifest(msgspec.Struct, frozen=True):
    """A manifest or an index, as the registry has it."""

    media_type: str
    digest: Digest
    raw: bytes


class Registry:
    """One registry, `host[:port]`. Safe to use from many threads; methods raise RegistryError.

    `plain_http`: no TLS at all. `tls_ca`: a PEM file of certificates to trust besides the system's. `credentials`: where to
    look for them; None asks as anybody. `chunk`: bytes per request where whole blobs are refused.
    """

    def __init__(
        self,
        host: str,
        *,
        http: Http | None = None,
        plain_http: bool = False,
        tls_ca: Path | None = None,
        credentials: CredentialSource | None = None,
        chunk: int = CHUNK,
    ) -> None:
        self.host = host
        http = http or Http()
        self._http = http.trusting(tls_ca) if tls_ca else http
        self._plain_http = plain_http
        self._chunk = chunk
        self._base = ""
        self._finding = threading.Lock()
        self._single_post = True
        self._auth = Authenticator(host, self._http, credentials, secure=lambda: self._base.startswith("https:"))

    def __str__(self) -> str:
        return self.host

    def ping(self) -> None:
        """Find out how the registry speaks. Raises RegistryError when it is none, or not reachable."""
        self._url()

    # ---- blobs

    def blob_exists(self, repository: str, digest: Digest) -> bool:
        """Whether the repository has the blob."""
        answer = self._call("HEAD", repository, f"blobs/{digest}", _PULL, allow=(200, 404))
        return answer.status == 200

    def upload_blob(self, repository: str, blob: Blob, *, mount_from: str | None = None) -> Outcome:
        """Upload the blob, or mount it from another repository of this registry where that works.

        A registry that goes away in between is tried again; the blob's digest is checked by the registry.
        """
        repository, mount_from = self._name(repository), self._name(mount_from or "")
        start = self._url() + _path(repository, "blobs/uploads/")
        scopes = _scopes(repository, _PUSH) | (_scopes(mount_from, _PULL) if mount_from else frozenset())
        what = f"{digest_words(blob.digest)} to {repository}"

        def attempt() -> Outcome:
            steps = upload_steps(start, blob, mount_from=mount_from, single_post=self._single_post, chunk=self._chunk)
            answer: Answer | None = None
            try:
                while True:
                    ask = steps.send(answer) if answer else next(steps)
                    answer = self._step(ask, scopes, repository)
            except StopIteration as done:
                outcome: Outcome = done.value
                self._single_post = self._single_post and outcome.single_post
                return outcome
            except Refused as refused:
                if _may_pass(refused.answer):
                    raise Again(
                        f"the registry answers {refused.answer.status}", retry_after(refused.answer.headers)
                    ) from None
                raise self._refusal(f"the blob {what}", refused.answer, repository) from None

        with self._told(f"pushing {what}"):
            return self._http.persist(start, attempt)

    def read_blob(self, repository: str, digest: Digest, *, limit: int = _MAX_MANIFEST) -> bytes:
        """The blob's bytes, verified, at most `limit` of them. Raises DigestMismatch as well."""
        answer = self._call("GET", repository, f"blobs/{digest}", _PULL, limit=limit)
        check_digest(answer.body, digest, f"{self.host}/{repository}: blob")
        return answer.body

    def fetch_blob(self, repository: str, digest: Digest, sink: Sink, *, size: int | None = None) -> int:
        """Stream the blob into `sink`, which verifies it at `commit`; returns its size in bytes."""
        name = self._name(repository)
        url = self._url() + _path(name, f"blobs/{digest}")

        def fetch() -> int:
            known = self._auth.header(_scopes(name, _PULL), name)
            headers = {"authorization": known} if known else {}
            with self._told(f"fetching {digest_words(digest)} of {repository}"):
                return self._http.fetch(url, sink, size=size, limit=size, headers=headers)

        try:
            return fetch()
        except RegistryError as error:
            if not isinstance(error.__cause__, CredentialsNeeded):
                raise
        self._call("HEAD", repository, f"blobs/{digest}", _PULL)  # settles who we are, or says that we may not
        sink.restart()
        return fetch()

    # ---- manifests

    def find_manifest(self, repository: str, reference: str) -> Digest | None:
        """The digest behind a tag or digest, or None when there is no such manifest."""
        tail = f"manifests/{reference}"
        answer = self._call("HEAD", repository, tail, _PULL, headers=_ACCEPT, allow=(200, 404, 405))
        if answer.status == 404:
            return None
        told = answer.headers.get("docker-content-digest", "")
        try:
            return parse_digest(told)
        except FormatError:
            found = self._find(repository, reference)
            return found.digest if found else None

    def get_manifest(self, repository: str, reference: str) -> Manifest:
        """The manifest or index behind a tag or digest; by digest it is verified (DigestMismatch)."""
        found = self._find(repository, reference)
        if found is None:
            raise RegistryError(f"{self.host}/{repository} has no {_reference_words(reference)}")
        return found

    def put_manifest(self, repository: str, reference: str, media_type: str, raw: bytes) -> Digest:
        """Put a manifest or index under a tag or its digest; returns its digest. What it names must be there already."""
        self._put(repository, reference, media_type, raw)
        return digest_of(raw)

    def delete(self, repository: str, digest: Digest) -> None:
        """Delete a manifest or index by digest, and so every tag on it."""
        answer = self._call(
            "DELETE",
            repository,
            f"manifests/{digest}",
            frozenset({"pull", "delete"}),
            allow=(200, 202, 204, 404, 405),
        )
        if answer.status == 404:
            raise RegistryError(f"{self.host}/{repository} has no {_reference_words(digest)}")
        if answer.status == 405:
            raise RegistryError(
                f"{self.host} does not delete",
                hint="a docker-registry wants storage.delete.enabled in its configuration",
            )

    # ---- referrers

    def referrers(self, repository: str, subject: Digest) -> list[dict[str, Any]]:
        """Descriptors of what refers to `subject`: by the referrers API, or by the tag that stands in for it."""
        tail = f"referrers/{subject}"
        answer = self._call("GET", repository, tail, _PULL, allow=(200, 400, 404, 405))
        if answer.status == 200:
            return _descriptors(answer.body, f"{self.host}/{repository}: referrers")
        found = self._find(repository, _referrers_tag(subject))
        return _descriptors(found.raw, f"{self.host}/{repository}: referrers") if found else []

    def put_referrer(self, repository: str, media_type: str, raw: bytes) -> Digest:
        """Put a manifest that has a `subject`; where the registry does not list referrers by itself, add it to the tag
        `sha256-<hex>` that stands in (distribution-spec, "Referrers Tag Schema")."""
        content = json.loads(raw)
        digest = digest_of(raw)
        subject = parse_digest(content["subject"]["digest"])
        answer = self._put(repository, digest, media_type, raw)
        if "oci-subject" in answer.headers:
            return digest
        known = self._find(repository, _referrers_tag(subject))
        entries = _descriptors(known.raw, f"{self.host}/{repository}: referrers") if known else []
        if digest not in [entry.get("digest") for entry in entries]:
            entry = {"mediaType": media_type, "digest": digest, "size": len(raw)}
            kind = content.get("artifactType") or (content.get("config") or {}).get("mediaType")
            entry |= {"artifactType": kind} if kind else {}
            entry |= {"annotations": content["annotations"]} if content.get("annotations") else {}
            index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [*entries, entry]}
            rendered = json.dumps(index, separators=(",", ":")).encode()
            self._put(repository, _referrers_tag(subject), INDEX_TYPES[0], rendered)
        return digest

    # ---- lists

    def tags(self, repository: str) -> list[str]:
        """The repository's tags, sorted. Raises RegistryError when there is no such repository."""
        return sorted(self._pages(repository, "tags/list?n=1000", "tags"))

    def repositories(self) -> list[str]:
        """All repositories that the registry shows us, sorted (its catalog; not every registry has one)."""
        return sorted(self._pages("", "_catalog?n=1000", "repositories"))

    # ---- inside: asking

    def _url(self) -> str:
        """`scheme://host`, found out once."""
        with self._finding:
            if not self._base:
                self._base = self._find_base()
            return self._base

    def _find_base(self) -> str:
        host = "registry-1.docker.io" if self.host in HUB_HOSTS else self.host
        if self._plain_http:
            return self._ping(f"http://{host}")
        if not is_loopback(host):
            return self._ping(f"https://{host}")
        try:
            return self._ping(f"https://{host}", attempts=1)
        except RegistryError as error:
            if isinstance(error.__cause__, TransferFailed) or "does not speak TLS" in error.message:
                return self._ping(f"http://{host}")
            raise

    def _name(self, repository: str) -> str:
        """Docker Hub's own images are in `library/`, which nobody says."""
        short = repository and "/" not in repository and self.host in HUB_HOSTS
        return f"library/{repository}" if short else repository

    def _ping(self, base: str, attempts: int | None = None) -> str:
        try:
            answer = self._http.exchange("GET", f"{base}/v2/", attempts=attempts)
        except TlsFailed as error:
            untrusted = "certificate" in error.message
            hint = "--tls-ca FILE names a certificate to trust" if untrusted else "--plain-http, if it has no TLS"
            raise RegistryError(f"the registry {_without_url(error, self.host)}", hint=hint) from error
        except FetchError as error:
            raise RegistryError(f"the registry {_without_url(error, self.host)}", hint=error.hint) from error
        if answer.status not in (200, 401, 403):
            raise RegistryError(f"{self.host} is not a registry: {base}/v2/ answers {answer.status}")
        return base

    def _call(
        self,
        method: str,
        repository: str,
        tail: str,
        actions: frozenset[str],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        allow: Collection[int] = (200,),
        limit: int = _MAX_MANIFEST,
    ) -> Answer:
        """One request below `/v2/REPOSITORY/`. Raises RegistryError for a status that is not allowed."""
        repository = self._name(repository)
        wanted = _scopes(repository, actions)
        url = self._url() + _path(repository, tail)
        what = f"{method} {tail}" if not repository else f"{method} {repository}/{tail}"
        with self._told(what):
            answer = self._authorized(
                wanted,
                repository,
                lambda extra: self._http.exchange(
                    method, url, headers={**(headers or {}), **extra}, body=body, limit=limit, final=_is_full
                ),
            )
        if answer.status not in allow:
            raise self._refusal(what, answer, repository)
        return answer

    def _step(self, ask: Ask, scopes: frozenset[str], repository: str) -> Answer:
        """One step of an upload: sent once, because the session's state is not known after a failure."""
        headers = {**ask.headers, "content-length": str(ask.length)} if ask.body is not None else ask.headers
        # before it answers, the registry hashes what it was sent, and may copy it elsewhere
        stall = self._http.patience.stall + ask.length / _SETTLING_SPEED
        ours = urlsplit(ask.url)[:2] == urlsplit(self._url())[:2]

        def send(extra: Mapping[str, str]) -> Answer:
            sent = {**headers, **extra} if ours else headers
            try:
                return self._http.exchange(ask.method, ask.url, headers=sent, body=ask.body, attempts=1, stall=stall)
            except TransferFailed as failed:
                raise Again(failed.message.partition(": ")[2]) from None

        return self._authorized(scopes, repository, send) if ours else send({})

    def _authorized(
        self, scopes: frozenset[str], repository: str, send: Callable[[Mapping[str, str]], Answer]
    ) -> Answer:
        """Send with what is known of us; after a 401 once more with what its challenge asks for."""
        header = self._auth.header(scopes, repository)
        answer = send({"authorization": header} if header else {})
        for _ in range(2):  # the second time when another thread's fresh token was not taken either
            if answer.status != 401:
                return answer
            try:
                better = self._auth.answer(answer, header, scopes, repository)
            except FetchError as error:
                raise RegistryError(f"{self.host}: no token: {error.message}", hint=error.hint) from error
            if better is None:
                return answer
            header = better
            answer = send({"authorization": header})
        return answer

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Failures on the way as RegistryError, with what was being done."""
        try:
            yield
        except FetchError as error:
            reason = _without_url(error, self.host)
            gone = "went away" if isinstance(error, TransferFailed) else "failed"
            raise RegistryError(f"the registry {gone} at {what}: {reason}", hint=error.hint) from error

    def _refusal(self, what: str, answer: Answer, repository: str) -> RegistryError:
        """The registry's No, in words: what, why in its own words, and what helps."""
        said = _errors_of(answer)
        said = f": {said}" if said else ""
        if answer.status in (401, 403):
            looked = self._auth.looked(repository)
            hint = f"log in (docker login {self.host}), or ask for the right to do this"
            return RegistryError(f"{self.host} refuses {what} ({answer.status}, asked {looked}){said}", hint=hint)
        if _is_full(answer):
            return RegistryError(f"{self.host} is full: {what} was not taken ({answer.status}){said}")
        if answer.status == 413:
            hint = "the registry, or a proxy in front of it, limits the size of a request"
            return RegistryError(f"{what} is too large for {self.host} (413){said}", hint=hint)
        if answer.status == 429:
            return RegistryError(
                f"{self.host} answers {what} with too many requests (429){said}", hint="try again later"
            )
        return RegistryError(f"{self.host} answers {answer.status} to {what}{said}")

    # ---- inside: manifests and lists

    def _find(self, repository: str, reference: str) -> Manifest | None:
        answer = self._call("GET", repository, f"manifests/{reference}", _PULL, headers=_ACCEPT, allow=(200, 404))
        if answer.status == 404:
            return None
        digest = digest_of(answer.body)
        promised = reference if reference.startswith("sha256:") else answer.headers.get("docker-content-digest", digest)
        if promised != digest:
            raise DigestMismatch(f"{self.host}/{repository}: {reference}: expected {promised}, got {digest}")
        return Manifest(_media_type(answer), digest, answer.body)

    def _put(self, repository: str, reference: str, media_type: str, raw: bytes) -> Answer:
        headers = {"content-type": media_type}
        answer = self._call(
            "PUT", repository, f"manifests/{reference}", _PUSH, headers=headers, body=raw, allow=(200, 201, 202)
        )
        told = answer.headers.get("docker-content-digest")
        if told and told.startswith("sha256:") and told != digest_of(raw):
            raise DigestMismatch(
                f"{self.host}/{repository} took {reference} as {told}, where {digest_of(raw)} was sent"
            )
        return answer

    def _pages(self, repository: str, tail: str, key: str) -> Iterator[str]:
        """Names from a list in pages (distribution-spec, "Listing Tags": a Link header leads on)."""
        seen: set[str] = set()
        for _ in range(_MAX_PAGES):
            answer = self._call("GET", repository, tail, _PULL)
            try:
                names = json.loads(answer.body).get(key) or []
            except (ValueError, AttributeError):
                raise RegistryError(f"{self.host}: the list of {key} is not JSON") from None
            fresh = [name for name in names if isinstance(name, str) and name not in seen]
            seen.update(fresh)
            yield from fresh
            following = _NEXT.search(answer.headers.get("link", ""))
            if not following or not fresh:
                return
            target = urlsplit(urljoin(answer.url, following[1]))
            tail = tail.partition("?")[0] + (f"?{target.query}" if target.query else "")


# ---- plain functions


def digest_words(digest: Digest) -> str:
    """A digest short enough for a sentence."""
    return f"sha256:{hex_of(digest)[:12]}…"


def _reference_words(reference: str) -> str:
    return f"manifest {reference}" if reference.startswith("sha256:") else f"tag '{reference}'"


def _path(repository: str, tail: str) -> str:
    return "/v2/" + quote(f"{repository}/{tail}" if repository else tail, safe="/:?&=%,+@~")


def _scopes(repository: str, actions: frozenset[str]) -> frozenset[str]:
    """What a token server is asked for (distribution's `spec/auth/scope.md`)."""
    name = f"repository:{repository}:{','.join(sorted(actions))}" if repository else "registry:catalog:*"
    return frozenset({name})


def _without_url(error: FetchError, host: str) -> str:
    """The reason of a failed request, told of the host instead of the URL."""
    reason = re.sub(r"\Ahttps?://\S+: ", "", error.message)
    return f"{host}: {reason}"


def _may_pass(answer: Answer) -> bool:
    """Whether a new session may do better: the registry was restarted, or is busy."""
    lost = answer.status == 404 and b"BLOB_UPLOAD_UNKNOWN" in answer.body
    return lost or (not _is_full(answer) and (answer.status in (408, 425, 429, 500, 502, 503, 504)))


def _is_full(answer: Answer) -> bool:
    return answer.status == 507 or (answer.status >= 400 and _FULL.search(answer.body) is not None)


def _errors_of(answer: Answer) -> str:
    """What the registry says is wrong (distribution-spec, "Error Codes"), or the start of what it says."""
    try:
        errors = json.loads(answer.body)["errors"]
        said = [_error_words(error) for error in errors]
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.body[:200].decode(errors="replace").strip()
        return "" if "<html" in text.lower() else " ".join(text.split())
    return "; ".join(text for text in said if text)


def _error_words(error: Mapping[str, Any]) -> str:
    words = ": ".join(str(error[key]) for key in ("code", "message") if error.get(key))
    detail = error.get("detail")
    if not detail:
        return words
    return f"{words} ({detail if isinstance(detail, str) else json.dumps(detail)[:200]})"


def _media_type(answer: Answer) -> str:
    """The manifest's own word for what it is, or the header's."""
    try:
        named = json.loads(answer.body).get("mediaType")
    except (ValueError, AttributeError):
        named = None
    return named if isinstance(named, str) else answer.headers.get("content-type", "").partition(";")[0].strip()


def _referrers_tag(subject: Digest) -> str:
    return subject.replace(":", "-")


def _descriptors(raw: bytes, what: str) -> list[dict[str, Any]]:
    try:
        entries = json.loads(raw)["manifests"]
        return [entry for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError):
        raise RegistryError(f"{what}: not an index") from None
