"""The registry client against a registry that can be told how to behave."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from sixsmith.errors import DigestMismatch, RegistryError
from sixsmith.io.http import Http, Memory, Patience
from sixsmith.io.registry import INDEX_TYPES, MANIFEST_TYPES, Blob, Registry, is_loopback
from sixsmith.io.registry_auth import Credentials, CredentialSource
from sixsmith.model.digest import Digest, digest_of
from sixsmith.testing.certificate import make_certificate
from sixsmith.testing.loopback import Fault
from sixsmith.testing.registry import FakeRegistry, Ways, busy, full, refusal

QUICK = Patience(connect=2, stall=0.3, attempts=3, pause=0.01)
BIG = bytes(range(256)) * 4096  # 1 MiB
SMALL = b'{"config": true}'


def as_blob(content: bytes) -> Blob:
    return Blob(digest_of(content), len(content), lambda: io.BytesIO(content))


def client(server: FakeRegistry, **options: object) -> Registry:
    options.setdefault("http", Http(patience=QUICK))
    return Registry(server.host, **options)  # type: ignore[arg-type]


def user(name: str = "me", password: str = "secret") -> CredentialSource:
    return CredentialSource({}, Path("/nowhere"), explicit=Credentials(name, password, "the test"))


def push_image(registry: Registry, repository: str = "web", *contents: bytes) -> Digest:
    contents = contents or (SMALL, BIG)
    for content in contents:
        registry.upload_blob(repository, as_blob(content))
    entries = [{"digest": digest_of(content), "size": len(content)} for content in contents]
    raw = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "config": entries[0], "layers": entries[1:]})
    return registry.put_manifest(repository, "1.0", MANIFEST_TYPES[0], raw.encode())


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


# ---- blobs


@pytest.mark.parametrize("content", [SMALL, BIG, b""], ids=["small", "big", "empty"])
@pytest.mark.parametrize(
    "ways",
    [
        Ways(),
        Ways(single_post=False),
        Ways(relative=True),
        Ways(monolithic=False),
        Ways(chunk_limit=100_000, single_post=False),
        Ways(monolithic=False, least_chunk=300_000, relative=True, single_post=False),
    ],
    ids=["plain", "no single POST", "relative", "PATCH only", "small requests", "large chunks"],
)
def test_a_blob_gets_there_whatever_the_ways(ways: Ways, content: bytes) -> None:
    with FakeRegistry(ways) as server:
        registry = client(server, chunk=65_536)
        assert not registry.blob_exists("team/web", digest_of(content))
        assert registry.upload_blob("team/web", as_blob(content)).how == "uploaded"
        assert registry.blob_exists("team/web", digest_of(content))
        assert registry.read_blob("team/web", digest_of(content)) == content
        taken = Memory()
        assert registry.fetch_blob("team/web", digest_of(content), taken, size=len(content)) == len(content)
        assert taken.taken == content


def test_chunks_are_as_large_as_the_registry_wants_and_no_larger() -> None:
    with FakeRegistry(Ways(monolithic=False, least_chunk=300_000)) as server:
        client(server, chunk=65_536).upload_blob("web", as_blob(BIG))
        sizes = [int(request.headers["content-length"]) for request in server.asked("PATCH")]
    assert sizes == [300_000, 300_000, 300_000, 148_576]


def test_a_registry_without_single_posts_is_asked_for_one_once() -> None:
    with FakeRegistry(Ways(single_post=False)) as server:
        registry = client(server)
        registry.upload_blob("web", as_blob(b"one"))
        registry.upload_blob("web", as_blob(b"two"))
        assert ["digest" in request.query for request in server.asked("POST")] == [True, False]


def test_a_session_out_of_step_goes_on_where_the_registry_is() -> None:
    """The second PATCH is refused with 416: the session says how far it is."""
    with FakeRegistry(Ways(monolithic=False)) as server:
        server.faults = [Fault("status", "PATCH", times=1, status=416)]
        registry = client(server, chunk=400_000)
        with pytest.raises(RegistryError, match="answers 204"):
            registry.upload_blob("web", as_blob(BIG))  # it has nothing, and does not get on: no endless loop
        server.faults = []
        assert registry.upload_blob("web", as_blob(BIG)).how == "uploaded"


def test_a_blob_is_mounted_from_another_repository(server: FakeRegistry) -> None:
    registry = client(server)
    registry.upload_blob("base", as_blob(BIG))
    assert registry.upload_blob("team/web", as_blob(BIG), mount_from="base").how == "mounted"
    assert registry.blob_exists("team/web", digest_of(BIG))
    assert server.asked("POST")[-1].query == {"mount": digest_of(BIG), "from": "base"}


def test_a_mount_that_is_not_granted_becomes_an_upload() -> None:
    with FakeRegistry(Ways(mounts=False)) as server:
        registry = client(server)
        registry.upload_blob("base", as_blob(BIG))
        assert registry.upload_blob("web", as_blob(BIG), mount_from="base").how == "uploaded"
        server.faults = [refusal("other", "POST")]
        assert registry.upload_blob("other", as_blob(BIG), mount_from="base").how == "uploaded"


def test_wrong_bytes_are_noticed_on_both_sides(server: FakeRegistry) -> None:
    registry = client(server)
    with pytest.raises(RegistryError, match="DIGEST_INVALID"):
        registry.upload_blob("web", Blob(digest_of(BIG), 3, lambda: io.BytesIO(b"bad")))
    registry.upload_blob("web", as_blob(BIG))
    server.faults = [Fault("flip", "GET")]
    with pytest.raises(DigestMismatch):
        registry.read_blob("web", digest_of(BIG))


def test_a_body_that_breaks_off_is_tried_again(server: FakeRegistry) -> None:
    registry = client(server)
    registry.upload_blob("web", as_blob(BIG))
    server.faults = [Fault("break-off", "GET", after=70_000), Fault("stall", "GET", after=70_000)]
    assert registry.read_blob("web", digest_of(BIG)) == BIG
    server.faults = [Fault("break-off", "GET", after=70_000), Fault("stall", "GET", after=70_000)]
    taken = Memory()
    registry.fetch_blob("web", digest_of(BIG), taken)
    assert taken.taken == BIG


# ---- failures of a push


def test_a_registry_that_goes_away_mid_push_is_tried_again(server: FakeRegistry) -> None:
    registry = client(server)
    registry.ping()
    server.faults = [Fault("vanish", "PUT", after=100_000), Fault("vanish", "POST"), Fault("status", "PUT", status=503)]
    with pytest.raises(RegistryError) as caught:
        registry.upload_blob("web", as_blob(BIG))
    assert "went away at pushing sha256:" in str(caught.value)
    assert "then the registry answers 503" in str(caught.value)
    server.faults = [Fault("vanish", "PUT", after=100_000), Fault("status", "PUT", status=502)]
    assert registry.upload_blob("web", as_blob(BIG)).how == "uploaded"
    assert server.blobs[digest_of(BIG)] == BIG


def test_a_session_that_was_lost_is_opened_anew(server: FakeRegistry) -> None:
    lost = json.dumps({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "restarted"}]}).encode()
    server.faults = [Fault("status", "PUT", status=404, body=lost)]
    assert client(server).upload_blob("web", as_blob(BIG)).how == "uploaded"


def test_a_registry_that_stays_away_is_said() -> None:
    with FakeRegistry() as server:
        registry = client(server)
        registry.ping()
    with pytest.raises(RegistryError, match=r"went away at pushing .*\(Connection refused\) \(3 attempts\)") as caught:
        registry.upload_blob("web", as_blob(BIG))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("status", [500, 507])
def test_a_full_registry_is_said_at_once(server: FakeRegistry, status: int) -> None:
    registry = client(server)
    registry.ping()
    server.faults = [full(method="PUT", status=status, times=-1)]
    with pytest.raises(RegistryError, match=f"is full: the blob sha256:.* was not taken.*{status}"):
        registry.upload_blob("web", as_blob(BIG))
    with pytest.raises(RegistryError, match="is full"):
        registry.put_manifest("web", "1.0", MANIFEST_TYPES[0], b"{}")
    assert len(server.asked("PUT")) == 2


def test_a_capacity_is_met_for_real() -> None:
    with FakeRegistry(Ways(capacity=1_500_000)) as server:
        registry = client(server)
        registry.upload_blob("web", as_blob(BIG))
        with pytest.raises(RegistryError, match="is full"):
            registry.upload_blob("web", as_blob(BIG[1:]))


def test_too_large_for_a_proxy_in_front_is_said(server: FakeRegistry) -> None:
    server.faults = [
        Fault("status", "PUT", status=413, times=-1),
        Fault("status", "PATCH", status=413, times=-1),
    ]
    with pytest.raises(RegistryError, match="too large") as caught:
        client(server).upload_blob("web", as_blob(BIG))
    assert "proxy" in (caught.value.hint or "")


def test_a_busy_registry_is_given_time(server: FakeRegistry) -> None:
    pauses: list[float] = []
    registry = client(server, http=Http(patience=QUICK, sleep=pauses.append))
    server.faults = [busy(method="HEAD", seconds=2), busy(method="PUT", seconds=3)]
    assert not registry.blob_exists("web", digest_of(BIG))
    registry.upload_blob("web", as_blob(BIG))
    assert pauses == [2.0, 3.0]
    server.faults = [busy(method="HEAD", times=-1)]
    with pytest.raises(RegistryError, match="429"):
        registry.blob_exists("web", digest_of(BIG))


def test_a_refusal_says_what_and_who(server: FakeRegistry) -> None:
    server.faults = [refusal("manifests", times=-1)]
    registry = client(server, credentials=user())
    with pytest.raises(RegistryError) as caught:
        registry.put_manifest("web", "1.0", MANIFEST_TYPES[0], b"{}")
    text = str(caught.value)
    assert f"{server.host} refuses PUT web/manifests/1.0 (403, asked with user 'me' from the test)" in text
    assert "DENIED: requested access is denied" in text
    assert "secret" not in text
    with pytest.raises(RegistryError, match="asked without credentials"):
        client(server).find_manifest("web", "1.0")


def test_an_unknown_blob_in_a_manifest_is_said(server: FakeRegistry) -> None:
    raw = json.dumps({"schemaVersion": 2, "config": {"digest": digest_of(b"gone"), "size": 4}, "layers": []}).encode()
    with pytest.raises(RegistryError, match=r"answers 404 to PUT web/manifests/1\.0: MANIFEST_BLOB_UNKNOWN"):
        client(server).put_manifest("web", "1.0", MANIFEST_TYPES[0], raw)


# ---- who we are


@pytest.mark.parametrize("tokens", [False, True], ids=["Basic", "Bearer"])
def test_an_account_is_asked_for_and_given(tokens: bool) -> None:
    with FakeRegistry(Ways(account=("me", "secret"), tokens=tokens)) as server:
        registry = client(server, credentials=user())
        digest = push_image(registry)
        assert registry.find_manifest("web", "1.0") == digest
        assert registry.upload_blob("other", as_blob(BIG), mount_from="web").how == "mounted"
        for source in (None, user("me", "wrong"), CredentialSource({}, Path("/nowhere"))):
            with pytest.raises(RegistryError, match="401") as caught:
                client(server, credentials=source).find_manifest("web", "1.0")
            assert "docker login" in (caught.value.hint or "")


def test_tokens_are_kept_by_scope_and_renewed() -> None:
    with FakeRegistry(Ways(account=("me", "secret"), tokens=True)) as server:
        registry = client(server, credentials=user())
        push_image(registry)
        asked = len(server.asked(path="/token"))
        registry.find_manifest("web", "1.0")
        registry.find_manifest("web", "1.0")
        assert len(server.asked(path="/token")) == asked + 1  # to pull alone is another scope than to push
        server.expire_tokens()
        assert registry.find_manifest("web", "1.0")
        server.expire_tokens()
        registry.upload_blob("web", as_blob(b"after the tokens ran out"))
        scopes = {value for request in server.asked(path="/token") for name, value in request.pairs if name == "scope"}
        assert scopes == {"repository:web:pull,push", "repository:web:pull"}


@pytest.mark.parametrize("tokens", [False, True], ids=["Basic", "Bearer"])
def test_a_blob_is_fetched_by_whoever_may(tokens: bool) -> None:
    with FakeRegistry(Ways(account=("me", "secret"), tokens=tokens)) as server:
        push_image(client(server, credentials=user()))
        registry = client(server, credentials=user())
        for _ in range(2):
            taken = Memory()
            registry.fetch_blob("web", digest_of(BIG), taken, size=len(BIG))
            assert taken.taken == BIG
            server.expire_tokens()
        with pytest.raises(RegistryError, match="asked without credentials"):
            client(server).fetch_blob("web", digest_of(BIG), Memory())


def test_an_identity_token_is_exchanged() -> None:
    with FakeRegistry(Ways(account=("", "refresh"), tokens=True)) as server:
        token = Credentials("<token>", "", "the test", "refresh")
        registry = client(server, credentials=CredentialSource({}, Path("/nowhere"), explicit=token))
        push_image(registry)
        assert [request.method for request in server.asked(path="/token")] == ["POST"]


def test_credentials_do_not_follow_an_upload_to_another_host(server: FakeRegistry) -> None:
    with FakeRegistry(Ways(account=("me", "secret"))) as front:
        elsewhere = f"{server.url}/v2/web/blobs/uploads/1"
        front.faults = [Fault("status", "POST", status=202, headers={"Location": elsewhere}, times=-1)]
        registry = client(front, credentials=user())
        with pytest.raises(RegistryError):
            registry.upload_blob("web", as_blob(BIG))
        assert {request.headers.get("authorization") for request in server.asked("PUT")} == {None}


# ---- TLS or not


def test_a_loopback_registry_is_tried_without_tls_by_itself(server: FakeRegistry) -> None:
    client(server).ping()
    assert [request.path for request in server.requests] == ["/v2/"]


def test_a_certificate_can_be_trusted_and_must_be(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "server.pem")
    with FakeRegistry(certificate=certificate) as server:
        push_image(client(server, tls_ca=certificate))
        with pytest.raises(RegistryError, match="certificate is not trusted") as caught:
            client(server).ping()
        assert "--tls-ca" in (caught.value.hint or "")
        with pytest.raises(RegistryError):
            client(server, plain_http=True).ping()


def test_what_is_no_registry_is_said(server: FakeRegistry) -> None:
    server.faults = [Fault("status", path="/v2/", status=404, times=-1)]
    with pytest.raises(RegistryError, match="is not a registry"):
        client(server).ping()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.1.2.3:5", True),
        ("[::1]:5000", True),
        ("reg.localhost", True),
        ("prireg:5000", False),
        ("127.0.0.1.example.com", False),
        ("localhost.example.com:5000", False),
    ],
)
def test_loopback_hosts_are_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


# ---- manifests, lists, referrers


@pytest.mark.parametrize("digest_header", [True, False])
def test_manifests_come_back_as_they_were_put(digest_header: bool) -> None:
    with FakeRegistry(Ways(digest_header=digest_header)) as server:
        registry = client(server)
        digest = push_image(registry)
        raw = json.dumps({"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [{"digest": digest}]}).encode()
        index = registry.put_manifest("web", "all", INDEX_TYPES[0], raw)
        assert registry.find_manifest("web", "1.0") == digest
        assert registry.find_manifest("web", "all") == index
        assert registry.find_manifest("web", "none") is None
        found = registry.get_manifest("web", index)
        assert (found.media_type, found.digest, found.raw) == (INDEX_TYPES[0], index, raw)
        with pytest.raises(RegistryError, match="has no tag 'none'"):
            registry.get_manifest("web", "none")


def test_a_manifest_by_digest_is_verified(server: FakeRegistry) -> None:
    registry = client(server)
    digest = push_image(registry)
    for reference in (digest, "1.0"):
        server.faults = [Fault("flip", "GET", "manifests")]
        with pytest.raises(DigestMismatch):
            registry.get_manifest("web", reference)


def test_tags_and_repositories_come_in_pages() -> None:
    with FakeRegistry(Ways(page=3)) as server:
        registry = client(server)
        digest = push_image(registry)
        raw = registry.get_manifest("web", digest).raw
        for number in range(8):
            registry.put_manifest("web", f"v{number}", MANIFEST_TYPES[0], raw)
            push_image(registry, f"team/app{number}")
        assert registry.tags("web") == ["1.0", *(f"v{number}" for number in range(8))]
        assert registry.repositories() == [*(f"team/app{number}" for number in range(8)), "web"]
        with pytest.raises(RegistryError, match="NAME_UNKNOWN"):
            registry.tags("nobody")


def test_a_list_that_never_ends_is_left(server: FakeRegistry) -> None:
    body = b'{"tags": ["a"]}'
    server.faults = [
        Fault(
            "status", path="tags", status=200, headers={"Link": '</v2/web/tags/list>; rel="next"'}, body=body, times=5
        )
    ]
    assert client(server).tags("web") == ["a"]


def test_deletion_is_by_digest() -> None:
    with FakeRegistry() as server:
        registry = client(server)
        digest = push_image(registry)
        registry.delete("web", digest)
        assert registry.find_manifest("web", "1.0") is None
        with pytest.raises(RegistryError, match="has no manifest"):
            registry.delete("web", digest)
    with FakeRegistry(Ways(deletes=False)) as server:
        registry = client(server)
        digest = push_image(registry)
        with pytest.raises(RegistryError, match="does not delete"):
            registry.delete("web", digest)


@pytest.mark.parametrize("api", [True, False], ids=["by API", "by tag"])
def test_referrers_are_found(api: bool) -> None:
    with FakeRegistry(Ways(referrers=api)) as server:
        registry = client(server)
        subject = push_image(registry)
        assert registry.referrers("web", subject) == []
        made = []
        for kind in ("application/spdx+json", "application/vnd.example"):
            content = {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPES[0],
                "artifactType": kind,
                "config": {"digest": digest_of(SMALL), "size": len(SMALL)},
                "layers": [],
                "subject": {"digest": subject},
            }
            raw = json.dumps(content).encode()
            made.append((registry.put_referrer("web", MANIFEST_TYPES[0], raw), kind))
            registry.put_referrer("web", MANIFEST_TYPES[0], raw)
        found = [(entry["digest"], entry["artifactType"]) for entry in registry.referrers("web", subject)]
        assert found == made
        assert (subject.replace(":", "-") in registry.tags("web")) is not api


def test_docker_hub_is_asked_for_what_it_calls_its_images() -> None:
    registry = Registry("docker.io")
    assert registry._name("alpine") == "library/alpine"
    assert registry._name("me/alpine") == "me/alpine"
    assert Registry("localhost:5000")._name("alpine") == "alpine"
