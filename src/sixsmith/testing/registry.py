"""A small OCI registry in memory, on loopback: real enough to push to and pull from, and able to misbehave.

It follows the distribution-spec where that matters to a client: uploads in one POST, whole or in chunks, mounts, digests
that are checked, manifests whose blobs must be there, tags in pages, deletion by digest, referrers by API or not at all,
Basic and Bearer authentication. Its ways can be set (`Ways`), and single requests can be made to fail (`Fault`).
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from sixsmith.model.digest import Digest, digest_of
from sixsmith.testing.loopback import Fault, Loopback, Reply, Request

__all__ = ["FakeRegistry", "Ways", "busy", "full", "refusal"]

_NAME = r"(?P<name>[a-z0-9][a-z0-9._/-]*?)"
_ROUTES = [
    ("base", re.compile(r"/v2/\Z")),
    ("catalog", re.compile(r"/v2/_catalog\Z")),
    ("token", re.compile(r"/token\Z")),
    ("uploads", re.compile(rf"/v2/{_NAME}/blobs/uploads/\Z")),
    ("session", re.compile(rf"/v2/{_NAME}/blobs/uploads/(?P<what>[\w-]+)\Z")),
    ("blob", re.compile(rf"/v2/{_NAME}/blobs/(?P<what>[\w:.-]+)\Z")),
    ("manifest", re.compile(rf"/v2/{_NAME}/manifests/(?P<what>[\w:.-]+)\Z")),
    ("tags", re.compile(rf"/v2/{_NAME}/tags/list\Z")),
    ("referrers", re.compile(rf"/v2/{_NAME}/referrers/(?P<what>[\w:.-]+)\Z")),
]
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class Ways:
    """How this registry does what the specification leaves open.

    `account` is user and password; `tokens` makes it a Bearer challenge. `capacity` is in bytes of all blobs and manifests;
    `page` the most names in one list; `chunk_limit` the most bytes of one request's body.
    """

    account: tuple[str, str] | None = None
    tokens: bool = False
    single_post: bool = True
    monolithic: bool = True
    mounts: bool = True
    deletes: bool = True
    referrers: bool = True
    digest_header: bool = True
    relative: bool = False
    page: int = 1000
    capacity: int | None = None
    chunk_limit: int | None = None
    least_chunk: int = 0


@dataclass(slots=True)
class _Repository:
    blobs: set[Digest] = field(default_factory=set)
    manifests: dict[Digest, tuple[str, bytes]] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)


def refusal(path: str = "", method: str = "", *, times: int = 1, status: int = 403) -> Fault:
    """The registry says that this is denied."""
    return Fault("status", method, path, times, status=status, body=_errors("DENIED", "requested access is denied"))


def full(path: str = "", method: str = "", *, times: int = 1, status: int = 500) -> Fault:
    """The registry's disk has no room, told as `docker-registry` tells it."""
    detail = {"DriverName": "filesystem", "Enclosed": {"Op": "write", "Err": 28}}
    return Fault("status", method, path, times, status=status, body=_errors("UNKNOWN", "unknown error", detail))


def busy(path: str = "", method: str = "", *, times: int = 1, seconds: int = 0) -> Fault:
    """The registry wants us to come back later."""
    body = _errors("TOOMANYREQUESTS", "slow down")
    return Fault("status", method, path, times, status=429, headers={"Retry-After": str(seconds)}, body=body)


class FakeRegistry(Loopback):
    """The registry. `blobs` and `repositories` show what it holds; use it with `with`."""

    def __init__(
        self,
        ways: Ways | None = None,
        *,
        faults: Iterable[Fault] = (),
        port: int = 0,
        certificate: Path | None = None,
    ) -> None:
        super().__init__(faults=faults, port=port, certificate=certificate)
        self.ways = ways or Ways()
        self.blobs: dict[Digest, bytes] = {}
        self.repositories: dict[str, _Repository] = {}
        self.tokens: dict[str, set[str]] = {}
        self._sessions: dict[str, bytearray] = {}
        self._writing = threading.RLock()

    def holds(self, name: str, tag: str) -> Digest | None:
        """The digest behind a tag, or None."""
        repository = self.repositories.get(name)
        return repository.tags.get(tag) if repository else None

    def expire_tokens(self) -> None:
        """From now on no token that was given is taken any more."""
        self.tokens.clear()

    def answer(self, request: Request) -> Reply:
        """The answer as the specification has it."""
        for route, pattern in _ROUTES:
            if matched := pattern.match(request.path):
                parts = matched.groupdict()
                if route != "token" and (refused := self._who(request, parts.get("name", ""))):
                    return refused
                limit = self.ways.chunk_limit
                if limit is not None and int(request.headers.get("content-length") or 0) > limit:
                    return Reply(413, {}, b"<html>request entity too large</html>")
                with self._writing:
                    reply: Reply = getattr(self, f"_{route}")(request, **parts)
                return reply
        return _no(404, "NOT_FOUND", request.path)

    # ---- who is asking

    def _who(self, request: Request, name: str) -> Reply | None:
        """None for somebody who may; otherwise the challenge."""
        if not self.ways.account:
            return None
        sent = request.headers.get("authorization", "")
        if not self.ways.tokens:
            if sent == _basic(*self.ways.account):
                return None
            return Reply(
                401, {"WWW-Authenticate": 'Basic realm="fake, but strict"'}, _errors("UNAUTHORIZED", "who are you?")
            )
        action = "pull" if request.method in ("GET", "HEAD") else "delete" if request.method == "DELETE" else "push"
        scope = f"repository:{name}:{action}" if name else ""
        granted = self.tokens.get(sent.removeprefix("Bearer "))
        if granted is not None and (not scope or scope in granted):
            return None
        wanted = f'Bearer realm="{self.url}/token",service="fake",scope="{scope}"'
        return Reply(401, {"WWW-Authenticate": wanted}, _errors("UNAUTHORIZED", "authentication required"))

    def _token(self, request: Request) -> Reply:
        assert self.ways.account
        form: dict[str, str] = {}
        if request.method == "POST":
            form = dict(parse_qsl(request.read().decode()))
            known = form.get("refresh_token") == self.ways.account[1]
        else:
            known = request.headers.get("authorization") == _basic(*self.ways.account)
        if not known:
            return _no(401, "UNAUTHORIZED", "wrong user or password")
        token = secrets.token_hex(8)
        scopes = [value for name, value in request.pairs if name == "scope"]
        if request.method == "POST":
            scopes = form.get("scope", "").split()
        granted = set()
        for scope in scopes:
            kind, name, actions = [*scope.split(":"), "", ""][:3]
            granted |= {f"{kind}:{name}:{action}" for action in actions.split(",")}
        self.tokens[token] = granted
        return _json(200, {"token": token, "expires_in": 60})

    # ---- lists

    def _base(self, request: Request) -> Reply:
        return _json(200, {})

    def _catalog(self, request: Request) -> Reply:
        return self._page(request, "repositories", sorted(self.repositories), {})

    def _tags(self, request: Request, name: str) -> Reply:
        if name not in self.repositories:
            return _no(404, "NAME_UNKNOWN", name)
        return self._page(request, "tags", sorted(self.repositories[name].tags), {"name": name})

    def _page(self, request: Request, key: str, names: list[str], extra: Mapping[str, Any]) -> Reply:
        last = request.query.get("last", "")
        count = min(int(request.query.get("n", self.ways.page)), self.ways.page)
        ahead = [name for name in names if name > last]
        reply = _json(200, {**extra, key: ahead[:count] or None})
        if len(ahead) > count:
            reply.headers["Link"] = f'<{request.path}?n={count}&last={ahead[count - 1]}>; rel="next"'
        return reply

    def _referrers(self, request: Request, name: str, what: str) -> Reply:
        if not self.ways.referrers:
            return _no(404, "NOT_FOUND", "page not found")
        found = []
        for digest, (media_type, raw) in self._repository(name).manifests.items():
            content = json.loads(raw)
            if (content.get("subject") or {}).get("digest") == what:
                kind = content.get("artifactType") or (content.get("config") or {}).get("mediaType")
                found.append({"mediaType": media_type, "digest": digest, "size": len(raw), "artifactType": kind})
        reply = _json(200, {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": found})
        reply.headers["Content-Type"] = _INDEX_TYPE
        return reply

    # ---- blobs

    def _uploads(self, request: Request, name: str) -> Reply:
        if request.method != "POST":
            return _no(405, "UNSUPPORTED", request.method)
        mount = Digest(request.query.get("mount", ""))
        source = self.repositories.get(request.query.get("from", ""))
        if mount and self.ways.mounts and source and mount in source.blobs:
            self._repository(name).blobs.add(mount)
            return self._created(name, mount)
        if self.ways.single_post and "digest" in request.query:
            return self._finish(name, request.read(), request.query["digest"])
        request.read()
        session = secrets.token_hex(8)
        self._sessions[session] = bytearray()
        reply = self._at(202, name, session)
        if self.ways.least_chunk:
            reply.headers["OCI-Chunk-Min-Length"] = str(self.ways.least_chunk)
        return reply

    def _session(self, request: Request, name: str, what: str) -> Reply:
        taken = self._sessions.get(what)
        if taken is None:
            return _no(404, "BLOB_UPLOAD_UNKNOWN", what)
        if request.method == "GET":
            reply = self._at(204, name, what)
        elif request.method == "PATCH":
            start = int((request.headers.get("content-range") or f"{len(taken)}-").partition("-")[0])
            if start != len(taken):
                return Reply(416, {"Range": f"0-{len(taken) - 1}"})
            taken += request.read()
            reply = self._at(202, name, what)
        elif request.method == "PUT":
            rest = request.read()
            if rest and not self.ways.monolithic:
                return _no(405, "UNSUPPORTED", "by PATCH only")
            del self._sessions[what]
            return self._finish(name, bytes(taken + rest), request.query.get("digest", ""))
        else:
            return _no(405, "UNSUPPORTED", request.method)
        reply.headers["Range"] = f"0-{max(len(taken) - 1, 0)}"
        return reply

    def _at(self, status: int, name: str, session: str) -> Reply:
        path = f"/v2/{name}/blobs/uploads/{session}?state=a%2Bb"
        return Reply(status, {"Location": path if self.ways.relative else self.url + path})

    def _finish(self, name: str, blob: bytes, promised: str) -> Reply:
        digest = digest_of(blob)
        if digest != promised:
            return _no(400, "DIGEST_INVALID", f"provided digest did not match uploaded content: {digest}")
        if self._has_no_room(len(blob)):
            return Reply(500, {}, full().body)
        self.blobs[digest] = blob
        self._repository(name).blobs.add(digest)
        return self._created(name, digest)

    def _created(self, name: str, digest: Digest) -> Reply:
        return Reply(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _blob(self, request: Request, name: str, what: str) -> Reply:
        if what not in self._repository(name, make=False).blobs:
            return _no(404, "BLOB_UNKNOWN", what)
        content = self.blobs[Digest(what)]
        return Reply(200, {"Content-Type": "application/octet-stream", "Docker-Content-Digest": what}, content)

    # ---- manifests

    def _manifest(self, request: Request, name: str, what: str) -> Reply:
        repository = self._repository(name, make=request.method == "PUT")
        if request.method == "PUT":
            return self._put(request, repository, name, what)
        digest = repository.tags.get(what, Digest(what))
        if digest not in repository.manifests:
            return _no(404, "MANIFEST_UNKNOWN", what)
        if request.method == "DELETE":
            if not self.ways.deletes:
                return _no(405, "UNSUPPORTED", "deletion is not enabled")
            if digest != what:
                return _no(400, "DIGEST_INVALID", "delete by digest")
            del repository.manifests[digest]
            repository.tags = {tag: kept for tag, kept in repository.tags.items() if kept != digest}
            return Reply(202)
        media_type, raw = repository.manifests[digest]
        if media_type not in request.headers.get("accept", ""):
            return _no(404, "MANIFEST_UNKNOWN", f"{media_type} is not accepted")
        told = {"Docker-Content-Digest": digest} if self.ways.digest_header else {}
        return Reply(200, {"Content-Type": media_type, **told}, raw)

    def _put(self, request: Request, repository: _Repository, name: str, what: str) -> Reply:
        raw = request.read()
        digest = digest_of(raw)
        if what.startswith("sha256:") and what != digest:
            return _no(400, "DIGEST_INVALID", what)
        try:
            content = json.loads(raw)
        except ValueError:
            return _no(400, "MANIFEST_INVALID", "not JSON")
        for missing in _missing(content, repository):
            return _no(404, "MANIFEST_BLOB_UNKNOWN", missing)
        if self._has_no_room(len(raw)):
            return Reply(500, {}, full().body)
        repository.manifests[digest] = (request.headers.get("content-type", ""), raw)
        if not what.startswith("sha256:"):
            repository.tags[what] = digest
        headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
        if self.ways.referrers and content.get("subject"):
            headers["OCI-Subject"] = content["subject"]["digest"]
        return Reply(201, headers)

    # ---- inside

    def _repository(self, name: str, *, make: bool = True) -> _Repository:
        return self.repositories.setdefault(name, _Repository()) if make else self.repositories.get(name, _Repository())

    def _has_no_room(self, size: int) -> bool:
        if self.ways.capacity is None:
            return False
        manifests = {digest: raw for kept in self.repositories.values() for digest, (_, raw) in kept.manifests.items()}
        used = sum(map(len, self.blobs.values())) + sum(map(len, manifests.values()))
        return used + size > self.ways.capacity


def _missing(content: Mapping[str, Any], repository: _Repository) -> list[str]:
    """What a manifest names and the repository does not have."""
    blobs = [*(content.get("layers") or []), *([content["config"]] if content.get("config") else [])]
    missing = [entry["digest"] for entry in blobs if entry["digest"] not in repository.blobs]
    children = [entry["digest"] for entry in content.get("manifests") or []]
    return missing + [digest for digest in children if digest not in repository.manifests]


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _errors(code: str, message: str, detail: object = None) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message, "detail": detail}]}).encode()


def _no(status: int, code: str, message: str) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, _errors(code, message))


def _json(status: int, content: object) -> Reply:
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(content).encode())
