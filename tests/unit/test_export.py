"""Exported Dockerfiles: what they say, what they cannot say, and an update.sh that works. (Building them: tests/integration.)"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from commandline import FAMILY, Workplace
from sixsmith import catalog
from sixsmith.model.arch import ARCHES

ROOT = Path(__file__).resolve().parent.parent.parent
ARTICLE = ROOT / "examples/alpine-s6-overlay/sixsmith.yaml"


def export(place: Workplace, family: str, *arguments: str) -> dict[str, str]:
    """The exported text files by path."""
    place.write(family)
    outcome = place.run("export", "dockerfiles", *place.options(), "-o", "docker", "--json", *arguments)
    assert outcome.code == 0, outcome.err
    return {
        str(path.relative_to(place.folder / "docker")): path.read_text()
        for path in sorted((place.folder / "docker").rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def refused(place: Workplace, family: str, *told: str) -> None:
    place.write(family)
    outcome = place.run("export", "dockerfiles", *place.options(), "-o", "docker")
    assert outcome.code == 2, outcome
    for text in told:
        assert text in outcome.err
    assert not (place.folder / "docker").exists()


def test_the_articles_tree(place: Workplace) -> None:
    """Its six Dockerfiles and update.sh by name, from the catalogue alone; no compiler, no download without a checksum."""
    options = ["--store", place.store, "--offline", "-o", "docker", "-q"]
    assert place.run("export", "dockerfiles", "-f", ARTICLE, *options).code == 0
    folder = place.folder / "docker/alpine-s6-overlay"
    names = {path.name for path in folder.iterdir()}
    article = {"3.7-1.21.8.0", "3.8-1.21.8.0", "3.9-1.21.8.0", "3.10-1.21.8.0", "3.11-1.21.8.0", "3.12-2.0.0.1"}
    assert names >= {f"Dockerfile.{tag}" for tag in article} | {"update.sh"}
    for tag in article:
        alpine, _, overlay = tag.partition("-")
        text = (folder / f"Dockerfile.{tag}").read_text()
        assert f"\nFROM alpine:{alpine}\n" in text
        assert "su-exec" in text and "bash" in text and ("shadow" in text) == (alpine != "3.7")
        assert "sdk" not in text and "gcc" not in text and "openssl" not in text
        known = catalog.overlay_checksum(overlay, "s6-overlay-amd64.tar.gz")
        assert known is not None and f"s6-overlay-amd64.tar.gz:{known.digest}" in text
        assert text.index("sha256sum -c -") < text.index("tar -C / -xzpf")
        assert 'ENTRYPOINT ["/init"]' in text
        assert "chmod g-w / /etc" in text
    assert stat.S_IMODE((folder / "update.sh").stat().st_mode) == 0o755


def test_one_file_for_all_architectures(place: Workplace) -> None:
    files = export(place, FAMILY.replace("x86_64", "x86_64, aarch64"))
    text = files["one/Dockerfile.3.22-3.2.3.0"]
    for arch in ("x86_64", "aarch64"):
        (names,) = re.findall(rf"^        {arch}\) set -- (.*?) ;;", text, re.MULTILINE | re.DOTALL)
        for name in catalog.overlay_files("3.2.3.0", ARCHES[arch]):
            digest = place.world.pins[f"s6-overlay-3.2.3.0/{name}"][7:]
            assert f"{name}:{digest}" in names
    assert "PLATFORMS (linux/amd64,linux/arm64/v8)" in files["one/update.sh"]


def test_v3_has_its_programs_in_the_path(place: Workplace) -> None:
    files = export(place, FAMILY)
    assert "ENV PATH=/command:" in files["one/Dockerfile.3.22-3.2.3.0"]
    own = export(place, FAMILY + "    env: {PATH: /bin}\n")
    assert own["one/Dockerfile.3.22-3.2.3.0"].count("ENV PATH=") == 1


RICH = """\
name: rich
registry: registry.example:5000/smith
images:
  base:
    arch: [x86_64]
    tag: "{alpine}"
    matrix: {alpine: [3.22]}
    repositories:
      - main
      - {name: mine, url: "https://packages.example/apks", key: mine.rsa.pub}
      - {name: edge, url: "https://packages.example/edge", pin: edge}
    packages: ["bash>5", "nginx@edge"]
    env: {PRICE: '5 $ "net"\\'}
    labels: {org.example.ü: 'a "b" $c'}
    files:
      - {path: /etc/text, content: "one\\ntwo\\n", mode: "0600", owner: app}
      - {path: /etc/folder, source: folder}
      - {path: /etc/gone, type: absent}
      - {path: /var/lib/app, type: directory, owner: app, mode: "0750"}
      - {path: /etc/link, type: symlink, target: text}
    accounts:
      users: [{name: app, uid: 900, groups: [web]}, {name: robot, system: true, gecos: "R2 D2"}]
      groups: [{name: web, gid: 950}]
    healthcheck: {command: [curl, -f, "http://127.0.0.1/"], interval: 90s, timeout: 500ms, retries: 2}
    cmd: [sh, -c, 'echo "hello"']
    entrypoint: [/init]
    user: app
    workdir: /srv
    ports: [80/tcp, 53/udp]
    volumes: [/var/lib/app]
    stop-signal: SIGQUIT
  app:
    from: base
    tag: "{alpine}-app"
    packages: [tini]
"""


@pytest.fixture
def rich(place: Workplace) -> dict[str, str]:
    (place.folder / "mine.rsa.pub").write_bytes(place.world.key.public)
    (place.folder / "folder/deep").mkdir(parents=True)
    (place.folder / "folder/run").write_text("#!/bin/sh\n")
    (place.folder / "folder/run").chmod(0o711)
    (place.folder / "folder/deep/secret").write_text("x\n")
    (place.folder / "folder/deep/secret").chmod(0o600)
    (place.folder / "folder/link").symlink_to("run")
    return export(place, RICH)


def test_everything_that_a_dockerfile_can_say(rich: dict[str, str]) -> None:
    lines = rich["base/Dockerfile.3.22"].splitlines()
    for line in (
        'COPY ["files/3.22/0-mine.rsa.pub", "/etc/apk/keys/mine.rsa.pub"]',
        '      -X "$ALPINE_MIRROR/v3.22/main" \\',
        "      -X https://packages.example/apks \\",
        '      -X "@edge https://packages.example/edge" \\',
        "      'bash>5' nginx@edge",
        'ENV PRICE="5 \\$ \\"net\\"\\\\"',
        'LABEL "org.example.ü"="a \\"b\\" \\$c"',
        'HEALTHCHECK --interval=90s --timeout=0.5s --retries=2 CMD ["curl", "-f", "http://127.0.0.1/"]',
        'CMD ["sh", "-c", "echo \\"hello\\""]',
        "USER app",
        "WORKDIR /srv",
        "EXPOSE 80/tcp",
        "EXPOSE 53/udp",
        'VOLUME ["/var/lib/app"]',
        "STOPSIGNAL SIGQUIT",
        "RUN rm -rf /etc/gone",
        "RUN mkdir -p /etc && ln -sfn text /etc/link",
        "RUN mkdir -p /var/lib/app && chmod 0750 /var/lib/app && chown app:app /var/lib/app",
        'COPY ["files/3.22/1-text", "/etc/text"]',
        "RUN chown -R app:app /etc/text && chmod 0600 /etc/text",
    ):
        assert line in lines, line
    accounts = next(line for line in "\n".join(lines).split("\nRUN ") if "addgroup" in line)
    for command in (
        "addgroup -g 950 web",
        "adduser -D -u 900 -G app -g app app",
        "adduser -D -S -G robot -H -g 'R2 D2' robot",
    ):
        assert command in accounts
    assert "addgroup app web" in accounts
    assert rich["base/files/3.22/1-text"] == "one\ntwo\n"


def test_a_child_starts_from_its_parent_in_the_registry(rich: dict[str, str]) -> None:
    text = rich["app/Dockerfile.3.22-app"]
    assert "\nFROM registry.example:5000/smith/base:3.22\n" in text
    assert "tini" in text and "nginx" not in text


def test_files_get_the_modes_that_a_build_gives_them(place: Workplace, rich: dict[str, str]) -> None:
    folder = place.folder / "docker/base/files/3.22/2-folder"
    modes = {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    assert modes.pop("link")
    assert modes == {"run": 0o755, "deep": 0o755, "deep/secret": 0o644}
    assert os.readlink(folder / "link") == "run"  # noqa: PTH115  # the text itself, not a Path


def test_exporting_again_gives_the_same(place: Workplace, rich: dict[str, str]) -> None:
    assert export(place, RICH) == rich


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("packages: [bash]", "packages: [bash], base: packages", "cannot start from `base: packages`"),
        ("packages: [bash]", 'packages: [bash], env: {A: "one\\ntwo"}', "has a line break"),
        (
            "packages: [bash]",
            "packages: [bash], services: {web: {run: exec sleep 9}}",
            "`services:` cannot be exported",
        ),
        ("packages: [bash]", "packages: [bash], repositories: [{name: here, url: .}]", "is a local folder"),
    ],
)
def test_what_a_dockerfile_cannot_say(place: Workplace, old: str, new: str, told: str) -> None:
    family = FAMILY.replace(old, new)
    refused(place, family, told)


# ---- update.sh


FAKE = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in *"$BROKEN"*) exit 1;; esac
"""


def update(
    place: Workplace, *arguments: str, broken: str = "nothing at all", **environment: str
) -> tuple[int, list[str], str]:
    """Runs update.sh with a client that only writes down what it is asked."""
    export(place, "registry: registry.example/smith\n" + FAMILY.replace("3.22", "3.12, 3.22"))
    fake = place.folder / "fake"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    log = place.folder / "log"
    log.write_text("")
    known = {"PATH": os.environ["PATH"], "DOCKER": str(fake), "LOG": str(log), "BROKEN": broken}
    script = place.folder / "docker/one/update.sh"
    done = subprocess.run(
        [script, *arguments], env={**known, **environment}, capture_output=True, text=True, check=False
    )
    return done.returncode, log.read_text().splitlines(), done.stderr


def test_update_builds_and_pushes_every_tag(place: Workplace) -> None:
    code, asked, _ = update(place)
    assert code == 0
    name = "registry.example/smith/one"
    assert asked == [
        line
        for tag in ("3.12-3.2.3.0", "3.22-3.2.3.0")
        for line in (f"build --network host -f Dockerfile.{tag} -t {name}:{tag} .", f"push {name}:{tag}")
    ]


def test_update_to_another_registry_and_of_some_tags(place: Workplace) -> None:
    code, asked, _ = update(place, "localhost:5000", TAGS="3.22-3.2.3.0", BUILD_ARGS="--pull --no-cache")
    assert code == 0
    assert asked == [
        "build --network host --pull --no-cache -f Dockerfile.3.22-3.2.3.0 -t localhost:5000/one:3.22-3.2.3.0 .",
        "push localhost:5000/one:3.22-3.2.3.0",
    ]


def test_update_for_several_platforms(place: Workplace) -> None:
    code, asked, _ = update(place, PLATFORMS="linux/amd64,linux/arm64")
    assert code == 0
    assert all(
        line.startswith("buildx build --platform linux/amd64,linux/arm64 ") and "--push" in line for line in asked
    )
    assert len(asked) == 2


def test_update_goes_on_after_a_failure_and_says_what_failed(place: Workplace) -> None:
    code, asked, err = update(place, broken="build --network host -f Dockerfile.3.12")
    assert code == 1
    assert "not built or not pushed: 3.12-3.2.3.0" in err
    assert asked[-1] == "push registry.example/smith/one:3.22-3.2.3.0"


def test_shellcheck_has_nothing_to_say(place: Workplace) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    export(place, FAMILY)
    script = place.folder / "docker/one/update.sh"
    done = subprocess.run(["shellcheck", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
