"""Families of genuine Alpine and s6-overlay files, from one file to running containers and a registry and back.

    a   Alpine 3.19 from its packages, s6-overlay v3
    b   Alpine 3.16 minirootfs with bash on it, s6-overlay v3
    c   Alpine 3.7 to 3.12 minirootfs, s6-overlay v1 and v2

Every image must please `umoci`, `skopeo` and our own validation, and `/init` must run a command and return its exit code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_publish_registry import docker_registry

from commandline import Outcome, Workplace, clean_environment, digests
from sixsmith.io.layout import open_layout
from sixsmith.io.store import Store
from sixsmith.model.digest import Digest
from sixsmith.oci.spec import INDEX, MANIFEST, Descriptor
from sixsmith.oci.validate import validate_image
from sixsmith.testing.world import World

FAMILY = """\
name: shown
defaults: {arch: [x86_64], repositories: [main]}
images:
  a:
    base: packages
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.19], s6-overlay: [3.2.1.0]}
    packages: [alpine-base]
  b:
    tag: "{alpine}-{s6-overlay}"
    matrix: {alpine: [3.16], s6-overlay: [3.1.6.2]}
    packages: [bash]
  c:
    tag: "{alpine}-{s6-overlay}"
    matrix:
      alpine: [3.7, 3.8, 3.9, 3.10, 3.11, 3.12]
      s6-overlay: [1.21.4.0, 2.1.0.2]
      include:
        - {alpine: 3.12, s6-overlay: 1.21.4.0, arch: [x86_64, aarch64]}
"""
OLD = [
    f"c:{alpine}-{overlay}"
    for alpine in ("3.7", "3.8", "3.9", "3.10", "3.11", "3.12")
    for overlay in ("1.21.4.0", "2.1.0.2")
]
AMD64 = ["a:3.19-3.2.1.0", "b:3.16-3.1.6.2", *OLD]
ALL = [*(f"{reference}/x86_64" for reference in AMD64), "c:3.12-1.21.4.0/aarch64"]


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str | Path, code: int = 0, **more: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=120, check=False, **more
    )
    assert done.returncode == code, f"{' '.join(map(str, command))}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


class Shown(Workplace):
    """The families, built from the genuine files."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.data = data
        super().__init__(folder, World(folder, None, (), (), (), {}))  # type: ignore[arg-type]  # no sample world here
        self.write(FAMILY)

    def options(self, **_: Any) -> list[str]:
        upstream = self.data / "upstream"
        mirrors = ["--mirror", str(upstream / "alpine"), "--overlay-mirror", str(upstream / "s6-overlay")]
        return ["--store", str(self.store), *mirrors]


@pytest.fixture(scope="module")
def shown(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shown, Outcome]:
    place = Shown(tmp_path_factory.mktemp("shown"), data)
    outcome = place.build("--json")
    assert outcome.code == 0, outcome.err
    return place, outcome


def descriptor_of(outcome: Outcome, id_: str) -> Descriptor:
    (image,) = (image for image in outcome.document["images"] if image["id"] == id_)
    return Descriptor(MANIFEST, Digest(image["digest"]), -1)


def test_the_families_are_what_was_asked(shown: tuple[Shown, Outcome]) -> None:
    place, outcome = shown
    images = outcome.document["images"]
    assert sorted(image["id"] for image in images) == sorted(ALL)
    assert sorted(tag["reference"] for tag in outcome.document["tags"]) == sorted(AMD64)
    assert {image["platform"] for image in images} == {"linux/amd64", "linux/arm64/v8"}
    assert place.damages() == []
    assert "Alpine 3.7 is out of support since 2019-11-01" in outcome.err
    assert "s6-overlay 1.21.4.0 syncs every disk" in outcome.err


@pytest.mark.parametrize("id_", ALL)
def test_our_own_validation(shown: tuple[Shown, Outcome], id_: str) -> None:
    place, outcome = shown
    with Store(place.store) as store:
        digest = descriptor_of(outcome, id_).digest
        assert validate_image(store, Descriptor(MANIFEST, digest, store.size(digest)), deep=True) == []


def test_the_layouts_are_what_the_store_has(shown: tuple[Shown, Outcome]) -> None:
    place, outcome = shown
    tags = {tag["reference"]: tag["digest"] for tag in outcome.document["tags"]}
    found = {}
    for name in ("a", "b", "c"):
        layout = open_layout(place.dist / name)
        for entry in json.loads((place.dist / name / "index.json").read_bytes())["manifests"]:
            found[f"{name}:{entry['annotations']['org.opencontainers.image.ref.name']}"] = entry["digest"]
            assert entry["mediaType"] == INDEX
            described = Descriptor(INDEX, Digest(entry["digest"]), entry["size"])
            assert validate_image(layout, described, deep=True) == []
    assert found == tags


def bundle_config(bundle: Path, command: list[str]) -> None:
    """umoci's config, made to run `/init` with a command on a host without cgroups of our own."""
    config = json.loads((bundle / "config.json").read_text())
    capabilities = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
    config["process"] |= {"args": ["/init", *command], "terminal": False}
    config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    config["process"]["env"] += ["S6_KILL_GRACETIME=50", "S6_SERVICES_GRACETIME=50", "S6_KILL_FINISH_MAXTIME=500"]
    run_folder = {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "exec", "mode=755"]}
    kept = [mount for mount in config["mounts"] if mount["destination"] not in ("/sys/fs/cgroup", "/run")]
    config["mounts"] = [*kept, run_folder]
    config["linux"]["resources"] = {}
    config["linux"].pop("cgroupsPath", None)
    namespaces = config["linux"]["namespaces"]
    config["linux"]["namespaces"] = [each for each in namespaces if each["type"] not in ("network", "cgroup")]
    (bundle / "config.json").write_text(json.dumps(config))


def unpack(place: Shown, reference: str, folder: Path, arch: str = "amd64") -> Path:
    """An image as a bundle. Of an index with several platforms umoci takes none, so skopeo takes one out."""
    name, _, tag = reference.partition(":")
    image = f"{place.dist / name}:{tag}"
    if reference == "c:3.12-1.21.4.0":
        run(tool("skopeo"), "--override-arch", arch, "copy", "-q", f"oci:{image}", f"oci:{folder / 'one'}:x")
        image = f"{folder / 'one'}:x"
    rootless = [] if os.geteuid() == 0 else ["--rootless"]
    run(tool("umoci"), "unpack", *rootless, "--image", image, folder / "bundle")
    return folder / "bundle"


@pytest.mark.parametrize("reference", AMD64)
def test_umoci_unpacks_it_and_init_runs_a_command(shown: tuple[Shown, Outcome], tmp_path: Path, reference: str) -> None:
    place, _ = shown
    bundle = unpack(place, reference, tmp_path)
    shell = "bash" if reference.startswith("b:") else "sh"
    script = 'echo "told: $(cat /etc/alpine-release) $(apk info 2>/dev/null | wc -l) $(id -u) $(command -v s6-svscan)"; exit 7'
    bundle_config(bundle, [shell, "-c", script])
    name = f"sixsmith-{os.getpid()}-{hashlib.sha256(str(bundle).encode()).hexdigest()[:12]}"
    command = [tool("runc"), "--root", tmp_path / "runc", "run", "--bundle", bundle, name]
    done = run(*command, code=7, stdin=subprocess.DEVNULL)
    (told,) = re.findall("^told: (.*)$", done.stdout, re.MULTILINE)
    release, packages, uid, scanner = told.split()
    assert release.startswith(reference.split(":")[1].split("-")[0] + ".")
    installed = (bundle / "rootfs/lib/apk/db/installed").read_text()
    assert int(packages) == len(re.findall("^P:", installed, re.MULTILINE))
    assert uid == "0"
    assert scanner.endswith("/s6-svscan"), "the overlay's programs are found by PATH"


def test_umoci_unpacks_the_arm_image(shown: tuple[Shown, Outcome], tmp_path: Path) -> None:
    place, _ = shown
    bundle = unpack(place, "c:3.12-1.21.4.0", tmp_path, "arm64")
    program = (bundle / "rootfs/bin/busybox").read_bytes()
    assert int.from_bytes(program[18:20], "little") == 183, "EM_AARCH64"
    assert (bundle / "rootfs/init").exists()


@pytest.mark.parametrize("id_", ALL)
def test_skopeo_makes_a_docker_archive_of_it(shown: tuple[Shown, Outcome], tmp_path: Path, id_: str) -> None:
    place, outcome = shown
    reference, _, arch = id_.partition("/")
    name, _, tag = reference.partition(":")
    archive = tmp_path / "docker.tar"
    oci = {"x86_64": "amd64", "aarch64": "arm64"}[arch]
    source = f"oci:{place.dist / name}:{tag}"
    run(tool("skopeo"), "--override-arch", oci, "copy", "-q", source, f"docker-archive:{archive}:{name}:{tag}")
    shown_config = run(tool("skopeo"), "inspect", "--config", "--raw", f"docker-archive:{archive}:{name}:{tag}").stdout
    config = json.loads(shown_config)
    with Store(place.store) as store:
        manifest = json.loads(store.read(descriptor_of(outcome, id_).digest))
        ours = json.loads(store.read(Digest(manifest["config"]["digest"])))
    assert config["rootfs"]["diff_ids"] == ours["rootfs"]["diff_ids"]
    assert config["config"]["Entrypoint"] == ["/init"]


def test_building_again_changes_nothing(shown: tuple[Shown, Outcome]) -> None:
    place, outcome = shown
    again = place.build("--json")
    assert digests(again) == digests(outcome)
    assert all(image["cached"] for image in again.document["images"])


def test_pushed_to_docker_registry_and_pulled_with_skopeo(shown: tuple[Shown, Outcome], tmp_path: Path) -> None:
    tool("docker-registry")
    place, outcome = shown
    tags = {tag["reference"]: tag["digest"] for tag in outcome.document["tags"]}
    with docker_registry(tmp_path) as host:
        first = place.run("push", f"{host}/smith", *place.options(), "--json")
        assert first.code == 0, first.err
        pushed = {item["reference"]: item["digest"] for item in first.document["pushed"]}
        assert pushed == {f"{host}/smith/{reference}": digest for reference, digest in tags.items()}
        uploaded = sum(item["uploaded_bytes"] for item in first.document["pushed"])
        blobs = {layer["digest"]: layer["size"] for image in outcome.document["images"] for layer in image["layers"]}
        assert sum(blobs.values()) < uploaded < sum(blobs.values()) + 200_000, "every layer once, and the documents"

        second = place.run("push", f"{host}/smith", *place.options(), "--json")
        assert second.code == 0
        assert sum(item["uploaded_bytes"] for item in second.document["pushed"]) == 0

        for reference in ("a:3.19-3.2.1.0", "c:3.12-1.21.4.0"):
            target = f"oci:{tmp_path}/pulled-{reference[0]}:x"
            flags = ["-q", "--all", "--preserve-digests", "--src-tls-verify=false"]
            run(tool("skopeo"), "copy", *flags, f"docker://{host}/smith/{reference}", target)
            layout = json.loads((tmp_path / f"pulled-{reference[0]}" / "index.json").read_bytes())
            assert [entry["digest"] for entry in layout["manifests"]] == [tags[reference]]


MEMORY = """
import sys
from sixsmith.cli import run
code = run(sys.argv[1:])
high = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(high.split()[1], file=sys.stderr)
sys.exit(code)
"""


@pytest.mark.parametrize("jobs", [1, 16])
def test_memory_stays_small_with_sixty_packages(data: Path, tmp_path: Path, jobs: int) -> None:
    """Under 150 MB, whatever the image weighs; 61 packages and the overlay."""
    alpine = data / "upstream/alpine"
    if not (alpine / "v3.19/bench").is_dir():
        pytest.skip("no v3.19/bench in the test files")
    packages = sorted(
        match[1]
        for file in (alpine / "v3.19/bench/x86_64").glob("*.apk")
        if (match := re.match(r"(.+)-[^-]+-r\d+\.apk", file.name))
    )
    repository = {
        "name": "bench",
        "url": str(alpine / "v3.19/bench"),
        "key": str(data / "upstream/keys/bench-00000001.rsa.pub"),
    }
    image = {
        "base": "packages",
        "arch": ["x86_64"],
        "tag": "all",
        "matrix": {"alpine": ["3.19"], "s6-overlay": ["3.2.1.0"]},
        "repositories": [repository],
        "packages": packages,
    }
    (tmp_path / "sixsmith.yaml").write_text(json.dumps({"name": "bench", "images": {"bench": image}}))
    mirrors = ["--mirror", alpine, "--overlay-mirror", data / "upstream/s6-overlay", "--store", tmp_path / "store"]
    command = [sys.executable, "-c", MEMORY, "build", "-q", "--json", "-j", str(jobs), *mirrors]
    done = run(*command, cwd=tmp_path, env=clean_environment(tmp_path, {}))
    assert json.loads(done.stdout)["images"][0]["packages"] == len(packages) == 61
    assert int(done.stderr.split()[-1]) < 150_000, "kB"


def test_a_file_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    """Of 3.20 there are indexes alone: a plan can be made, a build says which package the mirror lacks."""
    place = Shown(tmp_path, data)
    place.write(FAMILY.split("  b:")[0].replace("3.19", "3.20"))
    assert place.run("plan", *place.options(), "-q").code == 0
    outcome = place.build()
    assert outcome.code == 3
    assert re.search(r"error: v3\.20/main/x86_64/\S+\.apk is not on the mirror", outcome.err), outcome.err
    place.nothing_was_made()


def test_solve_and_install(data: Path, tmp_path: Path) -> None:
    place = Shown(tmp_path, data)
    repository = data / "upstream/alpine/v3.19/main"
    options = ["--store", place.store, "--repository", repository, "--json"]
    solved = place.run("solve", *options, "alpine-base")
    assert solved.code == 0, solved.err
    names = [name for name, _ in solved.document["install"]]
    assert solved.document["ok"] is True and names[-1] == "alpine-base" and "musl" in names
    root = tmp_path / "root"
    if os.geteuid() != 0:
        pytest.skip("files of other owners can only be written by root")
    installed = place.run("install", "--root", root, *options, "alpine-base")
    assert installed.code == 0, installed.err
    assert installed.document["packages"] == solved.document["install"]
    listed = re.findall(r"^P:(.+)$", (root / "lib/apk/db/installed").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(names)
    assert (root / "bin/busybox").stat().st_mode & 0o777 == 0o755
    assert (root / "bin/sh").is_symlink()
    done = run("chroot", root, "/sbin/apk", "info", "-e", "alpine-base")
    assert done.stdout.strip() == "alpine-base"
