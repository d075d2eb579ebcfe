"""Deployments as Kubernetes objects: a Deployment each, a Service where there are ports, a claim for each volume.

Sources: the Kubernetes API reference (`apps/v1`, `core/v1`); s6-overlay #574 and its README on Kubernetes, where an
emptyDir is writable by everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sixsmith.export.deployment import Deployment, volume_names

__all__ = ["render_k8s"]

_WORLD_WRITABLE = "S6_YES_I_WANT_A_WORLD_WRITABLE_RUN_BECAUSE_KUBERNETES"


def render_k8s(deployments: Sequence[Deployment], *, storage: str = "1Gi") -> str:
    """The text of a file for `kubectl apply -f`. `storage` is what each volume's claim asks for."""
    import yaml

    objects: list[dict[str, Any]] = []
    for one in deployments:
        objects += [_claim(one, name, storage) for name in volume_names(one).values()]
        objects.append(_deployment(one))
        if one.ports or one.udp_ports:
            objects.append(_service(one))
    remarks = "# Written by `sixsmith export k8s`: the least that each image was seen to run with.\n"
    for one in deployments:
        if not one.tested:
            remarks += f"# {one.name}: not tested yet; `sixsmith test` finds out what it needs\n"
    return remarks + yaml.safe_dump_all(objects, sort_keys=False, default_flow_style=False, width=120)


def _deployment(one: Deployment) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": one.name}
    pod: dict[str, Any] = {
        "shareProcessNamespace": False,  # /init has to be process 1
        "terminationGracePeriodSeconds": one.stop_seconds,
        "automountServiceAccountToken": False,
        "containers": [_container(one)],
    }
    volumes: list[dict[str, Any]] = []
    if one.read_only:
        volumes.append({"name": "run", "emptyDir": {"medium": "Memory"}})
    volumes += [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{one.name}-{name}"}}
        for name in volume_names(one).values()
    ]
    if volumes:
        pod["volumes"] = volumes
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": one.name, "labels": dict(labels)},
        "spec": {
            "replicas": 1,
            # volumes of one writer cannot be handed over while the old pod has them
            **({"strategy": {"type": "Recreate"}} if one.volumes else {}),
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": pod},
        },
    }


def _container(one: Deployment) -> dict[str, Any]:
    environment = dict(one.environment or {})
    if one.read_only and one.major == 3:
        environment[_WORLD_WRITABLE] = "1"
    container: dict[str, Any] = {"name": one.name, "image": one.image}
    if environment:
        container["env"] = [{"name": name, "value": value} for name, value in environment.items()]
    security: dict[str, Any] = {}
    if one.no_new_privileges:
        security["allowPrivilegeEscalation"] = False
    if one.read_only:
        security["readOnlyRootFilesystem"] = True
    if one.capabilities is not None:
        capabilities: dict[str, Any] = {"drop": ["ALL"]}
        if one.capabilities:
            capabilities["add"] = list(one.capabilities)
        security["capabilities"] = capabilities
    if one.tested:
        security["seccompProfile"] = {"type": "RuntimeDefault"}
    if security:
        container["securityContext"] = security
    ports = [{"containerPort": port} for port in one.ports]
    container_ports: list[dict[str, Any]] = [*ports, *({"containerPort": p, "protocol": "UDP"} for p in one.udp_ports)]
    if container_ports:
        container["ports"] = container_ports
    mounts = [{"name": "run", "mountPath": "/run"}] if one.read_only else []
    mounts += [{"name": name, "mountPath": path} for path, name in volume_names(one).items()]
    if mounts:
        container["volumeMounts"] = mounts
    return container


def _service(one: Deployment) -> dict[str, Any]:
    ports = [("TCP", port) for port in one.ports] + [("UDP", port) for port in one.udp_ports]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": one.name},
        "spec": {
            "selector": {"app.kubernetes.io/name": one.name},
            "ports": [
                {"name": f"{protocol.lower()}-{port}", "protocol": protocol, "port": port, "targetPort": port}
                for protocol, port in ports
            ],
        },
    }


def _claim(one: Deployment, name: str, storage: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{one.name}-{name}"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}},
    }
