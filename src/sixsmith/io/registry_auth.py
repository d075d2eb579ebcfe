"""Who we are to a registry: challenges, tokens, and the credentials files of Docker and Podman.

A registry that wants to know answers 401 with a challenge. `Basic` takes user and password as they are; `Bearer` names a
token server, which gives a short-lived token for a scope (`repository:web:pull,push`) to whoever has credentials, or to
anybody. Tokens are kept by scope and asked for anew when the registry does not take them any more.

Where credentials come from, the first hit wins (containers-auth.json(5), Docker's config.json):

    $REGISTRY_AUTH_FILE                           Podman's own wish
    $DOCKER_CONFIG/config.json, or ~/.docker/config.json
    $XDG_RUNTIME_DIR/containers/auth.json         Podman
    ~/.config/containers/auth.json                Podman, kept

and within a file `credHelpers`, then `auths`, then `credsStore`, the last of which are programs called `docker-credential-NAME`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import msgspec

from sixsmith.errors import RegistryError, UsageError
from sixsmith.io.http import Answer, Http

__all__ = ["HUB_HOSTS", "Authenticator", "Challenge", "CredentialSource", "Credentials", "parse_challenges"]

_DOCKER_HUB = "https://index.docker.io/v1/"
HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
_CHALLENGE = r'\s*,?\s*(?:([A-Za-z][\w-]*)\s+(?=\w+\s*=)|(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+)))'
_PROGRAM = r"[A-Za-z0-9._-]+\Z"
_HELPER_PATIENCE = 30  # seconds: some ask the person at the screen


class Challenge(msgspec.Struct, frozen=True):
    """What a 401 asks for: `scheme` in lower case, and its parameters (RFC 9110 section 11.6.1)."""

    scheme: str
    parameters: Mapping[str, str]


class Credentials(msgspec.Struct, frozen=True):
    """User and password, or an identity token; `source` says where they were found."""

    user: str
    password: str
    source: str
    identity_token: str = ""

    def __repr__(self) -> str:  # what is secret reaches no log
        return f"Credentials(user={self.user!r}, source={self.source!r})"

    def basic(self) -> str:
        """As the value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a WWW-Authenticate header. What is not understood is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for word in re.findall(r"(?:^|,)\s*(Basic|Negotiate)\s*(?=,|$)", header, re.IGNORECASE):
        found.append((word.lower(), {}))
    for match in re.finditer(_CHALLENGE, header):
        scheme, name, quoted, bare = match.groups()
        if scheme:
            found.append((scheme.lower(), {}))
        elif found:
            found[-1][1][name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
    return [Challenge(scheme, parameters) for scheme, parameters in found]


class CredentialSource:
    """The credentials files of this user.

    `environment` and `home` are those of the process (only the command line reads them); `explicit` wins over all files.
    """

    def __init__(self, environment: Mapping[str, str], home: Path, *, explicit: Credentials | None = None) -> None:
        self._environment = environment
        self._home = home
        self._explicit = explicit

    def files(self) -> list[Path]:
        """Where credentials are looked for, in order."""
        environment = self._environment
        docker = Path(environment["DOCKER_CONFIG"]) if environment.get("DOCKER_CONFIG") else self._home / ".docker"
        files = [docker / "config.json"]
        if environment.get("REGISTRY_AUTH_FILE"):
            files.insert(0, Path(environment["REGISTRY_AUTH_FILE"]))
        if environment.get("XDG_RUNTIME_DIR"):
            files.append(Path(environment["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
        kept = Path(environment.get("XDG_CONFIG_HOME") or self._home / ".config")
        return [*files, kept / "containers" / "auth.json"]

    def find(self, host: str, repository: str = "") -> Credentials | None:
        """Credentials for this registry (`host[:port]`), or None. A longer path in a file wins (`host/team/app`).

        Raises UsageError for a file that cannot be read as one, RegistryError for a credential program that fails.
        """
        if self._explicit:
            return self._explicit
        for file in self.files():
            content = _load(file)
            found = content and self._find_in(content, file, host, repository)
            if found:
                return found
        return None

    def _find_in(self, content: Mapping[str, Any], file: Path, host: str, repository: str) -> Credentials | None:
        helpers = content.get("credHelpers")
        names = list(_names_of(host, repository))
        if isinstance(helpers, dict):
            for name in names:
                if isinstance(helpers.get(name), str):
                    return self._ask(helpers[name], name)
        auths = content.get("auths")
        entries = {_bare(key): entry for key, entry in auths.items()} if isinstance(auths, dict) else {}
        for name in names:
            entry = entries.get(_bare(name))
            credentials = _from_entry(entry, f"{file}, entry '{_bare(name)}'") if isinstance(entry, dict) else None
            if credentials:
                return credentials
        store = content.get("credsStore")
        if isinstance(store, str) and store:
            return self._ask(store, _DOCKER_HUB if host in HUB_HOSTS else host)
        return None

    def _ask(self, program: str, server: str) -> Credentials | None:
        """Credentials from `docker-credential-PROGRAM get` (docker-credential-helpers' protocol)."""
        import subprocess

        name = f"docker-credential-{program}"
        if not re.match(_PROGRAM, program):
            raise UsageError(f"'{program}' is no name for a credential program")
        try:
            done = subprocess.run(
                [name, "get"],
                input=server.encode(),
                capture_output=True,
                timeout=_HELPER_PATIENCE,
                env=dict(self._environment),
                check=False,
            )
        except FileNotFoundError:
            raise RegistryError(
                f"the credentials for {server} are kept by {name}, which is not installed",
                hint="install it, or log in again with a plain credentials file",
            ) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RegistryError(f"{name} failed ({error})") from None
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode:
            if "not found" in said + done.stderr.decode(errors="replace"):
                return None
            raise RegistryError(f"{name} failed: {said or done.stderr.decode(errors='replace').strip()}")
        try:
            answer = json.loads(said)
            user, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, KeyError, TypeError):
            raise RegistryError(f"{name} answered with something that is not credentials") from None
        token = secret if user == "<token>" else ""
        return Credentials(user, "" if token else secret, name, token)


def _load(file: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UsageError(f"{file} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{file} is not JSON ({error})") from None
    return content if isinstance(content, dict) else None


def _names_of(host: str, repository: str) -> Iterator[str]:
    """The names under which a registry's credentials may be kept, most specific first."""
    parts = repository.split("/") if repository else []
    for length in range(len(parts), 0, -1):
        yield "/".join([host, *parts[:length]])
    yield host
    if host in HUB_HOSTS:
        yield _DOCKER_HUB
        yield from (name for name in HUB_HOSTS if name != host)


def _bare(key: str) -> str:
    """A key of `auths` without scheme and API version: `https://host/v1/` is `host`."""
    return re.sub(r"/v[12]/?\Z", "", re.sub(r"\Ahttps?://", "", key)).rstrip("/")


def _from_entry(entry: Mapping[str, Any], source: str) -> Credentials | None:
    """Credentials of one entry of `auths`; an empty entry is one that a credential program keeps."""
    token = entry.get("identitytoken")
    user, password = entry.get("username"), entry.get("password")
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        try:
            pair = base64.b64decode(entry["auth"], validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise UsageError(f"{source}: 'auth' is not base64 of user:password") from None
        user, _, password = pair.partition(":")
        password = password.rstrip("\0")
    if isinstance(token, str) and token:
        return Credentials(str(user or ""), "", source, token)
    return Credentials(user, str(password or ""), source) if isinstance(user, str) and user else None


class Authenticator:
    """Answers the challenges of one registry, and remembers what worked. Safe to use from many threads."""

    def __init__(self, host: str, http: Http, source: CredentialSource | None, *, secure: Callable[[], bool]) -> None:
        self._host = host
        self._http = http
        self._source = source
        self._secure = secure
        self._asking = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[frozenset[str], str] = {}
        self._found: dict[str, Credentials | None] = {}

    def header(self, scopes: frozenset[str], repository: str) -> str | None:
        """The Authorization header to send at once, from what is known; None before the first challenge."""
        if self._challenge is None:
            return None
        if self._challenge.scheme == "basic":
            credentials = self.credentials(repository)
            return credentials.basic() if credentials else None
        return self._tokens.get(scopes)

    def answer(self, refused: Answer, sent: str | None, scopes: frozenset[str], repository: str) -> str | None:
        """The Authorization header to try after a 401, or None when there is nothing (else) to try.

        `sent` is what was refused. Raises RegistryError when the token server does not give a token.
        """
        with self._asking:
            if (known := self.header(scopes, repository)) and known != sent:
                return known  # another thread was faster
            challenges = parse_challenges(refused.headers.get("www-authenticate", ""))
            by_scheme = {challenge.scheme: challenge for challenge in challenges}
            self._challenge = by_scheme.get("bearer") or by_scheme.get("basic")
            if self._challenge is None:
                return None
            if self._challenge.scheme == "bearer":
                self._tokens[scopes] = "Bearer " + self._fetch_token(self._challenge, scopes, repository)
            header = self.header(scopes, repository)
            return header if header != sent else None

    def credentials(self, repository: str = "") -> Credentials | None:
        """Credentials for this registry and repository, looked up once."""
        if repository not in self._found:
            self._found[repository] = self._source.find(self._host, repository) if self._source else None
        return self._found[repository]

    def looked(self, repository: str = "") -> str:
        """Which credentials were used or looked for, for messages."""
        credentials = self.credentials(repository)
        if credentials:
            who = f"user '{credentials.user}'" if credentials.user.strip("<>") else "an identity token"
            return f"with {who} from {credentials.source}"
        if not self._source:
            return "without credentials"
        return "without credentials: none for it in " + ", ".join(str(file) for file in self._source.files())

    def _fetch_token(self, challenge: Challenge, scopes: frozenset[str], repository: str) -> str:
        """A bearer token (distribution's `spec/auth/token.md` and `oauth.md`)."""
        realm = challenge.parameters.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise RegistryError(f"{self._host} asks for a token and names no server for it ({realm!r})")
        credentials = self.credentials(repository)
        if credentials and self._secure() and urlsplit(realm).scheme != "https":
            raise RegistryError(f"{self._host} wants credentials sent to {realm}, without TLS, which is refused")
        asked: list[tuple[str, str]] = [("service", challenge.parameters.get("service", ""))]
        # what the registry names in its challenge it knows best; our own scopes may be wider (a mount reads elsewhere)
        wanted = sorted(scopes) or challenge.parameters.get("scope", "").split()
        asked += [("scope", scope) for scope in wanted]
        if credentials and credentials.identity_token:
            answer = self._exchange_identity(realm, asked, credentials.identity_token)
        else:
            headers = {"authorization": credentials.basic()} if credentials else {}
            if credentials:
                asked.append(("account", credentials.user))
            query = urlencode([(name, value) for name, value in asked if value])
            joint = "&" if urlsplit(realm).query else "?"
            answer = self._http.exchange("GET", f"{realm}{joint}{query}" if query else realm, headers=headers)
        return self._read_token(answer, realm, repository)

    def _exchange_identity(self, realm: str, asked: list[tuple[str, str]], token: str) -> Answer:
        scope = " ".join(value for name, value in asked if name == "scope")
        form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "sixsmith", "scope": scope}
        form["service"] = dict(asked)["service"]
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return self._http.exchange("POST", realm, headers=headers, body=urlencode(form).encode())

    def _read_token(self, answer: Answer, realm: str, repository: str) -> str:
        if answer.status != 200:
            raise RegistryError(
                f"{self._host}: the token server {realm} answers {answer.status}, asked {self.looked(repository)}",
                hint=f"log in: docker login {self._host}" if answer.status in (401, 403) else None,
            )
        try:
            content = json.loads(answer.body)
            token = content.get("token") or content.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryError(f"{self._host}: the token server {realm} answers without a token")
        return token
