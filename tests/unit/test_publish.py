"""Publishing: only what is lacking, in an order that leaves no half image behind a tag."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sixsmith.errors import DigestMismatch, FormatError, RegistryError, StoreError, UsageError
from sixsmith.events import Event, Progress, Uploaded
from sixsmith.io.http import Http, Patience
from sixsmith.io.registry import Registry
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest, digest_of
from sixsmith.publish import Pushed, Shipment, Target, parse_target, publish, publish_family
from sixsmith.testing.loopback import Fault
from sixsmith.testing.registry import FakeRegistry, Ways, full, refusal

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
QUICK = Patience(connect=2, stall=0.3, attempts=2, pause=0.01)
BASE, APP, CONFIG = b"base" * 50_000, b"app" * 30_000, b'{"os":"linux"}'


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with FakeRegistry() as server:
        yield server


def make_manifest(store: Store, *layers: bytes, config: bytes = CONFIG) -> Digest:
    entries = [{"digest": store.put(content), "size": len(content)} for content in (config, *layers)]
    content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": entries[0], "layers": entries[1:]}
    return store.put(json.dumps(content).encode())


def make_index(store: Store, *children: Digest) -> Digest:
    entries = [{"mediaType": MANIFEST, "digest": child, "size": store.size(child)} for child in children]
    return store.put(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode())


def client(server: FakeRegistry) -> Registry:
    return Registry(server.host, http=Http(patience=QUICK))


def test_an_image_arrives_whole_and_in_order(store: Store, server: FakeRegistry) -> None:
    one, two = make_manifest(store, BASE, APP), make_manifest(store, BASE, config=b'{"arch":2}')
    index = make_index(store, one, two)
    (pushed,) = publish([Shipment("team/web", ("1.0",), index)], store=store, registry=client(server))
    sizes = [len(store.read(digest)) for digest in (one, two, index)]
    total = len(BASE) + len(APP) + len(CONFIG) + len(b'{"arch":2}') + sum(sizes)
    assert pushed == Pushed(f"{server.host}/team/web:1.0", index, total, 0, 0)
    assert server.holds("team/web", "1.0") == index
    puts = [request.path.rpartition("/")[2] for request in server.asked("PUT", "manifests")]
    assert set(puts[:2]) == {one, two}
    assert puts[2:] == ["1.0"]
    order = [
        "manifest" if "/manifests/" in one.path else "blob" for one in server.requests if one.method in ("PUT", "POST")
    ]
    assert order == sorted(order)


def test_a_second_push_sends_nothing(store: Store, server: FakeRegistry) -> None:
    shipments = [Shipment("web", ("1.0", "latest"), make_index(store, make_manifest(store, BASE, APP)))]
    publish(shipments, store=store, registry=client(server))
    before = len(server.requests)
    again = publish(shipments, store=store, registry=client(server))
    assert [(one.uploaded_bytes, one.mounted) for one in again] == [(0, 0), (0, 0)]
    assert sum(one.skipped for one in again) == 3 + 1 + 2
    assert {request.method for request in server.requests[before:]} <= {"GET", "HEAD"}


def test_a_new_tag_on_an_old_image_sends_only_the_index(store: Store, server: FakeRegistry) -> None:
    index = make_index(store, make_manifest(store, BASE))
    publish([Shipment("web", ("1.0",), index)], store=store, registry=client(server))
    (pushed,) = publish([Shipment("web", ("1",), index)], store=store, registry=client(server))
    assert pushed.uploaded_bytes == store.size(index)


def test_shared_blobs_are_sent_once_and_mounted(store: Store, server: FakeRegistry) -> None:
    shipments = [Shipment(f"app{number}", ("1",), make_manifest(store, BASE, b"%d" % number)) for number in range(5)]
    pushed = publish(shipments, store=store, registry=client(server))
    assert [one.mounted for one in pushed] == [0, 2, 2, 2, 2]  # base and config
    uploads = [request for request in server.asked("PUT", "uploads") if int(request.headers["content-length"]) > 1000]
    assert len(uploads) == 1
    assert all(
        server.blobs[digest_of(BASE)] == BASE and digest_of(BASE) in kept.blobs for kept in server.repositories.values()
    )


def test_a_repository_that_has_a_blob_already_is_mounted_from(store: Store, server: FakeRegistry) -> None:
    image = make_manifest(store, BASE)
    publish([Shipment("zz", ("1",), image)], store=store, registry=client(server))
    first, _ = publish(
        [Shipment("aa", ("1",), image), Shipment("zz", ("1",), image)], store=store, registry=client(server)
    )
    assert (first.uploaded_bytes, first.mounted) == (store.size(image), 2)


def test_refused_mounts_are_uploads(store: Store) -> None:
    with FakeRegistry(Ways(mounts=False)) as server:
        image = make_manifest(store, BASE)
        pushed = publish([Shipment(name, ("1",), image) for name in "ab"], store=store, registry=client(server))
        assert [one.uploaded_bytes for one in pushed] == [len(BASE) + len(CONFIG) + store.size(image)] * 2
        assert [one.mounted for one in pushed] == [0, 0]


def test_several_tags_of_one_repository(store: Store, server: FakeRegistry) -> None:
    one, two = make_index(store, make_manifest(store, BASE)), make_index(store, make_manifest(store, BASE, APP))
    shipments = [Shipment("web", ("3.12-2.0",), one), Shipment("web", ("3.13-2.0", "latest"), two)]
    pushed = publish(shipments, store=store, registry=client(server))
    assert [one.reference.rpartition(":")[2] for one in pushed] == ["3.12-2.0", "3.13-2.0", "latest"]
    assert [server.holds("web", tag) for tag in ("3.12-2.0", "3.13-2.0", "latest")] == [one, two, two]
    assert pushed[2].uploaded_bytes == store.size(two)


def test_an_image_can_go_without_a_tag(store: Store, server: FakeRegistry) -> None:
    image = make_manifest(store, BASE)
    (pushed,) = publish([Shipment("web", (), image)], store=store, registry=client(server))
    assert pushed.reference == f"{server.host}/web@{image}"
    assert image in server.repositories["web"].manifests


def test_an_index_of_indexes_goes_from_the_inside_out(store: Store, server: FakeRegistry) -> None:
    leaf = make_manifest(store, BASE)
    inner = make_index(store, leaf)
    entries = [{"mediaType": MANIFEST, "digest": leaf}, {"mediaType": INDEX, "digest": inner}]
    outer = store.put(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode())
    publish([Shipment("web", ("1",), outer)], store=store, registry=client(server))
    assert [re.sub(".*/", "", request.path) for request in server.asked("PUT", "manifests")] == [leaf, inner, "1"]


def test_every_blob_is_told(store: Store, server: FakeRegistry) -> None:
    seen: list[Event] = []
    image = make_manifest(store, BASE)
    publish(
        [Shipment("a", ("1",), image), Shipment("b", ("1",), image)],
        store=store,
        registry=client(server),
        reporter=seen.append,
    )
    told = sorted((event.digest, event.how) for event in seen if isinstance(event, Uploaded))
    expected = [(digest_of(BASE), "mounted"), (digest_of(BASE), "uploaded"), (digest_of(CONFIG), "mounted")]
    assert told == sorted([*expected, (digest_of(CONFIG), "uploaded"), (image, "uploaded"), (image, "uploaded")])


def test_progress_is_told_in_bytes(store: Store, server: FakeRegistry) -> None:
    seen: list[Event] = []
    image = make_manifest(store, BASE)
    publish([Shipment("a", ("1",), image)], store=store, registry=client(server), reporter=seen.append)
    steps = [event.done for event in seen if isinstance(event, Progress) and event.name == digest_of(BASE)]
    assert steps == sorted(steps)
    assert steps[-1] == len(BASE)
    assert len(set(steps)) > 2


def test_nothing_to_push_asks_nobody(store: Store) -> None:
    assert publish([], store=store, registry=Registry("nobody.invalid")) == []


# ---- failures: no tag is moved


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (refusal(times=-1, method="POST"), "refuses the blob"),
        (full(times=-1, method="PUT"), "is full"),
        (Fault("vanish", "PUT", times=-1, after=1000), "went away"),
        (Fault("status", "PUT", "manifests/sha256", -1, status=400), "answers 400"),
    ],
)
def test_a_failed_push_moves_no_tag(store: Store, server: FakeRegistry, fault: Fault, words: str) -> None:
    old = make_index(store, make_manifest(store, APP))
    publish([Shipment("web", ("1",), old)], store=store, registry=client(server))
    new = make_index(store, make_manifest(store, BASE, APP))
    server.faults = [fault]
    with pytest.raises(RegistryError, match=words):
        publish([Shipment("web", ("1",), new)], store=store, registry=client(server))
    assert server.holds("web", "1") == old
    server.faults = []
    publish([Shipment("web", ("1",), new)], store=store, registry=client(server))
    assert server.holds("web", "1") == new


def test_an_image_that_is_not_whole_is_refused_before_anything_is_sent(store: Store, server: FakeRegistry) -> None:
    image = make_index(store, make_manifest(store, BASE, APP))
    store.discard(digest_of(APP))
    with pytest.raises(StoreError, match=digest_of(APP)):
        publish([Shipment("web", ("1",), image)], store=store, registry=client(server))
    assert server.requests == []


def test_a_damaged_blob_is_ours_and_is_said_so(store: Store, server: FakeRegistry) -> None:
    image = make_manifest(store, BASE)
    path = store.path(digest_of(BASE))
    path.chmod(0o644)
    path.write_bytes(b"x" + BASE[1:])
    with pytest.raises(DigestMismatch, match="the store's blob"):
        publish([Shipment("web", ("1",), image)], store=store, registry=client(server))
    assert not store.has(digest_of(BASE)), "so that the next build makes it again"
    assert server.holds("web", "1") is None


def test_a_blob_of_the_wrong_size_is_refused(store: Store, server: FakeRegistry) -> None:
    image = make_manifest(store, BASE)
    path = store.path(digest_of(BASE))
    path.unlink()
    path.write_bytes(BASE[1:])
    with pytest.raises(DigestMismatch, match="where its manifest says 200000"):
        publish([Shipment("web", ("1",), image)], store=store, registry=client(server))
    assert server.requests == []


@pytest.mark.parametrize(
    "content", [b"a layer", b"[]", b'{"schemaVersion":2,"mediaType":"text/plain"}', b'{"mediaType":7}']
)
def test_what_is_no_manifest_is_refused(store: Store, server: FakeRegistry, content: bytes) -> None:
    with pytest.raises(FormatError):
        publish([Shipment("web", ("1",), store.put(content))], store=store, registry=client(server))
    assert server.requests == []


# ---- targets


@dataclass(frozen=True)
class Descriptor:
    digest: Digest


@dataclass(frozen=True)
class Tag:
    image: str
    tag: str
    descriptor: Descriptor


def test_a_family_goes_below_a_prefix(store: Store, server: FakeRegistry) -> None:
    tags = [Tag("web", tag, Descriptor(make_index(store, make_manifest(store, BASE)))) for tag in ("1", "2")]
    pushed = publish_family(tags, target=f"{server.host}/team/images/", store=store, http=Http(patience=QUICK))
    assert [one.reference for one in pushed] == [f"{server.host}/team/images/web:{tag}" for tag in ("1", "2")]
    assert server.holds("team/images/web", "2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prireg:5000", Target("prireg:5000")),
        ("ghcr.io/me", Target("ghcr.io", "me")),
        ("registry/a/b", Target("registry", "a/b")),
        ("[::1]:5000/x/", Target("[::1]:5000", "x")),
    ],
)
def test_targets_are_read(text: str, expected: Target) -> None:
    assert parse_target(text) == expected
    assert parse_target(text).repository("web").endswith("web")


@pytest.mark.parametrize("text", ["", "https://ghcr.io/me", "host/UPPER", "host/a:tag", "ho st", "/x", "host:port/x"])
def test_wrong_targets_are_said(text: str) -> None:
    with pytest.raises(UsageError):
        parse_target(text)
