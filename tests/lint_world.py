"""A smallest image with an overlay, and the smallest examples of every lint rule: one that it speaks about, one that it does not.

Files are given by path: text (mode 0755), `(mode, text)`, None for a directory, `link("target")`, `GONE` to take something
of the small image away. Settings are those of `ImageSettings`; by default only ENTRYPOINT is said.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from sixsmith.oci.image import Healthcheck, ImageSettings
from sixsmith.rootfs.tree import Tree
from sixsmith.s6.finding import Finding
from sixsmith.s6.found import has_traces
from sixsmith.s6.lint import lint_image

__all__ = ["EXAMPLES", "GONE", "Example", "File", "link", "lint", "small_image"]


@dataclass(frozen=True)
class Link:
    target: str


GONE = object()
File = Any
RC = "etc/s6-overlay/s6-rc.d"
V3, V2, V1 = "3.2.1.0", "2.1.0.2", "1.21.4.0"


def link(target: str) -> Link:
    return Link(target)


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, machine, 1) + bytes(40)


_V3_PROGRAMS = [
    "execlineb",
    "s6-svscan",
    "s6-supervise",
    "s6-svscanctl",
    "s6-svwait",
    "s6-svstat",
    "s6-rc",
    "s6-rc-compile",
    "s6-rc-init",
    "s6-linux-init-maker",
    "s6-mkdir",
    "s6-rmrf",
    "s6-ls",
    "s6-sort",
    "s6-ln",
    "s6-chown",
    "s6-chmod",
    "s6-cat",
    "s6-echo",
    "s6-rename",
    "s6-hiercopy",
    "s6-dumpenv",
    "s6-envdir",
    "s6-overlay-suexec",
    "printcontenv",
    "with-contenv",
    "importas",
    "eltest",
    "s6-setuidgid",
    "logutil-service",
    "s6-notifyoncheck",
    "foreground",
]
_OLD_PROGRAMS = [
    "execlineb",
    "s6-svscan",
    "s6-supervise",
    "s6-svscanctl",
    "s6-svwait",
    "s6-hiercopy",
    "s6-echo",
    "s6-envdir",
    "importas",
    "foreground",
    "s6-setuidgid",
]


def _sources(version: str) -> dict[str, File]:
    base = f"package/admin/s6-overlay-{version}/etc/s6-rc/sources"
    files: dict[str, File] = {f"{base}/{name}/type": "bundle\n" for name in ("top", "base")}
    for name in ("user", "user2", "base", "legacy-services"):
        files[f"{base}/top/contents.d/{name}"] = ""
    for name in ("fix-attrs", "legacy-cont-init"):
        files[f"{base}/base/contents.d/{name}"] = ""
    for name in ("fix-attrs", "legacy-cont-init", "legacy-services"):
        files |= {f"{base}/{name}/type": "oneshot\n", f"{base}/{name}/up": f"/package/{name}\n"}
    files |= {f"{base}/legacy-services/dependencies.d/{name}": "" for name in ("user", "base")}
    files |= {f"{RC}/{name}/type": "bundle\n" for name in ("user", "user2")}
    files |= {f"{RC}/{name}/contents.d": None for name in ("user", "user2")}
    return files


def _overlay(version: str) -> dict[str, File]:
    if version.startswith("3"):
        files = _sources(version) | {f"command/{name}": elf(62) for name in _V3_PROGRAMS}
        return files | {"init": "#!/bin/sh -e\n", "command/s6-overlay-suexec": (0o4755, elf(62))}
    files = {f"bin/{name}": elf(62) for name in _OLD_PROGRAMS}
    files |= {
        "usr/bin/with-contenv": "#!/bin/execlineb -S0\n",
        "usr/bin/execlineb": link("/bin/execlineb"),
        "init": "#!/bin/execlineb -S0\n",
    }
    stages = {1: "", 2: "S6_READ_ONLY_ROOT", 3: ""}
    if version.startswith("2"):
        stages = {1: "s6-overlay-preinit", 2: "S6_READ_ONLY_ROOT", 3: "S6_SYNC_DISKS execline-cd"}
        files["usr/bin/justc-envdir"] = elf(62)
    return files | {
        f"etc/s6/init/init-stage{stage}": f"#!/bin/execlineb -S0\n# {text}\n" for stage, text in stages.items()
    }


def small_image(version: str | None = V3, files: Mapping[str, File] | None = None) -> Tree:
    """A root file system of a few dozen files with this overlay, and `files` on it."""
    small: dict[str, File] = {
        "bin/busybox": elf(62),
        "bin/sh": link("busybox"),
        "usr/bin/env": link("/bin/busybox"),
        "usr/local/bin": None,
        "sbin": None,
        "usr/sbin": None,
        "run": None,
        "var/run": link("/run"),
        "etc/passwd": (
            0o644,
            "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\napp:x:1000:1000::/:/bin/sh\n",
        ),
        **(_overlay(version) if version else {}),
    }
    tree = Tree()
    for path, file in {**small, **(files or {})}.items():
        _put(tree, path, file)
    return tree


def _put(tree: Tree, path: str, file: File) -> None:
    if file is GONE:
        tree.remove(path)
        return
    mode, content = file if isinstance(file, tuple) else (0o755, file)
    if content is None:
        tree.make_directory(path, mode=mode)
    elif isinstance(content, Link):
        tree.make_symlink(path, content.target)
    else:
        tree.write(
            path, content.encode() if isinstance(content, str) else content, mode=mode, origin="base", keep=False
        )


@dataclass(frozen=True)
class Example:
    """The smallest image that a rule speaks about, and the smallest that it does not."""

    rule: str
    bad: Mapping[str, File] = field(default_factory=dict)
    good: Mapping[str, File] = field(default_factory=dict)
    version: str | None = V3
    bad_settings: Mapping[str, Any] = field(default_factory=dict)
    good_settings: Mapping[str, Any] = field(default_factory=dict)
    good_version: str | None = ""
    owners: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    note: str = ""

    @property
    def name(self) -> str:
        return f"{self.rule}-{self.note}" if self.note else self.rule


def lint(
    version: str | None,
    files: Mapping[str, File],
    settings: Mapping[str, Any],
    owners: Mapping[str, tuple[int, int]] | None = None,
) -> tuple[Finding, ...]:
    """The findings about a small image."""
    tree = small_image(version, files)
    for path, (uid, gid) in (owners or {}).items():
        tree.nodes[path] = msgspec.structs.replace(tree.nodes[path], uid=uid, gid=gid)
    findings = lint_image(tree, ImageSettings(**{"entrypoint": ("/init",), **settings}))
    assert has_traces(tree) or not findings, "a build takes it that nothing is wrong with such a tree"
    return findings


def longrun(name: str = "app", **files: File) -> dict[str, File]:
    """A sound longrun in the bundle `user`; keyword `a__b_d` writes the file `a/b.d`, `-` being `_`."""
    return _service(name, {"type": "longrun\n", "run": "#!/bin/sh\nexec sleepd\n"}, files)


def oneshot(name: str = "app", **files: File) -> dict[str, File]:
    return _service(name, {"type": "oneshot\n", "up": "echo hello\n"}, files)


def _service(name: str, own: dict[str, File], files: Mapping[str, File]) -> dict[str, File]:
    placed = {f"{RC}/{name}/{file}": content for file, content in own.items()}
    placed |= {f"{RC}/{name}/dependencies.d/base": "", f"{RC}/user/contents.d/{name}": ""}
    for key, content in files.items():
        file = key.replace("__", "/").replace("_d_", ".d/").removesuffix("_d") + (".d" if key.endswith("_d") else "")
        path = f"{RC}/{name}/{file.replace('_', '-')}"
        if content is GONE:
            placed.pop(path, None)
        else:
            placed[path] = content
    return placed


def run(script: str) -> dict[str, File]:
    return longrun(run=script)


def init(script: File, name: str = "10-x") -> dict[str, File]:
    return {f"etc/cont-init.d/{name}": script}


_SH = "#!/bin/sh\n"
_USER = {"user": "app"}
_LOGGED = {"var/log/app": None}

EXAMPLES = (
    # ---- R: services
    Example("R1", longrun(type="longrun\r\n"), longrun()),
    Example("R2", longrun("s6rc-app"), longrun("app")),
    Example("R3", longrun("fix-attrs"), longrun("fix")),
    Example("R4", longrun(dependencies_d_ghost=""), longrun()),
    Example("R5", longrun("a", dependencies_d_b="") | longrun("b", dependencies_d_a=""), longrun("a", dependencies_d_b="") | longrun("b")),
    Example("R6", {f"{RC}/all/type": "bundle\n"}, {f"{RC}/all/type": "bundle\n", f"{RC}/all/contents.d": None}),
    Example("R7", oneshot(up=GONE), oneshot()),
    Example("R8", longrun(run=GONE), longrun()),
    Example("R9", oneshot(up="if { true\n"), oneshot(up="if { true } echo\n")),
    Example("R10", oneshot(up="#!/bin/sh\necho a && echo b\n"), oneshot(up="/bin/sh -c \"echo a && echo b\"\n")),
    Example("R11", oneshot(up="mkdir /data\nchown app /data\n"), oneshot(up="foreground { mkdir /data }\nchown app /data\n")),
    Example("R12", oneshot(run="#!/bin/sh\n"), oneshot(run="#!/bin/sh\n", up=f"/{RC}/app/run\n")),
    Example("R13", oneshot(up="/etc/s6-overlay/scripts/x\n"), oneshot(up="/etc/s6-overlay/scripts/x\n") | {"etc/s6-overlay/scripts/x": _SH}),
    Example("R14", longrun("a", producer_for="b\n") | longrun("b"), longrun("a", producer_for="b\n") | longrun("b", consumer_for="a\n", pipeline_name="p\n") | {f"{RC}/user/contents.d/p": ""}),
    Example("R15", longrun("a", pipeline_name="p\n"), longrun("a")),
    Example("R16", oneshot(timeout_up="5s\n"), oneshot(timeout_up="5000\n")),
    Example("R17", longrun(notification_fd="1\n", run="#!/bin/sh\nexec appd --ready 1\n"), longrun(notification_fd="3\n", run="#!/bin/sh\nexec appd --ready 3\n")),
    Example("R18", longrun(dependencies="base \n", dependencies_d_base=GONE), longrun(dependencies="base\n", dependencies_d_base=GONE)),
    Example("R19", longrun(dependencies="base\n"), longrun()),
    Example("R20", longrun(log__run=_SH), longrun()),
    Example("R21", longrun(down=""), longrun()),
    Example("R22", longrun(run="#!/bin/sh\nexec ./start.sh\n") | {f"{RC}/app/start.sh": _SH}, longrun(run="#!/bin/sh\nexec ./data/start.sh\n") | {f"{RC}/app/data/start.sh": _SH}),
    Example("R24", {path: file for path, file in longrun().items() if "user/" not in path}, longrun()),
    Example("R25", {"etc/s6-overlay/s6-rd.d": None}, longrun()),
    Example("R26", longrun(dependencies_d_base=GONE), longrun()),
    Example("R27", longrun(dependencies_d_old="") | {"etc/services.d/old/run": _SH + "exec oldd\n"}, longrun() | {"etc/services.d/old/run": _SH + "exec oldd\n"}),
    Example("R28", {f"{RC}/stray": "x"}, {f"{RC}/README": "x"}),
    Example("R29", longrun(run="#!/bin/sh\nexec s6-notifyoncheck appd\n", data__check=_SH), longrun(run="#!/bin/sh\nexec s6-notifyoncheck appd\n", notification_fd="3\n", data__check=_SH)),
    Example("R30", longrun(run="#!/bin/sh\nexec s6-notifyoncheck appd\n", notification_fd="3\n"), longrun(run="#!/bin/sh\nexec s6-notifyoncheck appd\n", notification_fd="3\n", data__check=_SH)),
    Example("R31", longrun(run="#!/bin/sh\nexec logutil-service /var/log/app\n", notification_fd="3\n"), longrun(run="#!/bin/sh\nexec logutil-service /var/log/app\n", notification_fd="3\n") | {"var/log/app": (0o777, None)}),
    Example("R32", longrun(dependencies_d=GONE) | {f"{RC}/app/finish": None}, longrun(finish=_SH)),
    Example("R33", longrun(data="x"), longrun(data__x="x")),
    Example("R34", {RC: GONE}, longrun()),
    Example("R36", longrun(), {}, version=V2),
    # ---- S: scripts
    Example("S1", init((0o644, _SH)), init(_SH)),
    Example("S1", {"etc/services.d/a/run": (0o644, _SH + "exec a\n")}, {"etc/services.d/a/run": _SH + "exec a\n"}, note="run"),
    Example("S1", {"etc/services.d/a/run": (0o644, _SH + "exec a\n")}, {"etc/services.d/a/run": (0o644, _SH + "exec a\n")}, good_version=V2, note="old"),
    Example("S1", {"etc/services.d/a/data/check": (0o644, _SH)}, {}, version=V1, note="check"),
    Example("S2", init("#!/bin/sh\r\ntrue\r\n"), init("#!/bin/sh\ntrue\n")),
    Example("S2", run("#!/bin/sh\r\nexec a\r\n"), run("#!/bin/sh\nexec a\n"), note="source"),
    Example("S3", init("\ufeff#!/bin/sh\n"), init(_SH)),
    Example("S4", run("exec a\n"), run(_SH + "exec a\n")),
    Example("S5", init("#!/bin/bash\n"), init("#!/bin/bash\n") | {"bin/bash": elf(62)}),
    Example("S5", init("#!/usr/bin/env python3\n"), init("#!/usr/bin/env sh\n"), note="env"),
    Example("S5", init("#!/command/with-contenv bash\n"), init("#!/command/with-contenv sh\n"), note="contenv"),
    Example("S6", init("#!/usr/bin/with-contenv sh\n"), init("#!/command/with-contenv sh\n")),
    Example("S6", init("#!/usr/bin/with-contenv sh\n"), init("#!/usr/bin/with-contenv sh\n") | {"usr/bin/with-contenv": link("/command/with-contenv")}, note="links"),
    Example("S7", init("#!/command/with-contenv sh\n"), init("#!/usr/bin/with-contenv sh\n"), version=V2),
    Example("S8", init("#!/command/with-contenv sh -e\n"), init("#!/command/with-contenv sh\nset -e\n")),
    Example("S8", init(_SH + "with-contenv\necho\n"), init(_SH + "with-contenv env\n"), note="body"),
    Example("S9", run(_SH + "appd --fg\n"), run(_SH + "exec appd --fg\n")),
    Example("S10", run(_SH + "exec nginx\n"), run(_SH + 'exec nginx -g "daemon off;"\n')),
    Example("S10", run(_SH + "appd &\n"), run(_SH + "appd &\nwait\n"), note="ampersand"),
    Example("S10", run("#!/command/execlineb -P\ns6-setuidgid app redis-server --daemonize yes\n"), run("#!/command/execlineb -P\ns6-setuidgid app redis-server\n"), note="execline"),
    Example("S10", run(_SH + "exec nginx\n"), run(_SH + "exec nginx\n") | {"etc/nginx/nginx.conf": "daemon off;\n"}, note="config"),
    Example("S11", run("#!/command/execlineb -P\na | b\n"), run("#!/command/execlineb -P\npipeline { a }\nb\n")),
    Example("S12", {"etc/cont-init.d/lib": None}, {"etc/cont-init.d/.git": None}),
    Example("S13", init(_SH, "10-x~"), init(_SH)),
    Example("S14", init(_SH + "crond\n") | longrun(run=_SH + "exec crond -f\n"), longrun(run=_SH + "exec crond -f\n")),
    Example("S15", init(_SH + "s6-svscanctl -t /var/run/s6/services\n"), init(_SH + "/run/s6/basedir/bin/halt\n")),
    Example("S15", run("#!/command/execlineb -P\n/bin/s6-setuidgid app appd\n"), run("#!/command/execlineb -P\ns6-setuidgid app appd\n"), note="tool"),
    Example("S16", init(_SH + "echo $GREETING\n"), init("#!/command/with-contenv sh\necho $GREETING\n"), bad_settings={"env": {"GREETING": "hi"}}, good_settings={"env": {"GREETING": "hi"}}),
    Example("S17", run(_SH + "exec ./app\n") | {"srv/app": elf(62)}, run(_SH + "cd /srv\nexec ./app\n") | {"srv/app": elf(62)}, bad_settings={"workdir": "/srv"}, good_settings={"workdir": "/srv"}),
    Example("S18", bad_settings={"healthcheck": Healthcheck(("CMD-SHELL", "s6-svstat /run/service/app"))}, good_settings={"healthcheck": Healthcheck(("CMD-SHELL", "s6-svstat /run/service/app")), "env": {"PATH": "/command:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}),
    Example("S19", run(_SH + "exec postgres -D /data\n"), run(_SH + "exec postgres -D /data\n") | {f"{RC}/app/down-signal": "SIGINT\n"}),
    Example("S20", run(_SH + "exec s6-setuidgid app appd\n"), run(_SH + "exec appd\n"), bad_settings=_USER, good_settings=_USER),
    Example("S21", init(_SH + "chown -R app /data\n"), init(_SH + "chown app /data\n"), bad_settings={"volumes": ("/data",)}, good_settings={"volumes": ("/data",)}),
    Example("S22", {"etc/fix-attrs.d/x": "/data true app 0644 0755\n"}, {"etc/fix-attrs.d": None}),
    Example("S23", run("#!/command/execlineb -P\nif { true\n"), run("#!/command/execlineb -P\nif { true } a\n")),
    Example("S24", init(_SH + "/run/s6/basedir/bin/halt\n"), init(_SH + "s6-svscanctl -t /var/run/s6/services\n"), version=V2),
    Example("S25", init(_SH, "10 x"), init(_SH, "10-x")),
    # ---- I: settings
    Example("I1", bad_settings={"entrypoint": ("/sbin/tini", "--", "/init")}),
    Example("I1", bad_settings={"entrypoint": ("/bin/sh", "-c", "/init")}, good_settings={"entrypoint": None, "cmd": ("/init",)}, note="shell"),
    Example("I1", bad_settings={"entrypoint": ("/start",)}, good={"start": _SH + 'exec /init "$@"\n'}, good_settings={"entrypoint": ("/start",)}, note="script"),
    Example("I4", bad_settings={"cmd": ("bash",)}, good_settings={"cmd": ("sleep", "infinity")}),
    Example("I5", bad_settings={"stop_signal": "SIGQUIT"}, good_settings={"stop_signal": "SIGTERM"}),
    Example("I6", bad_settings={"env": {"S6_KILL_GRACETIME": "20000"}}, good_settings={"env": {"S6_KILL_GRACETIME": "5000"}}),
    Example("I7", {"etc/fix-attrs.d/x": "/data true app 0644 0755\n"}, {}, bad_settings=_USER, good_settings=_USER),
    Example("I7", bad_settings=_USER, version=V1, note="v1"),
    Example("I8", bad_settings=_USER, good_settings=_USER, owners={"run": (1000, 1000)}),
    Example("I10", {"command/s6-overlay-suexec": (0o755, elf(62))}, {}, bad_settings=_USER, good_settings=_USER),
    Example("I12", bad_settings={"volumes": ("/run",)}, good_settings={"volumes": ("/data",)}),
    Example("I13", bad_settings={"env": {"S6_READ_ONLY_ROOT": "1", "S6_STAGE2_HOOK": "touch /etc/x"}}, good_settings={"env": {"S6_STAGE2_HOOK": "touch /etc/x"}}),
    Example("I15", bad_settings={"env": {"PATH": "bin:/usr/bin"}}, good_settings={"env": {"PATH": "/command:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}),
    Example("I15", bad_settings={"env": {"PATH": "/usr/bin;/bin"}}, note="semicolon"),
    Example("I16", bad_settings={"env": {"DB_PASSWORD": "hunter2"}}, good_settings={"env": {"DB_PASSWORD_FILE": "/run/secrets/db"}}),
    Example("I17", bad_settings={"env": {"A.B": "1"}}, good_settings={"env": {"A_B": "1"}}),
    Example("I18", bad_settings={"env": {"S6_KEEP_ENV": "1", "X": "a\nb"}}, good_settings={"env": {"X": "a\nb"}}, version="3.0.0.2"),
    # ---- V: variables
    Example("V1", bad_settings={"env": {"S6_BEHAVIOR_IF_STAGE2_FAILS": "2"}}, good_settings={"env": {"S6_BEHAVIOUR_IF_STAGE2_FAILS": "2"}}),
    Example("V2", bad_settings={"env": {"S6_VERBOSITY": "1"}}, good_settings={"env": {"S6_LOGGING": "1"}}, version=V2),
    Example("V3", bad_settings={"env": {"S6_KEEP_ENV": "true"}}, good_settings={"env": {"S6_KEEP_ENV": "1"}}),
    Example("V4", longrun(), longrun(), version="3.1.6.2", good_settings={"env": {"S6_CMD_WAIT_FOR_SERVICES_MAXTIME": "0"}}),
    Example("V5", longrun(), longrun(), good_settings={"env": {"S6_BEHAVIOUR_IF_STAGE2_FAILS": "2"}}),
    Example("V6", bad_settings={"env": {"S6_BEHAVIOUR_IF_STAGE2_FAILS": "2", "S6_CMD_WAIT_FOR_SERVICES_MAXTIME": "5000"}}, good_settings={"env": {"S6_BEHAVIOUR_IF_STAGE2_FAILS": "2", "S6_CMD_WAIT_FOR_SERVICES_MAXTIME": "60000"}}),
    Example("V7", bad_settings={"env": {"S6_CMD_WAIT_FOR_SERVICES": "1", "S6_SERVICES_READYTIME": "5"}}, good_settings={"env": {"S6_CMD_WAIT_FOR_SERVICES": "1", "S6_SERVICES_READYTIME": "50"}}),
    Example("V8", bad_settings={"env": {"S6_KEEP_ENV": "1"}}, good_settings={"env": {"S6_KEEP_ENV": "0"}}),
    Example("V9", version=V1, good_version=V2),
    Example("V10", bad_settings={"env": {"S6_VERBOSITY": "5"}}, good_settings={"env": {"S6_VERBOSITY": "1"}}),
    Example("V11", bad_settings={"env": {"S6_OVERLAY_VERSION": "v3.1.6.2"}}, good_settings={"env": {"S6_OVERLAY_VERSION": "v3.2.1.0"}}),
    # ---- M: installation
    Example("M1", {"init": GONE}, {}),
    Example("M1", {f"command/{name}": GONE for name in _V3_PROGRAMS}, {}, note="programs"),
    Example("M2", {"command/s6-rc": elf(183)}, {}),
    Example("M3", {"command/s6-overlay-suexec": (0o755, elf(62))}, {}),
    Example("M9", {"bin/sh": GONE, "bin/busybox": GONE, "usr/bin/sh": elf(62)}, {}, version=V2),
    Example("M10", {"etc": (0o775, None)}, {}, version=V1),
    Example("M12", {"tmp/s6-overlay-noarch.tar.xz": "x"}, {}),
    Example("M15", version="3.1.2.0", good_version=V3),
    Example("M16", {"command/s6-sort": GONE}, {}),
)  # fmt: skip
"""One or more for each rule that `lint_image` decides."""
