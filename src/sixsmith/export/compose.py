"""Deployments as a compose file, and as `docker run` commands.

Sources: the compose specification (`05-services.md`), docker-run(1).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from sixsmith.export.deployment import Deployment, volume_names

__all__ = ["render_compose", "render_run"]

RUN_FOLDER = "/run:exec,mode=755"
"""/run in memory; without `exec`, /init cannot start what it puts there (s6-overlay #397 #450)."""


def render_compose(deployments: Sequence[Deployment], *, name: str) -> str:
    """The text of a `compose.yaml`."""
    import yaml

    services = {deployment.name: _service(deployment) for deployment in deployments}
    volumes: dict[str, dict[str, Any]] = {
        f"{one.name}-{name}": {} for one in deployments for name in volume_names(one).values()
    }
    document: dict[str, Any] = {"name": name, "services": services}
    if volumes:
        document["volumes"] = volumes
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=False, width=120)
    return "".join(f"# {line}\n" for line in _remarks(deployments)) + text


def _remarks(deployments: Sequence[Deployment]) -> list[str]:
    lines = ["Written by `sixsmith export compose`: the least that each image was seen to run with."]
    for one in deployments:
        how = f"tested {one.tested}" if one.tested else "not tested yet; `sixsmith test` finds out what it needs"
        lines.append(f"{one.name}: {how}")
    return lines


def _service(one: Deployment) -> dict[str, Any]:
    service: dict[str, Any] = {"image": one.image}
    if one.major:
        service["init"] = False  # /init has to be process 1
    if one.environment:
        service["environment"] = dict(one.environment)
    if one.read_only:
        service["read_only"] = True
        service["tmpfs"] = [RUN_FOLDER]
    if one.capabilities is not None:
        service["cap_drop"] = ["ALL"]
        if one.capabilities:
            service["cap_add"] = list(one.capabilities)
    if one.no_new_privileges:
        service["security_opt"] = ["no-new-privileges:true"]
    ports = [f"{port}:{port}" for port in one.ports] + [f"{port}:{port}/udp" for port in one.udp_ports]
    if ports:
        service["ports"] = ports
    if one.volumes:
        service["volumes"] = [f"{one.name}-{name}:{path}" for path, name in volume_names(one).items()]
    service["stop_grace_period"] = f"{one.stop_seconds}s"
    service["restart"] = "unless-stopped"
    return service


def render_run(deployments: Sequence[Deployment]) -> str:
    """One `docker run` command for each, on a line of its own."""
    return "".join(shlex.join(_command(deployment)) + "\n" for deployment in deployments)


def _command(one: Deployment) -> list[str]:
    words = ["docker", "run", "-d", "--name", one.name, "--stop-timeout", str(one.stop_seconds)]
    for name, value in (one.environment or {}).items():
        words += ["-e", f"{name}={value}"]
    if one.read_only:
        words += ["--read-only", "--tmpfs", RUN_FOLDER]
    if one.capabilities is not None:
        words += ["--cap-drop", "ALL"]
        for capability in one.capabilities:
            words += ["--cap-add", capability]
    if one.no_new_privileges:
        words += ["--security-opt", "no-new-privileges"]
    for port in one.ports:
        words += ["-p", f"{port}:{port}"]
    for port in one.udp_ports:
        words += ["-p", f"{port}:{port}/udp"]
    for path, name in volume_names(one).items():
        words += ["-v", f"{one.name}-{name}:{path}"]
    return [*words, one.image]
