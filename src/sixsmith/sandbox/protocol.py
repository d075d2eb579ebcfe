"""What the runner and the keeper say to each other: MessagePack values, each after its length (8 bytes, big-endian)."""

from __future__ import annotations

import os

import msgspec

__all__ = ["Entry", "Outcome", "Ready", "Start", "Work", "receive", "send"]

_LONGEST = 16 << 30


class Start(msgspec.Struct, tag=True):
    """First message: what the keeper needs to know. `emulator` is the path of a static qemu, or empty."""

    emulator: str = ""
    magic: bytes = b""
    mask: bytes = b""
    limit: int = 0
    """Bytes that the files may take; 0 for what the system allows."""


class Ready(msgspec.Struct, tag=True):
    """The keeper's answer to `Start`, and `stage` is `map` when its ids are to be mapped first. `trouble` is why not."""

    stage: str = ""
    trouble: str = ""


class Entry(msgspec.Struct, tag=True):
    """One path as it is on disk; `data` of files only. `target` of a hard link is the path of its file.

    `mtime` is in seconds; coming back, -1 stands for any time since the script began.
    """

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    target: str = ""
    data: bytes = b""
    xattrs: list[tuple[str, bytes]] = []


class Work(msgspec.Struct, tag=True):
    """Bring the disk up to date, then run a script; without a script, only the first."""

    removed: list[str]
    entries: list[Entry]
    name: str = ""
    script: bytes = b""
    arguments: list[str] = []
    seconds: int = 0
    epoch: int = 0


class Outcome(msgspec.Struct, tag=True):
    """What became of it: exit status (128 + signal), output, and how the disk differs now. `trouble` is our own failure."""

    status: int = 0
    output: bytes = b""
    timed_out: bool = False
    trouble: str = ""
    changed: list[Entry] = []
    removed: list[str] = []


Message = Start | Ready | Work | Outcome
_DECODER: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def send(descriptor: int, message: Message) -> None:
    """Writes one message. Raises OSError when the other side is gone."""
    data = msgspec.msgpack.encode(message)
    view = memoryview(len(data).to_bytes(8, "big") + data)
    while view:
        view = view[os.write(descriptor, view) :]


def receive(descriptor: int) -> Message | None:
    """Reads one message; None when the other side is gone. Raises ValueError for anything that is no message."""
    head = _exactly(descriptor, 8)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > _LONGEST:
        raise ValueError("a message of an absurd length")
    data = _exactly(descriptor, length)
    if data is None:
        return None
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


def _exactly(descriptor: int, length: int) -> bytearray | None:
    found = bytearray()
    while len(found) < length:
        piece = os.read(descriptor, min(length - len(found), 1 << 20))
        if not piece:
            return None
        found += piece
    return found
