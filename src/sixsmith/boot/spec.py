"""How a container is started: what the runners agree on, as one value that travels to the keeper."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["DOCKER_CAPABILITIES", "RunSpec", "container_environment"]

DOCKER_CAPABILITIES = (
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
"""What `docker run` gives when it is asked for nothing else (moby, `oci/caps/defaults.go`)."""

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One start of an image. `user` is as an image config has it (`name`, `uid:gid`, empty for root).

    A read-only root gets a writable, executable memory file system on /run, as `--tmpfs /run:exec` makes one.
    `volumes` are paths that stay writable. Capabilities are named without `CAP_`.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = ""
    read_only: bool = False
    no_new_privileges: bool = False
    capabilities: tuple[str, ...] = DOCKER_CAPABILITIES
    volumes: tuple[str, ...] = ()
    hostname: str = "sixsmith"

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> RunSpec:
        """The spec of a document made by `document`."""
        lists = {name: tuple(document[name]) for name in ("arguments", "capabilities", "volumes")}
        return replace(cls(()), **{**document, **lists})


def container_environment(env: dict[str, str], *, home: str) -> dict[str, str]:
    """The environment of a container: what runtimes add, under what the image says."""
    return {"PATH": _DEFAULT_PATH, "HOME": home, "HOSTNAME": "sixsmith", **env}
