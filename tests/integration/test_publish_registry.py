"""Pushing to Debian's `docker-registry` on loopback, and pulling with `skopeo`: plain, with an account, with TLS, full.

Each test starts the registry that it needs, with its own folder and port, and ends it by the id that it was started with.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sixsmith.errors import RegistryError
from sixsmith.events import Event
from sixsmith.io.http import Http, Patience
from sixsmith.io.registry import INDEX_TYPES, MANIFEST_TYPES, Blob, Registry
from sixsmith.io.registry_auth import CredentialSource
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest, digest_of
from sixsmith.publish import Shipment, publish
from sixsmith.testing.certificate import make_certificate

pytestmark = pytest.mark.skipif(not shutil.which("docker-registry"), reason="docker-registry is not installed")

QUICK = Patience(attempts=3, pause=0.05)
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{root}"}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http:
  addr: 127.0.0.1:{port}
  {tls}
{auth}
"""


@contextmanager
def docker_registry(
    folder: Path,
    *,
    account: tuple[str, str] | None = None,
    certificate: Path | None = None,
    room: str = "",
    tell: Callable[[subprocess.Popen[bytes]], object] = lambda serving: None,
) -> Iterator[str]:
    """A running registry; yields its `host:port`. `room` is the size of a tmpfs for its storage (`4m`).

    `tell` is given the process, for a test that ends it early.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = folder / "registry"
    root.mkdir(parents=True, exist_ok=True)
    tls = f'tls: {{certificate: "{certificate}", key: "{certificate}"}}' if certificate else ""
    auth = ""
    if account:
        if not shutil.which("htpasswd"):
            pytest.skip("htpasswd, which writes the registry's bcrypt passwords, is not installed")
        (folder / "accounts").write_bytes(subprocess.check_output(["htpasswd", "-Bbn", *account]))
        auth = f'auth: {{htpasswd: {{realm: test, path: "{folder}/accounts"}}}}'
    file = folder / "registry.yml"
    file.write_text(CONFIG.format(root=root, port=port, tls=tls, auth=auth))
    command = ["docker-registry", "serve", str(file)]
    if room:
        script = f'mount -t tmpfs -o size={room} none "$1" && shift && exec "$@"'
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(root), *command]
    log = folder / "registry.log"  # not a pipe that nobody reads: it names each blob that it lacks, and then waits
    with log.open("wb") as told, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=told) as serving:
        try:
            _await_port(serving, port, log)
            tell(serving)
            yield f"127.0.0.1:{port}"
        finally:
            serving.terminate()
            serving.wait(timeout=20)


def _await_port(serving: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(400):
        if serving.poll() is not None:
            pytest.fail(f"docker-registry did not start: {log.read_text(errors='replace')[-500:]}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.025)
        else:
            return
    pytest.fail("docker-registry does not listen")


def skopeo(*arguments: str) -> bytes:
    if not shutil.which("skopeo"):
        pytest.skip("skopeo is not installed")
    done = subprocess.run(["skopeo", *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def make_layer(seed: int, size: int) -> bytes:
    """A legal layer with one file of `size` random bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(f"file-{seed}")
        member.size = size
        tar.addfile(member, io.BytesIO(random.Random(seed).randbytes(size)))
    return gzip.compress(out.getvalue(), mtime=0)


def make_image(store: Store, layers: list[bytes], architecture: str) -> dict[str, Any]:
    """An image of these layers in the store; returns its descriptor."""
    config = {
        "created": "2024-01-01T00:00:00Z",
        "os": "linux",
        "architecture": architecture,
        "config": {"Entrypoint": ["/init"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(gzip.decompress(layer)) for layer in layers]},
        "history": [{"created": "2024-01-01T00:00:00Z"} for _ in layers],
    }
    raw = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": store.put(raw),
            "size": len(raw),
        },
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": store.put(layer),
                "size": len(layer),
            }
            for layer in layers
        ],
    }
    digest = store.put(json.dumps(manifest).encode())
    platform = {"os": "linux", "architecture": architecture}
    return {"mediaType": MANIFEST_TYPES[0], "digest": digest, "size": store.size(digest), "platform": platform}


def make_index(store: Store, *images: dict[str, Any]) -> Digest:
    content = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": list(images)}
    return store.put(json.dumps(content).encode())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as store:
        yield store


@pytest.fixture
def family(store: Store) -> list[Shipment]:
    """Two repositories that share a base, the first for two architectures and with two tags."""
    base, overlay, app = make_layer(1, 3_000_000), make_layer(2, 1_000_000), make_layer(3, 40_000)
    amd64, arm64 = make_image(store, [base, overlay], "amd64"), make_image(store, [app, overlay], "arm64")
    return [
        Shipment("family/base", ("3.19-3.2", "latest"), make_index(store, amd64, arm64)),
        Shipment("family/app", ("1",), make_index(store, make_image(store, [base, overlay, app], "amd64"))),
    ]


def login(home: Path, host: str, user: str, password: str) -> CredentialSource:
    """Credentials as `docker login` leaves them, written by skopeo."""
    file = home / ".docker" / "config.json"
    file.parent.mkdir(parents=True)
    skopeo("login", "--tls-verify=false", "--authfile", str(file), "-u", user, "-p", password, host)
    return CredentialSource({}, home)


def test_a_family_arrives_and_skopeo_pulls_the_same_digests(
    tmp_path: Path, store: Store, family: list[Shipment]
) -> None:
    with docker_registry(tmp_path) as host:
        registry = Registry(host, http=Http(patience=QUICK))
        pushed = publish(family, store=store, registry=registry)
        assert [one.reference for one in pushed] == [
            f"{host}/family/base:3.19-3.2",
            f"{host}/family/base:latest",
            f"{host}/family/app:1",
        ]
        assert pushed[0].uploaded_bytes > 4_000_000
        # the app's three layers are all in the base's repository: config, manifest and index alone are sent
        assert pushed[2].mounted == 3
        assert pushed[2].uploaded_bytes < 5_000
        for one in pushed:
            raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{one.reference}")
            assert digest_of(raw) == one.digest
            assert store.read(one.digest) == raw
        pulled = tmp_path / "pulled"
        skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{pushed[0].reference}", f"oci:{pulled}:x")
        assert json.loads((pulled / "index.json").read_text())["manifests"][0]["digest"] == pushed[0].digest
        for path in (pulled / "blobs" / "sha256").iterdir():
            assert store.read(Digest(f"sha256:{path.name}")) == path.read_bytes()

        again = publish(family, store=store, registry=Registry(host, http=Http(patience=QUICK)))
        assert [(one.uploaded_bytes, one.mounted) for one in again] == [(0, 0)] * 3
        assert [one.digest for one in again] == [one.digest for one in pushed]

        assert registry.tags("family/base") == ["3.19-3.2", "latest"]
        assert registry.repositories() == ["family/app", "family/base"]


def test_an_account_is_taken_from_the_credentials_file(tmp_path: Path, store: Store, family: list[Shipment]) -> None:
    with docker_registry(tmp_path, account=("smith", "six six")) as host:
        credentials = login(tmp_path / "home", host, "smith", "six six")
        pushed = publish(family, store=store, registry=Registry(host, credentials=credentials))
        raw = skopeo(
            "inspect", "--raw", "--tls-verify=false", "--creds", "smith:six six", f"docker://{pushed[0].reference}"
        )
        assert digest_of(raw) == pushed[0].digest
        stranger = CredentialSource({}, tmp_path / "nobody")
        with pytest.raises(
            RegistryError, match=rf"{host} refuses .* \(401, asked without credentials: none for it in "
        ):
            publish(family, store=store, registry=Registry(host, credentials=stranger))


@pytest.mark.parametrize("account", [None, ("smith", "six")], ids=["anybody", "account"])
def test_a_registry_with_tls_needs_its_certificate(
    tmp_path: Path, store: Store, family: list[Shipment], account: tuple[str, str] | None
) -> None:
    certificate = make_certificate(tmp_path / "server.pem")
    with docker_registry(tmp_path, certificate=certificate, account=account) as host:
        credentials = login(tmp_path / "home", host, *account) if account else None
        registry = Registry(host, tls_ca=certificate, credentials=credentials)
        pushed = publish(family, store=store, registry=registry)
        assert registry.find_manifest("family/app", "1") == pushed[2].digest
        with pytest.raises(RegistryError, match="certificate is not trusted"):
            publish(family, store=store, registry=Registry(host, credentials=credentials))


def test_a_registry_whose_disk_is_full_is_said(tmp_path: Path, store: Store, family: list[Shipment]) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "true"]
    if not shutil.which("unshare") or subprocess.run(unshare, capture_output=True).returncode:
        pytest.skip("no user namespaces here")
    with docker_registry(tmp_path, room="2m") as host:
        registry = Registry(host, http=Http(patience=QUICK))
        with pytest.raises(RegistryError, match=f"{host} is full: the blob sha256:") as caught:
            publish(family, store=store, registry=registry)
        assert caught.value.exit_code == 3
        assert registry.find_manifest("family/base", "latest") is None


def test_a_registry_that_is_killed_mid_push_is_said(tmp_path: Path, store: Store, family: list[Shipment]) -> None:
    serving: list[subprocess.Popen[bytes]] = []
    with docker_registry(tmp_path, tell=serving.append) as host:
        old = publish(family[1:], store=store, registry=Registry(host))
        told: list[Event] = []

        def kill_after_the_first_blob(event: Event) -> None:
            told.append(event)
            serving[0].kill()

        with pytest.raises(RegistryError, match=rf"the registry went away at .*{host}") as caught:
            registry = Registry(host, http=Http(patience=QUICK))
            publish(family, store=store, registry=registry, jobs=1, reporter=kill_after_the_first_blob)
        assert len(told) == 1
        assert "Connection refused" in str(caught.value)
    with docker_registry(tmp_path) as host:  # again, on the same folder: what was there is there
        registry = Registry(host, http=Http(patience=QUICK))
        assert registry.find_manifest("family/app", "1") == old[0].digest
        assert registry.find_manifest("family/base", "latest") is None
        again = publish(family, store=store, registry=registry)
        assert registry.find_manifest("family/base", "latest") == again[1].digest


def test_the_ways_of_docker_registry(tmp_path: Path) -> None:
    """What `reference` notes of it: chunks, deletion by digest, no referrers API."""
    with docker_registry(tmp_path) as host:
        registry = Registry(host, http=Http(patience=QUICK), chunk=300_000)
        layer = make_layer(7, 1_000_000)
        blob = Blob(digest_of(layer), len(layer), lambda: io.BytesIO(layer))
        _upload_by_chunks(registry, "chunks", blob)
        assert registry.read_blob("chunks", blob.digest) == layer

        config = b"{}"
        registry.upload_blob("chunks", Blob(digest_of(config), 2, lambda: io.BytesIO(config)))
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPES[0],
                "config": {
                    "mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": digest_of(config),
                    "size": 2,
                },
                "layers": [
                    {
                        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                        "digest": blob.digest,
                        "size": len(layer),
                    }
                ],
            }
        ).encode()
        subject = registry.put_manifest("chunks", "1", MANIFEST_TYPES[0], raw)
        assert registry.get_manifest("chunks", "1").raw == raw
        assert registry.referrers("chunks", subject) == []
        referrer = json.loads(raw) | {
            "artifactType": "application/spdx+json",
            "subject": {"mediaType": MANIFEST_TYPES[0], "digest": subject, "size": len(raw)},
        }
        digest = registry.put_referrer("chunks", MANIFEST_TYPES[0], json.dumps(referrer).encode())
        assert [entry["digest"] for entry in registry.referrers("chunks", subject)] == [digest]
        assert registry.tags("chunks") == ["1", subject.replace(":", "-")]

        registry.delete("chunks", subject)
        assert registry.find_manifest("chunks", "1") is None
        with pytest.raises(RegistryError, match="has no manifest"):
            registry.delete("chunks", subject)


def _upload_by_chunks(registry: Registry, repository: str, blob: Blob) -> None:
    """Send it as to a registry that refuses whole blobs, which this one does not."""
    from sixsmith.io.upload import _by_chunks

    start = f"{registry._url()}/v2/{repository}/blobs/uploads/"
    steps = _by_chunks(start, blob, True, 300_000)
    ask = next(steps)
    patches = 0
    try:
        while True:
            patches += ask.method == "PATCH"
            ask = steps.send(registry._step(ask, frozenset(), repository))
    except StopIteration as done:
        assert done.value.how == "uploaded"
    assert patches == 4
