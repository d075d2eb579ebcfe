"""What an overlay needs from the tree that it is on, as far as the tree alone can tell.

Rule ids are those of the house's lint table; the texts say what will happen at boot. Sources: the preinit and rc.init scripts
of s6-overlay 3.1.6.2, 3.2.1.0 and 3.2.3.2, and the issues that each finding names.
"""

from __future__ import annotations

import re

from sixsmith.rootfs.tree import Tree
from sixsmith.s6.finding import Finding, Severity

__all__ = ["check_base", "check_bundles"]

_USER = "etc/s6-overlay/s6-rc.d/user"
_BUNDLES = "etc/s6-overlay/user-bundles.d"
_BUNDLES_SINCE = (3, 2, 3, 1)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.split(r"[.-]", version))


def check_base(tree: Tree, version: str) -> tuple[Finding, ...]:
    """Whether the directories and programs are there that `/init` of this release needs (rules I12, I14).

    `tree` is the finished image.
    """
    major = _order(version)[0]
    findings: list[Finding] = []

    def find(rule: str, severity: Severity, path: str, message: str, hint: str, reference: str) -> None:
        findings.append(Finding(rule, severity, path, 0, message, hint, reference))

    shell = tree.find("bin/sh")
    if major >= 3 and (shell is None or shell.kind != "file" or not shell.mode & 0o111):
        find("I14", "error", "/bin/sh", "no /bin/sh: /init is a shell script", "install busybox", "#484")
    run = tree.nodes.get("run")
    if run is not None and run.kind == "symlink":
        find("I12", "error", "/run", f"/run is a link to {run.target}", "make it a directory", "#379")
    var = tree.find("var")
    if (major >= 3 or _order(version)[:3] == (2, 2, 0)) and (var is None or var.kind != "directory"):
        find("I12", "error", "/var", "no directory /var: boot stops when /var/run is made", "make /var", "#321")
    var_run = tree.nodes.get("var/run")
    if major >= 3 and var_run is not None and (var_run.kind != "symlink" or tree.resolve("var/run") != "run"):
        message = "/var/run is not a link to /run; it is made one at each boot, which a read-only root forbids"
        find("I12", "warning", "/var/run", message, "make it a symlink to /run", "#387")
    for path in ("run/s6", "run/service", "run/s6-rc"):
        if path in tree:
            find("I12", "warning", f"/{path}", f"/{path} is left over from a boot", "leave /run empty", "#387")
    return tuple(findings)


def check_bundles(tree: Tree, version: str, *, syslogd: bool = False) -> tuple[Finding, ...]:
    """Whether services are declared where this release looks for them (rules M4 to M8); nothing for v1 and v2.

    3.2.3.1 moved the user bundles from s6-rc.d to user-bundles.d; 3.2.3.2 takes both, but not in one image.
    """
    order = _order(version)
    if order[0] < 3:
        return ()
    old, new = tree.find(_USER) is not None, tree.find(_BUNDLES) is not None
    if order[:4] < _BUNDLES_SINCE:
        if not new:
            return ()
        message = f"s6-overlay {version} does not read user-bundles.d: what is declared there never starts"
        hint = "declare it in s6-rc.d/user/contents.d, or take s6-overlay 3.2.3.2"
        return (Finding("M7", "error", f"/{_BUNDLES}", 0, message, hint, "hotio#29"),)
    if not old:
        return ()
    own = [node.path for node in tree.children(f"{_USER}/contents.d") if not node.path.endswith("/syslogd-bundle")]
    if order[:4] == _BUNDLES_SINCE:
        message = f"s6-overlay {version} stops at boot when s6-rc.d/user exists"
        hint = "leave out the syslogd tarball" if syslogd and not own else "move it to user-bundles.d, or take 3.2.3.2"
        return (Finding("M6", "error", f"/{_USER}", 0, message, hint, "hotio#28"),)
    findings = []
    if new:
        rule = "M4" if syslogd and not own else "M8"
        severity: Severity = "error" if rule == "M4" else "warning"
        message = f"s6-overlay {version} ignores user-bundles.d when s6-rc.d/user exists"
        hint = "leave out the syslogd tarball, which brings s6-rc.d/user" if rule == "M4" else "keep one of the two"
        findings.append(Finding(rule, severity, f"/{_BUNDLES}", 0, message, hint, "rc.init 3.2.3.2"))
    message = (
        f"s6-overlay {version} writes to /etc at boot when s6-rc.d/user exists: not on a read-only root, not as a user"
    )
    findings.append(Finding("M5", "warning", f"/{_USER}", 0, message, "move it to user-bundles.d", "rc.init 3.2.3.2"))
    return tuple(findings)
