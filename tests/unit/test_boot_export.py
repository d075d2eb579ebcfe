"""Compose files, Kubernetes objects and commands, made from what a test found out."""

from __future__ import annotations

import re

import yaml

from sixsmith.export.compose import render_compose, render_run
from sixsmith.export.deployment import make_deployment
from sixsmith.export.k8s import render_k8s

SETTINGS = {
    "ExposedPorts": {"8080/tcp": {}, "53/udp": {}},
    "Volumes": {"/var/lib/app": {}},
    "Env": ["S6_KILL_GRACETIME=9000"],
}
REPORT = {
    "runner": "runc",
    "stop_ms": 1000,
    "needs": {"capabilities": ["SETUID", "SETGID"], "read_only": True, "no_new_privileges": True},
}


def test_what_was_tried_is_what_is_asked_for() -> None:
    made = make_deployment("My Web:1.2/x", "registry/web:1", SETTINGS, REPORT, major=3)
    assert made.name == "my-web-1-2-x"
    document = yaml.safe_load(render_compose([made], name="family"))
    service = document["services"]["my-web-1-2-x"]
    assert service["cap_drop"] == ["ALL"] and service["cap_add"] == ["SETUID", "SETGID"]
    assert service["read_only"] is True and service["tmpfs"] == ["/run:exec,mode=755"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["environment"] == {"S6_READ_ONLY_ROOT": "1"}
    assert service["init"] is False
    assert service["ports"] == ["8080:8080", "53:53/udp"]
    assert service["stop_grace_period"] == "15s"  # (1 s + 9 s of grace) and half as much again
    assert set(document["volumes"]) == {"my-web-1-2-x-var-lib-app"}
    (line,) = render_run([made]).splitlines()
    assert "--cap-drop ALL --cap-add SETUID --cap-add SETGID" in line and "--tmpfs /run:exec,mode=755" in line
    assert line.endswith(" registry/web:1")


def test_kubernetes_objects() -> None:
    made = make_deployment("web", "registry/web:1", SETTINGS, REPORT, major=3)
    claim, deployment, service = yaml.safe_load_all(render_k8s([made]))
    assert (claim["kind"], deployment["kind"], service["kind"]) == ("PersistentVolumeClaim", "Deployment", "Service")
    assert "&id" not in render_k8s([made])
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": ["SETUID", "SETGID"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["shareProcessNamespace"] is False
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/run", "/var/lib/app"}
    names = {variable["name"] for variable in container["env"]}
    assert names == {"S6_READ_ONLY_ROOT", "S6_YES_I_WANT_A_WORLD_WRITABLE_RUN_BECAUSE_KUBERNETES"}
    assert [port["protocol"] for port in service["spec"]["ports"]] == ["TCP", "UDP"]
    assert pod["volumes"][1]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_what_was_not_tried_is_not_promised() -> None:
    made = make_deployment("web", "web:1", {}, None, major=0)
    text = render_compose([made], name="f")
    service = yaml.safe_load(text)["services"]["web"]
    assert set(service) == {"image", "stop_grace_period", "restart"}
    assert "not tested yet" in text and "not tested yet" in render_k8s([made])
    (deployment,) = yaml.safe_load_all(render_k8s([made]))
    assert "securityContext" not in deployment["spec"]["template"]["spec"]["containers"][0]
    assert render_run([made]) == "docker run -d --name web --stop-timeout 10 web:1\n"


def test_odd_names_become_names_that_are_taken() -> None:
    volumes = {f"/{path}": {} for path in ("a b/ä", "a-b", "a/b", "x" * 50 + "1", "x" * 50 + "2", "run")}
    made = make_deployment(
        "3 ä_" + "y" * 80, "i:1", {"Volumes": volumes, "ExposedPorts": {"80/tcp": {}}}, None, major=0
    )
    objects = list(yaml.safe_load_all(render_k8s([made])))
    pod = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]["spec"]
    labels = [one["metadata"]["name"] for one in objects if one["kind"] != "PersistentVolumeClaim"]
    labels += [volume["name"] for volume in pod["volumes"]]
    assert all(re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels), labels
    claims = [one["metadata"]["name"] for one in objects if one["kind"] == "PersistentVolumeClaim"]
    assert len(set(claims)) == len(volumes)
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]] == claims
    document = yaml.safe_load(render_compose([made], name="family"))
    assert len(document["volumes"]) == len(volumes)
    (service,) = document["services"].values()
    assert {text.partition(":")[0] for text in service["volumes"]} == set(document["volumes"])
