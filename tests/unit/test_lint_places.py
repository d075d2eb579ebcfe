"""`sixsmith lint` on everything that it can look at: folders, layouts, archives, registries, cells of a family."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lint_world import init, longrun, small_image
from sixsmith.cli import run
from sixsmith.errors import FormatError, UsageError
from sixsmith.io.disk import write_tree
from sixsmith.io.layout import write_archive, write_layout
from sixsmith.io.store import Store
from sixsmith.layers.plan import plan_layers
from sixsmith.layers.write import write_layers
from sixsmith.looking import lint_seen, look_at_disk
from sixsmith.model.arch import ARCHES
from sixsmith.oci.image import ImageSettings, make_image, make_index
from sixsmith.oci.spec import Descriptor
from sixsmith.testing import World, make_world
from sixsmith.testing.registry import FakeRegistry

AMD64 = ARCHES["x86_64"]
BAD = init((0o644, "#!/bin/sh\n")) | longrun(run="#!/bin/sh\nexec nginx\n")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "store") as opened:
        yield opened


def stored(store: Store) -> Descriptor:
    """A bad image in the store."""
    tree = small_image("3.2.1.0", BAD)
    layers = write_layers(plan_layers(tree=tree, packages=[]), store)
    image = make_image(layers, ImageSettings(entrypoint=("/init",)), platform=AMD64.platform, created=0)
    store.put(image.config)
    store.put(image.manifest)
    index = make_index([image])
    store.put(index.raw)
    return index.descriptor


def linted(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code = run(["lint", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def rules(document: dict[str, Any]) -> set[str]:
    return {finding["rule"] for finding in document["findings"] if finding["severity"] != "info"}


def test_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(small_image("3.2.1.0", BAD), tmp_path / "root", owners=False)
    code, document = linted(capsys, tmp_path / "root")
    assert code == 1
    assert {"S1", "S10"} <= rules(document)
    finding = next(each for each in document["findings"] if each["rule"] == "S10")
    assert finding["path"] == "/etc/s6-overlay/s6-rc.d/app/run"
    assert finding["line"] == 2
    assert set(finding) >= {"rule", "severity", "path", "line", "message", "hint", "cell"}


def test_a_folder_is_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(small_image("3.2.1.0", init((0o644, "#!/bin/sh\r\n"))), tmp_path / "root", owners=False)
    code, document = linted(capsys, "--fix", tmp_path / "root")
    assert code == 0
    assert [mended["rules"] for mended in document["fixed"]] == [["S1", "S2"]]
    assert linted(capsys, tmp_path / "root")[1]["fixed"] == []


def test_files_for_an_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that a Dockerfile copies: what it lacks, the image may have."""
    tree = small_image(None)
    tree.nodes.clear()
    for path, content in {
        **longrun(run="#!/usr/bin/with-contenv bash\nexec appd\n"),
        "etc/cont-init.d/10-x": "#!/bin/bash\n",
    }.items():
        if not path.endswith("user/type"):
            tree.write(path, content.encode(), mode=0o755)
    write_tree(tree, tmp_path / "root", owners=False)
    assert linted(capsys, tmp_path / "root")[0] == 0
    code, document = linted(capsys, "--overlay", "2.2.0.3", tmp_path / "root")
    assert code == 1
    assert rules(document) == {"R36"}


def test_a_layout_and_archives(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    image = stored(store)
    write_layout(tmp_path / "layout", {"1.0": image, "2.0": image}, store)
    write_archive(tmp_path / "archive.tar", {"example.org/app:1.0": image}, store)
    for place in (f"{tmp_path}/layout:1.0", f"{tmp_path}/archive.tar", f"{tmp_path}/archive.tar:1.0"):
        code, document = linted(capsys, place)
        assert code == 1
        assert {"S1", "S10"} <= rules(document)
    assert run(["lint", f"{tmp_path}/layout"]) == 2
    assert run(["lint", f"{tmp_path}/layout:3.0"]) == 2
    assert run(["lint", "--arch", "aarch64", f"{tmp_path}/layout:1.0"]) in (1, 2)


def test_what_docker_save_wrote_and_docker_export(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    image = stored(store)
    write_archive(tmp_path / "archive.tar", {"example.org/app:1.0": image}, store)
    with tarfile.open(tmp_path / "archive.tar") as both, tarfile.open(tmp_path / "old.tar", "w") as old:
        for member in both.getmembers():
            if member.name not in ("index.json", "oci-layout"):
                old.addfile(member, both.extractfile(member) if member.isfile() else None)
    code, document = linted(capsys, tmp_path / "old.tar")
    assert code == 1
    assert {"S1", "S10"} <= rules(document)

    write_tree(small_image("3.2.1.0", BAD), tmp_path / "root", owners=False)
    with tarfile.open(tmp_path / "export.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "root", ".", filter=_of_root)
    code, document = linted(capsys, tmp_path / "export.tar.gz")
    assert code == 1
    assert {"S1", "S10"} <= rules(document)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    return member


def test_a_tarball_that_an_upper_layer_hides(tmp_path: Path, store: Store) -> None:
    below = small_image("3.2.1.0", {"tmp/s6-overlay-noarch.tar.xz": "x" * 100})
    first = write_layers(plan_layers(tree=below, packages=[]), store)
    whiteout = io.BytesIO()
    with tarfile.open(fileobj=whiteout, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("tmp/.wh.s6-overlay-noarch.tar.xz"))
    from sixsmith.model.compression import gzip_member
    from sixsmith.model.digest import digest_of
    from sixsmith.oci.spec import Layer

    blob = gzip_member(whiteout.getvalue())
    digest = store.put(blob)
    media_type = "application/vnd.oci.image.layer.v1.tar+gzip"
    upper = Layer(
        digest=digest, diff_id=digest_of(whiteout.getvalue()), size=len(blob), media_type=media_type, kind="top"
    )
    image = make_image([*first, upper], ImageSettings(entrypoint=("/init",)), platform=AMD64.platform, created=0)
    store.put(image.config)
    store.put(image.manifest)
    write_layout(tmp_path / "layout", {"1.0": image.descriptor}, store)
    found = lint_seen(look_at_disk(tmp_path / "layout", AMD64))
    assert [finding.path for finding in found if finding.rule == "M12"] == ["/tmp/s6-overlay-noarch.tar.xz"]


def test_a_registry(tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_layout(tmp_path / "layout", {"1.0": stored(store)}, store)
    with FakeRegistry() as registry:
        _push(registry, store, stored(store))
        place = f"{registry.host}/app:1.0"
        code, document = linted(capsys, "--plain-http", "--arch", "x86_64", "--store", tmp_path / "other", place)
    assert code == 1
    assert {"S1", "S10"} <= rules(document)


def _push(registry: FakeRegistry, store: Store, image: Descriptor) -> None:
    from sixsmith.io.http import Http
    from sixsmith.io.registry import Registry
    from sixsmith.publish import Shipment, publish

    publish([Shipment("app", ("1.0",), image.digest)], store=store, registry=Registry(registry.host, http=Http()))


@pytest.mark.parametrize("content", [b"", b"x" * 2000, b"\x1f\x8b\x08", bytes(2048)])
def test_files_that_are_no_images(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    if content == bytes(2048):
        assert lint_seen(look_at_disk(tmp_path / "file", AMD64)) == ()
        return
    with pytest.raises(FormatError):
        look_at_disk(tmp_path / "file", AMD64)


def test_words_that_are_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["lint", "nothing-here"]) == 2
    assert run(["lint"]) == 2
    assert run(["lint", "--overlay", "latest", "."]) == 2
    assert "is no version" in capsys.readouterr().err
    with pytest.raises(UsageError):
        look_at_disk(tmp_path, AMD64, ref="1.0")


# ---- a family


FAMILY = """\
name: family
defaults:
  arch: [x86_64]
  packages: []
images:
  base:
    tag: "{alpine}"
    matrix: {alpine: ["3.20"], s6-overlay: [%s]}
    files:
      - {path: /etc/cont-init.d/10-x, source: 10-x, mode: "%s"}
"""


@pytest.fixture(scope="module")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"), releases=["3.20"], arches=["x86_64"], overlays=["3.2.1.0"])


def test_a_family(
    tmp_path: Path, small_world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "10-x").write_text("#!/bin/sh\r\n")
    (tmp_path / "sixsmith.yaml").write_text(FAMILY % ("3.2.1.0", "0644"))
    places = [
        "--mirror",
        small_world.mirror,
        "--overlay-mirror",
        small_world.overlay_mirror,
        "--store",
        tmp_path / "store",
    ]
    places += ["--keys", small_world.keys, "--checksums", small_world.checksums]
    code, document = linted(capsys, *places)
    assert code == 1
    assert {"S1", "S2"} <= rules(document)
    assert {finding["cell"] for finding in document["findings"]} == {"base:3.20/x86_64"} or document["findings"][0][
        "cell"
    ]
    code, document = linted(capsys, *places, "--fix", "base")
    assert (tmp_path / "10-x").read_bytes() == b"#!/bin/sh\n"
    assert document["fixed"]


def test_lint_starts_fast() -> None:
    """The heavy parts are imported when they are needed."""
    code = "import sys; from sixsmith.cli import group; group.get_command(None, 'lint'); print(sorted(sys.modules))"
    listed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    ).stdout
    assert not {"cryptography", "urllib3", "rich", "yaml", "sixsmith.s6.lint"} & set(eval(listed))
