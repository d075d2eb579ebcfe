"""Challenges, and the credentials files of Docker and Podman."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from sixsmith.errors import RegistryError, UsageError
from sixsmith.io.registry_auth import Challenge, CredentialSource, parse_challenges

HOST = "reg.example:5000"


def pair(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def program(folder: Path, name: str, answer: str, code: int = 0, noise: str = "") -> None:
    """A credential program that notes what it was asked and answers this."""
    folder.mkdir(exist_ok=True)
    path = folder / f"docker-credential-{name}"
    path.write_text(
        f"#!/bin/sh\necho \"$1 $(cat)\" >> '{folder}/asked'\necho '{answer}'\necho '{noise}' >&2\nexit {code}\n"
    )
    path.chmod(0o755)


def source(home: Path, **environment: str) -> CredentialSource:
    return CredentialSource({"PATH": f"{home / 'bin'}:{os.environ['PATH']}", **environment}, home)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Basic realm="a registry, or two"', [("basic", {"realm": "a registry, or two"})]),
        (
            'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "registry.example",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            'bearer realm="https://x/t" , service=plain, Basic realm="r"',
            [("bearer", {"realm": "https://x/t", "service": "plain"}), ("basic", {"realm": "r"})],
        ),
        (r'Basic realm="say \"hi\""', [("basic", {"realm": 'say "hi"'})]),
        ("Basic", [("basic", {})]),
        ("", []),
        ("!?,=,", []),
    ],
)
def test_challenges_are_read(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(header) == [Challenge(scheme, parameters) for scheme, parameters in expected]


@pytest.mark.parametrize(
    "key", [HOST, f"https://{HOST}", f"http://{HOST}/", f"https://{HOST}/v1/", f"https://{HOST}/v2/"]
)
def test_an_entry_is_found_however_it_was_written(tmp_path: Path, key: str) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {"other:5000": pair("x", "y"), key: pair("me", "a:b c")}})
    found = source(tmp_path).find(HOST)
    assert found and (found.user, found.password) == ("me", "a:b c")
    assert found.source == f"{tmp_path}/.docker/config.json, entry '{HOST}'"
    assert found.basic() == "Basic " + base64.b64encode(b"me:a:b c").decode()
    assert "a:b c" not in repr(found)


def test_a_longer_path_wins_and_other_hosts_do_not(tmp_path: Path) -> None:
    auths = {HOST: pair("all", "1"), f"{HOST}/team": pair("team", "2"), f"{HOST}/team/app": pair("app", "3")}
    write(tmp_path / ".docker" / "config.json", {"auths": auths})
    found = [source(tmp_path).find(HOST, name) for name in ("web", "team/web", "team/app", "team/apple", "")]
    assert [one.user for one in found if one] == ["all", "team", "app", "team", "all"]
    assert source(tmp_path).find("reg.example") is None
    assert source(tmp_path).find("evil." + HOST) is None


def test_files_are_looked_through_in_order(tmp_path: Path) -> None:
    places = [
        tmp_path / "explicit.json",
        tmp_path / "docker" / "config.json",
        tmp_path / "run" / "containers" / "auth.json",
        tmp_path / ".config" / "containers" / "auth.json",
    ]
    environment = {
        "REGISTRY_AUTH_FILE": str(places[0]),
        "DOCKER_CONFIG": str(places[1].parent),
        "XDG_RUNTIME_DIR": str(tmp_path / "run"),
    }
    looking = source(tmp_path, **environment)
    assert looking.files() == places
    assert looking.find(HOST) is None
    for number, place in reversed(list(enumerate(places))):
        write(place, {"auths": {HOST: pair(f"user{number}", "x")}})
        found = looking.find(HOST)
        assert found and found.user == f"user{number}"


def test_docker_hub_goes_by_its_old_name(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"auths": {"https://index.docker.io/v1/": pair("hub", "x")}})
    for host in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        found = source(tmp_path).find(host)
        assert found and found.user == "hub"


def test_an_identity_token_and_a_plain_pair_are_read(tmp_path: Path) -> None:
    auths = {
        "a.example": {**pair("<token>", ""), "identitytoken": "refresh"},
        "b.example": {"username": "me", "password": "x"},
        "c.example": {},
    }
    write(tmp_path / ".docker" / "config.json", {"auths": auths})
    found = source(tmp_path).find("a.example")
    assert found and (found.identity_token, found.password) == ("refresh", "")
    found = source(tmp_path).find("b.example")
    assert found and (found.user, found.password) == ("me", "x")
    assert source(tmp_path).find("c.example") is None


# ---- credential programs


def test_a_program_for_one_host_wins(tmp_path: Path) -> None:
    program(tmp_path / "bin", "one", '{"ServerURL": "x", "Username": "helped", "Secret": "s"}')
    content = {"credHelpers": {HOST: "one"}, "auths": {HOST: pair("me", "x")}, "credsStore": "absent"}
    write(tmp_path / ".docker" / "config.json", content)
    found = source(tmp_path).find(HOST)
    assert found and (found.user, found.password, found.source) == ("helped", "s", "docker-credential-one")
    assert (tmp_path / "bin" / "asked").read_text() == f"get {HOST}\n"


def test_the_store_program_is_asked_for_the_rest(tmp_path: Path) -> None:
    program(tmp_path / "bin", "all", '{"Username": "<token>", "Secret": "refresh"}')
    content = {"auths": {HOST: {}, "docker.io": {}}, "credsStore": "all"}
    write(tmp_path / ".docker" / "config.json", content)
    found = source(tmp_path).find(HOST)
    assert found and found.identity_token == "refresh"
    source(tmp_path).find("docker.io")
    assert (tmp_path / "bin" / "asked").read_text() == f"get {HOST}\nget https://index.docker.io/v1/\n"


def test_a_program_that_knows_nothing_is_no_error(tmp_path: Path) -> None:
    program(tmp_path / "bin", "none", "credentials not found in native keychain", code=1)
    write(tmp_path / ".docker" / "config.json", {"credsStore": "none"})
    assert source(tmp_path).find(HOST) is None


@pytest.mark.parametrize(
    ("name", "answer", "code", "words"),
    [
        ("broken", "the keychain is locked", 1, "docker-credential-broken failed: the keychain is locked"),
        ("odd", "hello", 0, "not credentials"),
        ("short", '{"Username": "me"}', 0, "not credentials"),
    ],
)
def test_a_program_that_fails_is_said(tmp_path: Path, name: str, answer: str, code: int, words: str) -> None:
    program(tmp_path / "bin", name, answer, code)
    write(tmp_path / ".docker" / "config.json", {"credsStore": name})
    with pytest.raises(RegistryError, match=words):
        source(tmp_path).find(HOST)


def test_a_program_that_is_not_installed_is_said(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"credHelpers": {HOST: "absent"}})
    with pytest.raises(RegistryError, match="docker-credential-absent, which is not installed"):
        source(tmp_path).find(HOST)


def test_a_program_is_a_name_and_no_path(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"credsStore": "../../bin/sh"})
    with pytest.raises(UsageError, match="no name for a credential program"):
        source(tmp_path).find(HOST)


# ---- files that are wrong


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), (json.dumps({"auths": {HOST: {"auth": "%%%"}}}), "is not base64 of user:password")],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path / ".docker" / "config.json", {}).write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        source(tmp_path).find(HOST)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize("content", [[], {"auths": []}, {"auths": {HOST: 1}}, {"credHelpers": 1, "credsStore": 1}, {}])
def test_a_file_of_another_shape_knows_nobody(tmp_path: Path, content: object) -> None:
    write(tmp_path / ".docker" / "config.json", content)
    assert source(tmp_path).find(HOST) is None
