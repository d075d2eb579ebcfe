"""`make demo`: the whole way, from one file to images in a registry, on this machine.

Takes the public mirrors where they answer; elsewhere it makes a small sample world on the spot (signed packages, a mirror,
overlay releases) and says so. The registry is `docker-registry` where that is installed, else the one that sixsmith ships
for tests. Everything stays below `.demo/` and is made anew each time.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PLACE = ROOT / ".demo"
FAMILY = HERE / "alpine-s6-overlay" / "sixsmith.yaml"
SIXSMITH = [sys.executable, "-m", "sixsmith"]

PUBLIC = (
    "https://dl-cdn.alpinelinux.org/alpine/v3.22/main/x86_64/APKINDEX.tar.gz",
    "https://github.com/just-containers/s6-overlay/releases/download/v3.2.3.0/s6-overlay-noarch.tar.xz.sha256",
)


def main() -> None:
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir()
    options = ["--store", str(PLACE / "store"), *places()]
    family = ["-f", str(FAMILY)]
    say("The family: six images of the article, then today's releases")
    run("list", *family, "-q")
    say("Build it: no Docker, no root")
    run("build", *family, *options, "-q", "-o", str(PLACE / "dist"))
    say("Build it again: nothing changed, so nothing is done")
    run("build", *family, *options, "-q", "-o", str(PLACE / "dist"))
    with registry() as address:
        say(f"Push it to {address}")
        run("push", address, *family, *options, "-q")
        say("Push it again: the registry has it all")
        run("push", address, *family, *options, "-q")
    say("Dockerfiles for people who stay with Docker")
    run("export", "dockerfiles", *family, *options, "-q", "-o", str(PLACE / "dockerfiles"))
    look(PLACE / "dist" / "alpine-s6-overlay")


def places() -> list[str]:
    """The public mirrors, or a sample world."""
    silent = next((url for url in PUBLIC if not answers(url)), None)
    if silent is None:
        print("Alpine's and s6-overlay's own mirrors answer: the images are made of their files.")
        return []
    from sixsmith.matrix import load_family
    from sixsmith.testing.world import make_world

    cells = load_family(FAMILY).cells
    world = make_world(
        PLACE / "world",
        releases=list(dict.fromkeys(cell.alpine for cell in cells)),
        arches=list(dict.fromkeys(cell.arch.name for cell in cells)),
        overlays=list(dict.fromkeys(cell.overlay.version for cell in cells if cell.overlay)),
    )
    host = silent.split("/")[2]
    print(
        f"{host} does not answer from here, so the demo makes a small sample world below .demo/world: signed packages, a\n"
        "mirror, overlay releases. The images have the real layout and tiny placeholder programs; they are not for running."
    )
    return [
        *("--mirror", str(world.mirror)),
        *("--overlay-mirror", str(world.overlay_mirror)),
        *("--keys", str(world.keys)),
        *("--checksums", str(world.checksums)),
    ]


def answers(url: str) -> bool:
    if os.environ.get("SIXSMITH_DEMO") == "sample":
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


@contextmanager
def registry() -> Iterator[str]:
    """A registry on loopback, ended when the demo is done with it."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        from sixsmith.testing.registry import FakeRegistry

        print("(docker-registry is not installed; this is the small registry that sixsmith ships for tests)")
        with FakeRegistry() as server:
            yield server.host
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = PLACE / "registry.yml"
    settings.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: '{PLACE / 'registry'}'}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (PLACE / "registry.log").open("wb") as log:
        server = subprocess.Popen([program, "serve", str(settings)], stdout=log, stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                sys.exit(f"docker-registry ended at once, see {PLACE / 'registry.log'}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def look(layout: Path) -> None:
    """Shows one image with another tool, where there is one."""
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        print("\n(skopeo is not installed; with it the demo would show an image as another tool sees it)")
        return
    say("What skopeo sees")
    subprocess.run([skopeo, "list-tags", f"oci:{layout}"], check=False, stderr=subprocess.DEVNULL)
    command = [skopeo, "inspect", "--override-arch", "amd64", f"oci:{layout}:3.12-2.0.0.1"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print("\n".join([*shown.splitlines()[:8], "    …"]))


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


def run(*arguments: str) -> None:
    shown = " ".join(argument.replace(str(ROOT) + "/", "") for argument in arguments)
    print(f"$ sixsmith {shown}", flush=True)
    done = subprocess.run([*SIXSMITH, *arguments])
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
