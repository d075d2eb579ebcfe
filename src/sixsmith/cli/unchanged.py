"""Leaving a receipt for builds that will have nothing to do.

See `sixsmith.io.receipt` for what a receipt is. Here is what only the command line knows: where the results lie, and whether
anything was opened that nobody noted. Receipts are honoured in `sixsmith.__main__`, before this is loaded.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from sixsmith.io.receipt import KIND, Trace, render_receipt, request_key
from sixsmith.model.digest import Digest, is_digest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from sixsmith.build import BuiltFamily
    from sixsmith.io.store import Store

__all__ = ["Watch", "leave_receipt"]

_LIBRARIES = ("site-packages", "dist-packages")


def leave_receipt(
    arguments: list[str],
    *,
    trace: Trace,
    watch: Watch,
    store: Store,
    built: BuiltFamily,
    output: Path,
    archive: Path | None,
    printed: str,
    errors: str,
) -> str:
    """Leaves a receipt for this build in the store, or says why it cannot."""
    own = [str(store.root.absolute()), str(output.absolute()), *([str(archive.absolute())] if archive else [])]
    stranger = watch.stranger(trace, own)
    if stranger:
        trace.spoil(stranger)
    _note_program(trace)
    _note_results(trace, store, built, output, archive)
    if not trace.spoiled:
        store.keep(KIND, request_key(arguments), render_receipt(trace.lines(), printed, errors))
    return trace.spoiled


def _note_program(trace: Trace) -> None:
    """sixsmith's own files and those of the libraries that took part."""
    from sixsmith import catalog

    ours = os.path.dirname(os.path.dirname(os.path.abspath(catalog.__file__)))  # noqa: PTH100, PTH120
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    for file in files:
        if file and (file.startswith(ours) or any(f"{os.sep}{name}{os.sep}" in file for name in _LIBRARIES)):
            trace.note("stamp", file)
    for folder, _, names in os.walk(os.path.join(ours, "catalog")):  # noqa: PTH118
        for name in names:
            if not name.endswith((".py", ".pyc")):
                trace.note("stamp", os.path.join(folder, name))  # noqa: PTH118


def _note_results(trace: Trace, store: Store, built: BuiltFamily, output: Path, archive: Path | None) -> None:
    """The images, where the store and the layouts have them."""
    for tag in built.tags:
        trace.note_part(store.index_file, store.root_text(f"{tag.image}:{tag.tag}", tag.descriptor.digest))
    for image in {tag.image for tag in built.tags}:
        layout = output / image
        trace.note("bytes", layout / "index.json")
        trace.note("stamp", layout / "oci-layout")
        _note_blobs(trace, store, f"{layout.absolute()}{os.sep}blobs{os.sep}sha256")
    if archive is not None:
        trace.note("stamp", archive)


def _note_blobs(trace: Trace, store: Store, folder: str) -> None:
    """The blobs of a layout, and the store's own; most are one file by two names, which is looked at once."""
    kept = os.path.abspath(store.root / "blobs" / "sha256")  # noqa: PTH100
    device = os.stat(folder).st_dev  # noqa: PTH116
    with os.scandir(folder) as laid:
        for blob in laid:
            digest = f"sha256:{blob.name}"
            status = store.status(Digest(digest)) if is_digest(digest) else None
            if status is None:
                trace.note("stamp", f"{kept}{os.sep}{blob.name}")
                trace.note("stamp", blob.path)
                continue
            trace.saw_stamp(f"{kept}{os.sep}{blob.name}", status)
            is_the_same = (blob.inode(), device) == (status.st_ino, status.st_dev)
            trace.saw_stamp(blob.path, status if is_the_same else blob.stat())


# ---- what nobody noted

_watching: Watch | None = None
_is_hooked = False


class Watch:
    """Sees which files and folders Python opens while it is entered, and whether anybody talks to the network.

    An audit hook cannot be taken out again; it is put in once and does nothing while no watch is entered.
    """

    def __init__(self) -> None:
        self.opened: set[str] = set()
        self.talked = ""

    def __enter__(self) -> Watch:
        global _watching, _is_hooked
        if not _is_hooked:
            sys.addaudithook(_hook)
            _is_hooked = True
        _watching = self
        return self

    def __exit__(self, *_: object) -> None:
        global _watching
        _watching = None

    def stranger(self, trace: Trace, own: Iterable[str]) -> str:
        """What was opened and is neither noted, nor below a path of `own`, nor Python's; "" for nothing."""
        if self.talked:
            return self.talked
        fronts = tuple(os.path.join(path, "") for path in (*own, os.path.dirname(os.__file__)))  # noqa: PTH118, PTH120
        exact = {*own, *map(os.path.abspath, sys.path)}
        package = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")  # noqa: PTH100, PTH118, PTH120
        for path in self.opened:
            where = os.path.abspath(path)  # noqa: PTH100
            if trace.is_explained(where) or where in exact or where.startswith((*fronts, package, "/dev/", "/proc/")):
                continue
            if where.endswith((".py", ".pyc", ".so")) or any(f"{os.sep}{name}" in where for name in _LIBRARIES):
                continue
            return f"{where} was read, and nobody noted it"
        return ""


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching is None:
        return
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str | bytes) and flags & os.O_ACCMODE != os.O_WRONLY:
            _watching.opened.add(os.fsdecode(path))
    elif event in ("os.listdir", "os.scandir"):
        path = arguments[0]
        if path is None or isinstance(path, str | bytes):
            _watching.opened.add(os.fsdecode(path) if path is not None else ".")
    elif event == "socket.connect":
        _watching.talked = "the network was used"
