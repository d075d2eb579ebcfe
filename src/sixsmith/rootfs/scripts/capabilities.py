"""File capabilities: `cap_net_raw+ep` as the bytes of the `security.capability` attribute.

The text form is that of cap_from_text(3), one clause with `+` or `=`; the bytes are `struct vfs_cap_data` revision 2
(linux/capability.h): magic with the effective bit, then permitted and inheritable, low and high halves.
"""

from __future__ import annotations

import re
import struct

from sixsmith.rootfs.scripts.syntax import NotUnderstood

__all__ = ["capability_xattr"]

_REVISION_2 = 0x02000000
_EFFECTIVE = 0x000001
_NAMES = (  # noqa: SIM905 -- a table is easier to read without the quotes
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service "
    "net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin "
    "sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override "
    "mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
).split()


def capability_xattr(text: str) -> bytes:
    """The attribute's value for a capability text. Raises NotUnderstood."""
    match = re.fullmatch(r"([a-z0-9_,]+)[+=]([eip]+)", text.strip().lower())
    if match is None:
        raise NotUnderstood(f"the capabilities '{text}' are not understood")
    mask = 0
    for name in match.group(1).split(","):
        short = name.removeprefix("cap_")
        if not name.startswith("cap_") or short not in _NAMES:
            raise NotUnderstood(f"the capability '{name}' is not known")
        mask |= 1 << _NAMES.index(short)
    permitted = mask if "p" in match.group(2) else 0
    inheritable = mask if "i" in match.group(2) else 0
    magic = _REVISION_2 | (_EFFECTIVE if "e" in match.group(2) else 0)
    low = 0xFFFFFFFF
    return struct.pack("<5I", magic, permitted & low, inheritable & low, permitted >> 32, inheritable >> 32)
