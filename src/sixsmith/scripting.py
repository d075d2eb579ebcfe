"""Which way a package's install scripts go: emulated on the tree, run in a sandbox, or left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sixsmith.errors import UsageError, nearest
from sixsmith.rootfs.install import InstallPackage, ScriptRunner
from sixsmith.rootfs.scripts import Emulator
from sixsmith.rootfs.tree import Tree
from sixsmith.variant import Variant

__all__ = ["MODES", "scripts_for", "scripts_named"]

MODES = ("emulate", "sandbox", "skip")


class _Skip:
    """Does nothing: what `--no-scripts` does."""

    def run(self, tree: Tree, package: InstallPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        return

    def trigger(self, tree: Tree, package: InstallPackage, script: bytes, directories: tuple[str, ...]) -> None:
        return


class _Chosen:
    """Hands each package's scripts to the runner that was chosen for it."""

    def __init__(self, default: ScriptRunner, by_package: Mapping[str, ScriptRunner]) -> None:
        self._default = default
        self._by_package = by_package

    def run(self, tree: Tree, package: InstallPackage, kind: str, script: bytes, arguments: tuple[str, ...]) -> None:
        self._by_package.get(package.name, self._default).run(tree, package, kind, script, arguments)

    def trigger(self, tree: Tree, package: InstallPackage, script: bytes, directories: tuple[str, ...]) -> None:
        self._by_package.get(package.name, self._default).trigger(tree, package, script, directories)


@contextmanager
def scripts_for(variant: Variant) -> Iterator[ScriptRunner]:
    """The runner of a cell; a sandbox is set up when the first script wants it and is gone afterwards."""
    with scripts_named(variant.scripts, variant.scripts_by_package, arch=variant.arch.name) as runner:
        yield runner


@contextmanager
def scripts_named(default: str, by_package: Mapping[str, str], *, arch: str) -> Iterator[ScriptRunner]:
    """The runner for these modes. Raises UsageError for a mode that is none."""
    for mode in (default, *by_package.values()):
        if mode not in MODES:
            raise UsageError(f"scripts: '{mode}' is none of {', '.join(MODES)}", hint=nearest(mode, MODES))
    runners: dict[str, ScriptRunner] = {"emulate": Emulator(), "skip": _Skip()}
    if "sandbox" in (default, *by_package.values()):
        from sixsmith.sandbox import Sandbox

        with Sandbox(arch) as sandbox:
            runners["sandbox"] = sandbox
            yield _Chosen(runners[default], {name: runners[mode] for name, mode in by_package.items()})
        return
    yield _Chosen(runners[default], {name: runners[mode] for name, mode in by_package.items()})
