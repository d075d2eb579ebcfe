"""What should come out of a trial, from what is known beforehand: the overlay's release, the image's settings and scripts.

These are rules of `sixsmith lint` (I7 to I11, S20) that only hold under the terms of a trial. A prediction is a reason why
something cannot work, or None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from sixsmith.boot.endings import without_comments

if TYPE_CHECKING:
    from sixsmith.boot.trials import Trial

__all__ = ["expected_capabilities", "no_new_privileges_for", "no_random_user", "no_read_only_root"]

_CALLED = re.compile(r"/etc/s6(?:-overlay)?/scripts/[^\s;\"']+")
_BECOMES = re.compile(r"\b(s6-setuidgid|su-exec|s6-applyuidgid|setpriv)\b")
_GIVES_AWAY = re.compile(r"\b(chown|chgrp|logutil-newfifo|install\s(?:[^\n;]*\s)?-[a-zA-Z]*[og])\b")


def no_read_only_root(trial: Trial) -> str | None:
    """I11: a logger that writes into the root needs a volume there."""
    writable = (*trial.spec.volumes, "/run", "/var/run", "/dev")
    for text in _run_scripts(trial):
        for line in text.splitlines():
            if not re.search(r"\b(s6-log|logutil-service)\b", line):
                continue
            for folder in re.findall(r"(?<!\S)(/\S+)(?=\s|$)", line):
                is_program = folder.rsplit("/", 1)[-1] in ("s6-log", "logutil-service")
                if not is_program and not any(folder == one or folder.startswith(one + "/") for one in writable):
                    return f"a log is written to {folder}, which is no volume"
    return None


def no_random_user(trial: Trial) -> str | None:
    """I7, I10, S20: why the image cannot run as any user."""
    layout = trial.layout
    if layout.major == 1:
        return "v1 of the overlay makes its folders in /var/run as root"
    if layout.major == 2 and not layout.preinit:
        return "this release of v2 has no suid s6-overlay-preinit"
    if layout.major == 3:
        suexec = _suexec_mode(trial)
        if suexec is not None and not suexec & 0o4000:
            return "s6-overlay-suexec has lost its suid bit"
    return _root_services(trial)


def _suexec_mode(trial: Trial) -> int | None:
    folder = "/package/admin"
    names = trial.machine.list([folder])[folder]
    for name, what in names.items():
        if name.startswith("s6-overlay-helpers") and what[0] == "directory":
            inside = trial.machine.list([f"{folder}/{name}/command"])[f"{folder}/{name}/command"]
            if "s6-overlay-suexec" in inside:
                return int(inside["s6-overlay-suexec"][1])
    return None


def _root_services(trial: Trial) -> str | None:
    """A service that changes its user, or gives files away, needs root to do so."""
    for text in _run_scripts(trial):
        if match := _BECOMES.search(text):
            return f"a service changes its user ({match[1]}), which only root can"
        if match := _GIVES_AWAY.search(text):
            return f"a script gives files to another user ({match[1].split()[0]}), which only root can"
    return None


def no_new_privileges_for(trial: Trial) -> str | None:
    """I8: suid bits count for nothing, so nobody hands /run to a user who is not root."""
    user = trial.spec.user
    if user in ("", "0", "root", "0:0") or trial.layout.major < 2:
        return None
    run = trial.machine.list(["/"])["/"].get("run")
    if trial.layout.major == 3 and run is not None and str(run[2]) == user.partition(":")[0]:
        return None
    return "the image's user is not root, and the overlay needs its suid program to prepare /run"


def expected_capabilities(trial: Trial) -> tuple[str, ...]:
    """I9: what the scripts ask for, as far as their words tell: changing users and owners, and stopping what others own."""
    expected = set()
    for text in _run_scripts(trial):
        if _BECOMES.search(text):
            expected |= {"SETUID", "SETGID", "KILL"}
        if _GIVES_AWAY.search(text):
            expected |= {"CHOWN"}
    return tuple(sorted(expected))


# --- reading


def _run_scripts(trial: Trial) -> Iterator[str]:
    """The scripts that the image's services run: longruns, loggers, oneshots, and what those call."""
    names = sorted(trial.wanted)
    paths = [f"/etc/s6-overlay/s6-rc.d/{name}/{script}" for name in names for script in ("run", "up")]
    paths += [f"/etc/services.d/{name}/{script}" for name in names for script in ("run", "log/run")]
    paths += [f"/etc/cont-init.d/{name}" for name in trial.machine.list(["/etc/cont-init.d"])["/etc/cont-init.d"]]
    known = set(paths)
    while paths:
        found = trial.machine.read(paths[:8])
        texts = [without_comments(text) for text in found.values() if text is not None]
        yield from texts
        called = dict.fromkeys(path for text in texts for path in _CALLED.findall(text) if path not in known)
        known |= called.keys()
        paths = [*paths[8:], *called]
