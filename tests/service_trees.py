"""The sample services of examples/services as values, and rendered files as s6-rc sources."""

from __future__ import annotations

import tarfile
from pathlib import Path

from sixsmith.errors import Place
from sixsmith.matrix.problems import Problems
from sixsmith.matrix.text import read_yaml
from sixsmith.model.spelled import SpelledMapping
from sixsmith.s6.render_script import RenderedFile
from sixsmith.s6.service import Service
from sixsmith.s6.service_file import read_services
from sixsmith.s6.sources import SourceDirectory, make_source

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ("web", "database", "proxy")


def spelled(text: str, file: str = "sixsmith.yaml") -> SpelledMapping:
    """YAML with places."""
    problems = Problems()
    tree = read_yaml(text.encode(), file, problems)
    problems.raise_any()
    assert isinstance(tree, SpelledMapping)
    return tree


def services_of(text: str, *, closed: bool = True) -> tuple[Service, ...]:
    """The services of a `services:` mapping."""
    return read_services(spelled(text), place=Place("sixsmith.yaml"), closed=closed)


def example(name: str) -> tuple[Service, ...]:
    """The services of one of the examples."""
    file = f"examples/services/{name}.yaml"
    services = spelled((ROOT / file).read_text(), file)["services"]
    assert isinstance(services, SpelledMapping)
    return read_services(services, place=Place(file))


def texts(files: tuple[RenderedFile, ...]) -> dict[str, str]:
    """The regular files by path."""
    return {file.path: file.content.decode() for file in files if file.kind == "file"}


def sources_of(files: tuple[RenderedFile, ...]) -> list[SourceDirectory]:
    """The source directories that rc.init hands to the compiler, the overlay's own not among them."""
    sources = []
    for folder in ("etc/s6-overlay/s6-rc.d", "etc/s6-overlay/user-bundles.d"):
        below = {
            file.path.removeprefix(folder + "/"): file.content if file.kind == "file" else None
            for file in files
            if file.path.startswith(folder + "/") and file.kind != "symlink"
        }
        # an empty directory is an entry of its own, others come with their files
        kept = {
            path: content
            for path, content in below.items()
            if content is not None or not any(other.startswith(path + "/") for other in below)
        }
        if kept:
            sources.append(make_source("/" + folder, kept))
    return sources


def overlays_own(data: Path, version: str) -> SourceDirectory:
    """The overlay's own source directory, and the empty bundles that it puts into /etc, in one."""
    files: dict[str, bytes | None] = {}
    with tarfile.open(data / f"upstream/s6-overlay/v{version}/s6-overlay-noarch.tar.xz") as archive:
        for member in archive:
            _, found, path = member.name.partition("/etc/s6-rc/sources/")
            if found and member.isfile():
                content = archive.extractfile(member)
                files[path] = content.read() if content is not None else b""
    files |= {"user2/type": b"bundle\n", "user2/contents.d": None}
    return make_source(f"/package/admin/s6-overlay-{version}/etc/s6-rc/sources", files)


def write_files(root: Path, files: tuple[RenderedFile, ...]) -> None:
    """The rendered files on disk."""
    for file in files:
        path = root / file.path
        if file.kind == "directory":
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(file.mode)


# --- for migration: every feature of v1 and v2

OLD = {
    "etc/fix-attrs.d/01-data": "# data\n/var/lib/web true www,1000:1000 0640 0750\n/var/cache/* false www:www - 0755\n\nnonsense\n",
    "etc/cont-init.d/10-adduser": "#!/usr/bin/with-contenv bash\nid www || adduser -D www\n",
    "etc/cont-init.d/20-config.sh": "#!/usr/bin/execlineb -P\nforeground { /bin/s6-mkdir -p /var/lib/web }\n/usr/local/bin/configure\n",
    "etc/cont-init.d/30-check": "#!/bin/sh\n[ -r /etc/cont-init.d/10-adduser ] && s6-test 1 -eq 1\n",
    "etc/cont-finish.d/10-save": "#!/usr/bin/with-contenv sh\nsave\n",
    "etc/cont-finish.d/20-bye": "#!/bin/sh\necho bye\n",
    "etc/services.d/web/run": "#!/usr/bin/with-contenv sh\n# /var/run/s6/services is not touched in comments\nexec s6-setuidgid www web --config ./web.conf\n",
    "etc/services.d/web/finish": "#!/usr/bin/execlineb -S0\nif { s6-test ${1} -ne 0 }\nif { s6-test ${1} -ne 256 }\n"
    "foreground { redirfd -w 1 /var/run/s6/env-stage3/S6_STAGE2_EXITED s6-echo -n -- ${1} }\ns6-svscanctl -t /var/run/s6/services\n",
    "etc/services.d/web/web.conf": "port 80\n",
    "etc/services.d/web/timeout-kill": "5000\n",
    "etc/services.d/web/log/run": "#!/bin/sh\nexec logutil-service /var/log/web\n",
    "etc/services.d/web/log/notification-fd": "3\n",
    "etc/services.d/worker/run": "#!/bin/sh\nexec s6-notifyoncheck worker\n",
    "etc/services.d/worker/data/check": "#!/bin/sh\ntrue\n",
    "etc/services.d/worker/notification-fd": "3\n",
    "etc/services.d/worker/nosetsid": "",
    "etc/services.d/user/run": "#!/usr/bin/with-contenv /bin/sh\nexec userd\n",
    "etc/services.d/manual/run": "#!/usr/bin/with-contenv sh\nexec manual\n",
    "etc/services.d/manual/down": "",
    "usr/local/bin/stop": "#!/bin/sh\n/bin/s6-svscanctl -t /var/run/s6/services\n",
    "usr/local/bin/reload": "#!/bin/sh\ns6-svc -h /var/run/s6/services/web\n",
    "usr/share/notes.txt": "see /var/run/s6/services\n",
}  # fmt: skip
EXECUTABLE = ("usr/local/bin/stop", "usr/local/bin/reload")


def files_of(tree: dict[str, str]) -> list[RenderedFile]:
    folders = {"/".join(path.split("/")[:length]) for path in tree for length in range(1, path.count("/") + 1)}
    found = [RenderedFile(path, "directory", 0o755) for path in folders]
    found += [
        RenderedFile(path, "file", 0o755 if path in EXECUTABLE else 0o644, text.encode()) for path, text in tree.items()
    ]
    return sorted(found, key=lambda file: file.path)


def old_tree() -> list[RenderedFile]:
    """A root folder with everything that v1 and v2 offer."""
    return files_of(OLD)
