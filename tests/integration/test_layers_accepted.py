"""61 real packages as an image of 1, of 16 and of more than 60 layers: everybody takes them, from an archive and from a registry, and what
everybody makes of them is one and the same tree.

Beside Alpine's packages there are two of our own that have what Alpine's have not: extended attributes, hard links across folders,
odd modes of files and folders. One of them is a layer as it is, the other cannot be.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from test_publish_registry import docker_registry

from commandline import Workplace
from engines import ROOT, Seen, containers, docker_daemon, in_docker, on_disk, policy, run, tool
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest
from sixsmith.oci.spec import MANIFEST, Descriptor
from sixsmith.oci.validate import validate_image
from sixsmith.testing.keys import SigningKey
from sixsmith.testing.packages import make_apk
from sixsmith.testing.repository import make_repository
from sixsmith.testing.tars import SampleFile

pytestmark = pytest.mark.data

LAYERS = {"one": "single", "sixteen": {"budget": "16"}, "sixty": "per-package"}
EVERYTHING = bool(os.environ.get("SIXSMITH_EXHAUSTIVE"))
"""Each image with each tool on each way; else each tool and each way once or twice."""
COMPARED = tuple(LAYERS) if EVERYTHING else ("one", "sixty")
CAPABLE = {"security.capability": bytes.fromhex("0100000200040000000000000000000000000000"), "user.note": b"\0odd\xff"}


def make_odd_packages(folder: Path) -> None:
    """Big packages with all that Alpine's happen not to have, signed, in a repository below `folder`."""
    key = SigningKey.generate("own@k.rsa.pub")
    links = {"odd": CAPABLE, "odder": {}}
    packages = [make_apk(name, files=odd_files(f"opt/{name}", xattrs), key=key) for name, xattrs in links.items()]
    make_repository(folder, "3.19", "own", "x86_64", packages, key)
    key.write_public(folder)


def odd_files(top: str, of_the_link: Mapping[str, bytes]) -> list[SampleFile]:
    noise = random.Random(top).randbytes(400_000)
    return [
        SampleFile(f"{top}", kind="directory", mode=0o2750, group="strangers", gid=12),
        SampleFile(f"{top}/drop", kind="directory", mode=0o1777),
        SampleFile(f"{top}/able", noise, mode=0o4755, xattrs=CAPABLE),
        SampleFile(f"{top}/drop/again", kind="hardlink", target=f"{top}/able", mode=0o4755, xattrs=of_the_link),
        SampleFile(f"{top}/none", noise[:700], mode=0o000, owner="stranger", uid=12, group="strangers", gid=34),
        SampleFile(f"{top}/link", kind="symlink", target="drop/again"),
    ]


def family(data: Path) -> dict[str, Any]:
    upstream = data / "upstream"
    folder = upstream / "alpine/v3.19/bench"
    names = sorted(
        found[1]
        for file in (folder / "x86_64").glob("*.apk")
        if (found := re.match(r"(.+)-[^-]+-r\d+\.apk", file.name)) is not None
    )
    bench = {"name": "bench", "url": str(folder), "key": str(upstream / "keys/bench-00000001.rsa.pub")}
    own = {"name": "own", "url": "own/v{alpine}/own", "key": "own/own@k.rsa.pub"}
    cells = {"base": "packages", "arch": ["x86_64"], "matrix": {"alpine": ["3.19"], "s6-overlay": ["3.2.1.0"]}}
    cells |= {"repositories": [bench, own], "packages": [*names, "odd", "odder"], "entrypoint": ["/init"]}
    images = {name: {**cells, "tag": "1", "layers": how} for name, how in LAYERS.items()}
    return {"name": "bench", "images": {**images, "zstd": {**images["sixteen"], "compression": "zstd"}}}


class Built(Workplace):
    """The three images in a store, in layouts and in one archive."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.file = folder, folder / "sixsmith.yaml"
        self.store, self.dist, self.archive = folder / "store", folder / "dist", folder / "all.tar"
        upstream = data / "upstream"
        self.places = ["--mirror", str(upstream / "alpine"), "--overlay-mirror", str(upstream / "s6-overlay")]
        make_odd_packages(folder / "own")
        self.write(json.dumps(family(data)))
        self.outcome = self.build("--json", "-q", "--archive", self.archive, *LAYERS)
        assert self.outcome.code == 0, self.outcome.err
        self.images = {image["id"].partition(":")[0]: image for image in self.outcome.document["images"]}

    def options(self, **_: Any) -> list[str]:
        return ["--store", str(self.store), *self.places]


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("accepted"), data)


@pytest.fixture(scope="module")
def pushed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The images in Debian's docker-registry on loopback, as `host:port/prefix`."""
    tool("docker-registry")
    with docker_registry(tmp_path_factory.mktemp("registry")) as host:
        outcome = built.run("push", f"{host}/team", *built.options(), "-q")
        assert outcome.code == 0, outcome.err
        yield f"{host}/team"


def all_alike(trees: dict[str, Seen]) -> Seen:
    """The tree that all of them are. Says the first paths in which one is not as `one` is."""
    wanted = trees["one"]
    for name, tree in trees.items():
        paths = sorted(path for path in {*wanted, *tree} if wanted.get(path) != tree.get(path))
        assert not paths, f"{name}: " + "\n".join(f"{path}: {wanted.get(path)} {tree.get(path)}" for path in paths[:9])
    return wanted


def mounted(tree: Path) -> Seen:
    return {path: what for path, what in on_disk(tree).items() if path.partition("/")[0] not in ADDED}


ADDED = ("dev", "proc", "sys", "run", ".")
"""What podman and buildah make or change in what they mount."""


def test_the_images_are_what_they_are_for(built: Built) -> None:
    counts = {name: len(image["layers"]) for name, image in built.images.items()}
    assert counts == {"one": 1, "sixteen": 16, "sixty": 63}
    assert len({image["packages"] for image in built.images.values()}) == 1
    (odd,) = (layer for layer in built.images["sixteen"]["layers"] if layer["names"] == ["odd 1.0-r0"])
    assert odd["kind"] == "verbatim"
    (odder,) = (layer for layer in built.images["sixty"]["layers"] if layer["names"] == ["odder 1.0-r0"])
    assert odder["kind"] == "spliced" and "does not repeat its target's extended attributes" in odder["reason"]
    with Store(built.store) as store:
        for image in built.images.values():
            digest = Digest(image["digest"])
            assert validate_image(store, Descriptor(MANIFEST, digest, store.size(digest)), deep=True) == []


def test_umoci(built: Built, tmp_path: Path) -> None:
    umoci, trees = tool("umoci"), {}
    if not ROOT:
        pytest.skip("owners and capabilities need root to be unpacked")
    for name in LAYERS:
        run(umoci, "unpack", "--image", f"{built.dist / name}:1", tmp_path / name)
        trees[name] = on_disk(tmp_path / name / "rootfs")
    tree = all_alike(trees)
    assert tree["opt/odd/able"][0] == tree["opt/odd/drop/again"][0] == "0o104755"
    assert dict(tree["opt/odd/able"][5]) == CAPABLE
    assert tree["opt/odd/able"][-1] == ("opt/odd/able", "opt/odd/drop/again")
    assert [tree[path][:3] for path in ("opt/odd", "opt/odd/drop", "opt/odd/none")] == [
        ("0o42750", 0, 12),
        ("0o41777", 0, 0),
        ("0o100000", 12, 34),
    ]


def test_skopeo(built: Built, pushed: str, tmp_path: Path) -> None:
    """From our archive, as both kinds that it is; from a registry, and there by its own hand."""
    skopeo = [tool("skopeo"), "--insecure-policy"]
    tags = {tag["reference"]: tag["digest"] for tag in built.outcome.document["tags"]}
    for name, image in built.images.items():
        for source in (f"docker-archive:{built.archive}:{name}:1", f"docker://{pushed}/{name}:1"):
            flags = ["--tls-verify=false"] if source.startswith("docker://") else []
            read = json.loads(run(*skopeo, "inspect", *flags, source))
            assert len(read["Layers"]) == len(image["layers"])
        there, back = f"docker://{pushed}/again/{name}:1", f"oci:{tmp_path}/back-{name}:1"
        keep = ["-q", "--all", "--preserve-digests"]
        run(*skopeo, "copy", *keep, "--dest-tls-verify=false", f"oci:{built.dist / name}:1", there)
        run(*skopeo, "copy", *keep, "--src-tls-verify=false", there, back)
        (index,) = json.loads((tmp_path / f"back-{name}/index.json").read_bytes())["manifests"]
        assert index["digest"] == tags[f"{name}:1"]


def test_buildah(built: Built, pushed: str, tmp_path: Path) -> None:
    sources = {name: f"oci:{built.dist / name}:1" for name in ("one", "sixteen")}
    sources["sixty pulled"] = f"docker://{pushed}/sixty:1"
    if EVERYTHING:
        sources["sixty"] = f"oci:{built.dist / 'sixty'}:1"
        sources |= {f"{name} pulled": f"docker://{pushed}/{name}:1" for name in ("one", "sixteen")}
    trees = {}
    with containers("buildah") as buildah:
        for what, source in sources.items():
            trust = ["--signature-policy", policy(tmp_path)]
            container = run(*buildah, "from", "-q", "--tls-verify=false", *trust, source).strip()
            trees[what] = mounted(Path(run(*buildah, "mount", container).strip()))
            run(*buildah, "umount", container)
            run(*buildah, "rm", container)
            run(*buildah, "rmi", "--all", "--force")  # the next one is to come from where it is said to
    assert dict(all_alike(trees)["opt/odd/able"][5]) == CAPABLE


def test_podman(built: Built, pushed: str, tmp_path: Path) -> None:
    trees = {}
    with containers("podman") as podman:
        trust = ["--signature-policy", policy(tmp_path)]
        run(*podman, "load", "-q", *trust, "-i", built.archive)
        trees |= {name: podman_tree(podman, f"localhost/{name}:1") for name in COMPARED}
        run(*podman, "rmi", "--all", "--force")
        for name in LAYERS if EVERYTHING else ():
            run(*podman, "pull", "-q", "--tls-verify=false", *trust, f"{pushed}/{name}:1")
            trees[f"{name} pulled"] = podman_tree(podman, f"{pushed}/{name}:1")
            run(*podman, "rmi", "--all", "--force")
    assert dict(all_alike(trees)["opt/odd/able"][5]) == CAPABLE


def podman_tree(podman: list[str], image: str) -> Seen:
    tree = Path(run(*podman, "image", "mount", image).strip())
    try:
        return mounted(tree)
    finally:
        run(*podman, "image", "umount", image)


def test_zstd(built: Built, pushed: str, tmp_path: Path) -> None:
    """What is asked of new tools alone: older umoci, docker and all docker archives refuse it."""
    skopeo, archive = [tool("skopeo"), "--insecure-policy"], tmp_path / "zstd.tar"
    outcome = built.build("--json", "-q", "--archive", archive, "zstd")
    assert outcome.code == 0, outcome.err
    (image,) = outcome.document["images"]
    kinds = {layer["kind"]: layer["media_type"].rpartition("+")[2] for layer in image["layers"]}
    assert kinds == {"overlay": "zstd", "verbatim": "gzip", "spliced": "zstd", "top": "zstd"}
    assert image["size"] < built.images["sixteen"]["size"]
    keep = ["-q", "--all", "--preserve-digests"]
    run(*skopeo, "copy", *keep, f"oci:{built.dist / 'zstd'}:1", f"oci:{tmp_path}/copied:1")
    if not EVERYTHING:
        return
    trees = {}
    with containers("podman") as podman:
        trust = ["--signature-policy", policy(tmp_path)]
        run(*podman, "load", "-q", *trust, "-i", archive)
        run(*podman, "pull", "-q", "--tls-verify=false", *trust, f"{pushed}/one:1")
        trees = {"zstd": podman_tree(podman, "zstd:1"), "one": podman_tree(podman, f"{pushed}/one:1")}
    all_alike(trees)


def test_docker(built: Built, pushed: str) -> None:
    trees = {}
    with docker_daemon() as docker:
        run(*docker, "load", "-q", "-i", built.archive)
        for name, image in built.images.items():
            (loaded,) = json.loads(run(*docker, "image", "inspect", f"{name}:1"))
            assert loaded["RootFS"]["Layers"] == [layer["diff_id"] for layer in image["layers"]]
            if name in COMPARED:
                trees[name] = in_docker(docker, f"{name}:1")
        run(*docker, "rmi", "--force", *(f"{name}:1" for name in LAYERS))
        for name in LAYERS if EVERYTHING else ["sixty"]:
            run(*docker, "pull", "-q", f"{pushed}/{name}:1")
            trees[f"{name} pulled"] = in_docker(docker, f"{pushed}/{name}:1")
            run(*docker, "rmi", "--force", f"{pushed}/{name}:1")
    tree = all_alike(trees)
    assert [key for key, _ in tree["opt/odd/able"][6]] == ["SCHILY.xattr.security.capability"]
    assert tree["opt/odd/drop/again"][-1] == ("opt/odd/able", "opt/odd/drop/again")
    assert tree["opt/odder/drop/again"][6] == tree["opt/odd/able"][6]
