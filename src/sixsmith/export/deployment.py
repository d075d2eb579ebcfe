"""How an image is to be run, as far as that was tried: what `docker run`, compose and Kubernetes settings are made from.

What was found out by `sixsmith test` decides: the smallest set of capabilities, whether the root can be read-only, whether
suid bits are needed. What was not tried is not promised, and left to the platform's defaults.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Deployment", "make_deployment"]

_DEFAULT_GRACE_MS = 3000
_LEAST_SECONDS = 10


class Deployment(msgspec.Struct, frozen=True):
    """One image to run. `capabilities` None: not tried. `stop_seconds` is what the platform should wait at least.

    `tested` says when and how it was tried, or is empty.
    """

    name: str
    image: str
    ports: tuple[int, ...] = ()
    udp_ports: tuple[int, ...] = ()
    volumes: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    capabilities: tuple[str, ...] | None = None
    read_only: bool = False
    no_new_privileges: bool = False
    user: str = ""
    major: int = 0
    stop_seconds: int = _LEAST_SECONDS
    tested: str = ""


def label(text: str, *, most: int = 63) -> str:
    """A name as Kubernetes takes it (RFC 1123): lower-case letters, digits and dashes; empty when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:most].strip("-")


def volume_names(one: Deployment) -> dict[str, str]:
    """A name for each volume's path; paths that would have the same one are numbered."""
    names: dict[str, str] = {}
    for path in one.volumes:
        name = plain = label(path, most=40) or "root"
        number = 1
        while name in names.values():
            number += 1
            name = f"{plain}-{number}"
        names[path] = name
    return names


def make_deployment(
    name: str, image: str, settings: Mapping[str, Any], report: Mapping[str, Any] | None, *, major: int
) -> Deployment:
    """The deployment of an image with these settings (`config` of its image config) and its last test's report.

    `major` is that of its s6-overlay, 0 for none. A report of another image than the one that is deployed must not be given.
    """
    needs: Mapping[str, Any] = (report or {}).get("needs") or {}
    environment = {}
    read_only = bool(needs.get("read_only"))
    if read_only and major:
        environment["S6_READ_ONLY_ROOT"] = "1"
    ports: dict[str, list[int]] = {"tcp": [], "udp": []}
    for text in settings.get("ExposedPorts") or {}:
        number, _, protocol = str(text).partition("/")
        if number.isdigit() and (protocol or "tcp") in ports:
            ports[protocol or "tcp"].append(int(number))
    capabilities = needs.get("capabilities")
    return Deployment(
        name=label(name if name[:1].isalpha() else f"image-{name}") or "image",
        image=image,
        ports=tuple(sorted(ports["tcp"])),
        udp_ports=tuple(sorted(ports["udp"])),
        volumes=tuple(sorted(settings.get("Volumes") or {})),
        environment=environment,
        capabilities=tuple(capabilities) if capabilities is not None else None,
        read_only=read_only,
        no_new_privileges=bool(needs.get("no_new_privileges")),
        user=str(settings.get("User") or ""),
        major=major,
        stop_seconds=_stop_seconds(settings, report, major),
        tested=f"by {report['runner']}" if report and needs else "",
    )


def _stop_seconds(settings: Mapping[str, Any], report: Mapping[str, Any] | None, major: int) -> int:
    """What stopping took, with the grace time that the image has (the test shortened it), and half as much again."""
    measured = (report or {}).get("stop_ms")
    if not isinstance(measured, int):
        return _LEAST_SECONDS
    grace = 0
    if major:
        pairs = dict(str(text).partition("=")[::2] for text in settings.get("Env") or ())
        own = pairs.get("S6_KILL_GRACETIME", "")
        grace = int(own) if own.isdigit() else _DEFAULT_GRACE_MS
    return max(_LEAST_SECONDS, math.ceil((measured + grace) * 1.5 / 1000))
