"""What follows when a longrun ends. s6 starts it again, unless its finish script says otherwise.

A finish script can leave the service down (`exit 125`) or take the container with it, as `on-exit` in the family file does.
What it says is read here, so that a check can expect just that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sixsmith.boot.observation import Observation

__all__ = ["Ending", "ending_of", "endings_of", "without_comments"]

_STOPS = re.compile(r"/halt\b|s6-linux-init-shutdown\b|\bs6-svscanctl\s+-[A-Za-z]*[tq679]")
_STAYS_DOWN = re.compile(r"\bexit\s+125\b|\bs6-svc\s+-[A-Za-z]*[dO]")
_FIXED_CODE = re.compile(r"^code=(\d+)$", re.MULTILINE)
_OWN_CODE = re.compile(r"128 \+ \$2")


@dataclass(frozen=True, slots=True)
class Ending:
    """`action` is `restart`, `stop-container` or `never` (to be started again), in the words of the family file.

    `killed` is what the container exits with when SIGKILL ended the service, where the script tells that.
    """

    action: str = "restart"
    killed: int | None = None


def ending_of(text: str) -> Ending:
    """What a finish script (and what it calls) does."""
    text = without_comments(text)
    if _STOPS.search(text):
        fixed = _FIXED_CODE.search(text)
        return Ending("stop-container", int(fixed[1]) if fixed else 137 if _OWN_CODE.search(text) else None)
    return Ending("never" if _STAYS_DOWN.search(text) else "restart")


def without_comments(text: str) -> str:
    """A script's lines but those that are comments."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def endings_of(seen: Observation, services: Iterable[str]) -> dict[str, Ending]:
    """What these longruns of a running container do when they end. s6-rc wraps the scripts of a pipeline (`finish.user`)."""
    paths = {
        f"{seen.layout.scandir}/{service}/{name}": service for service in services for name in ("finish", "finish.user")
    }
    found = seen.container.inside("read", paths=list(paths), limit=16384).get("found", {}) if paths else {}
    texts: dict[str, str] = dict.fromkeys(paths.values(), "")
    for path, text in found.items():
        texts[paths[path]] += (text or "") + "\n"
    return {service: ending_of(text) for service, text in texts.items()}
