"""Messages between sixsmith, the keeper and the agent: one JSON object per packet, file descriptors beside it.

A packet is whole or absent, so there is no framing and nothing to resynchronise. Both sides of a channel are ours.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import Any

__all__ = ["LONGEST", "Channel", "pair"]

LONGEST = 160_000
"""Bytes that a packet may have; the kernel's default buffer takes 212,992 with its overhead."""
_MOST_DESCRIPTORS = 250


class Channel:
    """One end of a pair."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end

    def fileno(self) -> int:
        return self.end.fileno()

    def close(self) -> None:
        self.end.close()

    def send(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Sends a message. Raises OSError when the other side is gone or the message is too long."""
        data = json.dumps(message).encode()
        if descriptors:
            socket.send_fds(self.end, [data], list(descriptors))
        else:
            self.end.send(data)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Waits for a message; None when the other side is gone."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.end, LONGEST * 2, _MOST_DESCRIPTORS)
        except ConnectionError:
            return None
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # Python 3.11 forgets to pass recv_fds's flags on
        if not data:
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        return json.loads(data), descriptors


def pair() -> tuple[Channel, Channel]:
    """Two connected ends. Neither survives an exec unless it is passed on."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    return Channel(ours), Channel(theirs)
