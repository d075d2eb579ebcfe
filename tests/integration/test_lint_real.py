"""The linter on real Alpine roots with real overlays: no false alarms, and fast."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from sixsmith.looking import lint_seen, look_at_disk, overlay_findings
from sixsmith.model.arch import ARCHES
from sixsmith.oci.image import Healthcheck, ImageSettings
from sixsmith.overlay import lay_overlay, overlay_settings, read_overlay
from sixsmith.rootfs.bases import read_minirootfs
from sixsmith.rootfs.tree import BASE, Tree
from sixsmith.s6.finding import Finding
from sixsmith.s6.lint import find_overlay, lint_image

pytestmark = pytest.mark.data

ADVISED = frozenset({"M15", "V9", "V4"})
"""Facts about a release that nobody can lint away."""
RELEASES = ["1.21.4.0", "2.1.0.2", "3.1.6.2", "3.2.1.0"]
RC = "etc/s6-overlay/s6-rc.d"


def real_tree(data: Path, base: Path, version: str, *, symlinks: bool = False) -> Tree:
    tree = read_minirootfs(base.read_bytes(), what=base.name).tree
    folder = data / "upstream/s6-overlay" / f"v{version}"
    files = {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if "aarch64" not in path.name and (symlinks or "symlinks" not in path.name)
    }
    lay_overlay(tree, read_overlay(version, ARCHES["x86_64"], files))
    return tree


def strangers(tree: Tree) -> Tree:
    """The tree as one that somebody else made: nothing tells where files came from."""
    other = Tree()
    other.nodes = {path: msgspec.structs.replace(node, origin=BASE) for path, node in tree.nodes.items()}
    return other


def alarms(findings: tuple[Finding, ...]) -> list[str]:
    return [str(finding) for finding in findings if finding.severity != "info" and finding.rule not in ADVISED]


def bases(data: Path) -> list[Path]:
    found = sorted(data.glob("upstream/alpine/*/releases/x86_64/*minirootfs*.tar.gz"))
    assert found
    return found


@pytest.mark.parametrize("version", RELEASES)
def test_no_false_alarm_on_what_upstream_ships(data: Path, version: str) -> None:
    for base in bases(data):
        for symlinks in {False, version == "3.2.1.0"}:
            tree = real_tree(data, base, version, symlinks=symlinks)
            settings = overlay_settings(version, symlinks=symlinks)
            image = ImageSettings(entrypoint=settings.entrypoint, env={"PATH": settings.path})
            assert alarms(lint_image(tree, image, also=overlay_findings(tree, image))) == []
            alone = strangers(tree)
            assert alarms(lint_image(alone, image, also=overlay_findings(alone, image))) == []
            assert alarms(lint_image(alone, None, also=overlay_findings(alone, None))) == []


@pytest.mark.parametrize("version", RELEASES)
def test_the_version_is_found_in_the_tree(data: Path, version: str) -> None:
    found = find_overlay(real_tree(data, bases(data)[-1], version))
    assert found is not None
    assert version in found.possible
    assert found.major == int(version[0])
    if found.major == 3:
        assert found.version == version


def test_a_bare_root_has_nothing_wrong(data: Path) -> None:
    for base in bases(data):
        assert lint_seen(look_at_disk(base, ARCHES["x86_64"])) == ()


# ---- sample services in the style of the overlay's own documents, written for this test


def legacy(tree: Tree, major: int) -> None:
    contenv = "/command/with-contenv" if major == 3 else "/usr/bin/with-contenv"
    execlineb = "/command/execlineb" if major == 3 else "/usr/bin/execlineb"
    tree.write(
        "etc/cont-init.d/10-prepare",
        f"#!{contenv} sh\nset -e\nmkdir -p /var/lib/web\nsed -i 's/x/y/' /etc/motd\n".encode(),
        mode=0o755,
    )
    tree.write("etc/cont-finish.d/90-bye", b"#!/bin/sh\necho bye\n", mode=0o755)
    tree.write("etc/services.d/web/run", b"#!/bin/sh\nexec httpd -f -p 8080 -h /var/www\n", mode=0o755)
    tree.write("etc/services.d/web/finish", f"#!{execlineb} -S0\ntrue\n".encode(), mode=0o755)
    tree.write("etc/services.d/web/log/run", b"#!/bin/sh\nexec logutil-service /var/log/web\n", mode=0o755)
    tree.write(
        "etc/services.d/tick/run",
        f"#!{contenv} sh\nwhile true; do\n  echo tick\n  sleep 60\ndone\n".encode(),
        mode=0o755,
    )
    tree.write(
        "etc/services.d/clock/run",
        f"#!{execlineb} -P\nwith-contenv\ns6-setuidgid nobody\nfdmove -c 2 1\nsleep 10000\n".encode(),
        mode=0o755,
    )
    tree.make_directory("var/log/web", mode=0o755, uid=65534, gid=65534)


def modern(tree: Tree) -> None:
    files = {
        "prepare/type": "oneshot\n",
        "prepare/dependencies.d/base": "",
        "prepare/up": "/etc/s6-overlay/scripts/prepare\n",
        "web/type": "longrun\n",
        "web/run": "#!/command/with-contenv sh\nexec s6-notifyoncheck -d -n 10 fdmove -c 2 1 s6-setuidgid nobody httpd -f -p 8080\n",
        "web/data/check": "#!/bin/sh\nwget -q -O /dev/null http://127.0.0.1:8080/\n",
        "web/finish": '#!/bin/sh\nif test "$1" -ne 0; then\n  echo "$1" > /run/s6-linux-init-container-results/exitcode\n  /run/s6/basedir/bin/halt\nfi\n',
        "web/notification-fd": "3\n",
        "web/dependencies.d/prepare": "",
        "web/producer-for": "web-log\n",
        "web-log/type": "longrun\n",
        "web-log/run": "#!/command/execlineb -P\nlogutil-service /var/log/web\n",
        "web-log/notification-fd": "3\n",
        "web-log/consumer-for": "web\n",
        "web-log/pipeline-name": "web-pipeline\n",
        "web-log/dependencies.d/web-log-prepare": "",
        "web-log-prepare/type": "oneshot\n",
        "web-log-prepare/up": "if { mkdir -p /var/log/web }\nif { chown nobody:nobody /var/log/web }\nchmod 02755 /var/log/web\n",
        "web-log-prepare/dependencies.d/base": "",
        "cron/type": "longrun\n",
        "cron/run": "#!/bin/sh\nexec crond -f -l 8\n",
        "cron/dependencies.d/base": "",
        "user/contents.d/prepare": "",
        "user/contents.d/web-pipeline": "",
        "user/contents.d/cron": "",
    }
    for path, text in files.items():
        mode = 0o755 if path.endswith(("run", "check", "finish")) else 0o644
        tree.write(f"{RC}/{path}", text.encode(), mode=mode)
    tree.write("etc/s6-overlay/scripts/prepare", b'#!/command/with-contenv sh\necho "$GREETING"\n', mode=0o755)


@pytest.mark.parametrize("version", RELEASES)
def test_no_false_alarm_on_sample_services(data: Path, version: str) -> None:
    tree = real_tree(data, bases(data)[-1], version)
    legacy(tree, int(version[0]))
    if version.startswith("3"):
        modern(tree)
    settings = overlay_settings(version)
    image = ImageSettings(
        entrypoint=settings.entrypoint,
        env={"PATH": settings.path, "GREETING": "hello", "TZ": "Asia/Seoul", "S6_OVERLAY_VERSION": f"v{version}"},
        volumes=("/var/lib/web",),
        healthcheck=Healthcheck(("CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/")),
    )
    assert alarms(lint_image(tree, image, also=overlay_findings(tree, image))) == []
    other = strangers(tree)
    assert alarms(lint_image(other, image, also=overlay_findings(other, image))) == []


@pytest.mark.parametrize("version", RELEASES)
def test_a_base_image_is_linted_in_no_time(data: Path, version: str) -> None:
    tree = real_tree(data, bases(data)[-1], version)
    image = ImageSettings(entrypoint=("/init",))
    lint_image(tree, image)
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        lint_image(tree, image)
        best = min(best, time.process_time() - started)
    assert best < 0.03
