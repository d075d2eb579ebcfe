"""What `--json` prints has the keys that docs/reference/commands.md names, for every command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from commandline import Workplace
from sixsmith.boot.report import BootReport, CheckResult, Measures
from sixsmith.boot.supervision import Service
from sixsmith.cli.reference import JSON_KEYS, walk_commands
from sixsmith.testing.registry import FakeRegistry

SERVICES = """\
name: family
images:
  one:
    matrix: {alpine: [3.22], s6-overlay: [3.2.3.0]}
    tag: "{alpine}"
    packages: [bash]
    env: {SHOWN: "yes"}
    services:
      shown: {run: [sleep, "1000"]}
"""


@pytest.fixture
def furnished(place: Workplace) -> Workplace:
    """A place with a family that has something of everything, a folder to migrate, and a log."""
    place.write(SERVICES)
    legacy = place.folder / "legacy/etc/services.d/app"
    legacy.mkdir(parents=True)
    (legacy / "run").write_text("#!/usr/bin/with-contenv sh\nexec app\n")
    (place.folder / "legacy/etc/cont-init.d").mkdir()
    (place.folder / "legacy/etc/cont-init.d/10-app").write_text("#!/usr/bin/with-contenv sh\ntrue\n")
    source = place.folder / "sources/app"
    source.mkdir(parents=True)
    (source / "type").write_text("longrun\n")
    (place.folder / "log").write_text("s6-overlay-suexec: fatal: can only run as pid 1\n")
    return place


def test_every_command_is_covered() -> None:
    leaves = {path for path, command in walk_commands() if not hasattr(command, "commands")}
    assert leaves - set(JSON_KEYS) == {"vault serve"}
    assert set(JSON_KEYS) <= leaves


def test_documents_have_the_keys_that_are_promised(furnished: Workplace) -> None:
    place = furnished
    options = place.options()
    shown: dict[str, list[Any]] = {}

    def ask(words: str, *arguments: str) -> None:
        outcome = place.run(*words.split(), *arguments, "--json")
        shown.setdefault(words, []).append(json.loads(outcome.out))

    ask("init", "begun")
    ask("list")
    ask("plan", *options)
    ask("build", *options)
    ask("plan", *options, "--why", "bash")
    with FakeRegistry() as registry:
        ask("push", registry.host, *options)
    ask("inspect", "one", *options)
    place.run("build", *options, "-o", "before")
    place.write(SERVICES.replace("[bash]", "[su-exec]").replace('"yes"', '"no"'))
    ask("diff", "before/one:3.22", "one", *options)
    ask("solve", "bash", "--alpine", "3.22", *options)
    ask("solve", "nothing-of-that-name", "--alpine", "3.22", *options)
    ask("install", "bash", "--root", "root", "--alpine", "3.22", *options)
    ask("install", "nothing-of-that-name", "--root", "none", "--alpine", "3.22", *options)
    ask("lock", *options)
    ask("vault export", "kept", *options)
    ask("vault import", "kept", *options)
    ask("vault check", "kept", *options)
    ask("store du", *options)
    ask("store verify", *options)
    ask("store gc", *options)
    place.write(re.sub(r" {4}services:.*", "", SERVICES, flags=re.DOTALL))
    ask("export dockerfiles", *options)
    place.write(SERVICES)
    for kind in ("compose", "run", "k8s"):
        ask(f"export {kind}", *options)
    ask("services check", "sources")
    ask("services graph", *options)
    ask("services migrate", "legacy")
    ask("lint", *options)
    (place.folder / "legacy/etc/services.d/app/finish").write_text("#!/usr/bin/with-contenv sh\nexit 0\n")
    ask("lint", "legacy", "--overlay", "3.2.3.0", "--fix", *options)
    ask("explain", "log")
    assert set(shown) == set(JSON_KEYS) - {"boot", "test"}
    for words, documents in shown.items():
        _compare(words, documents)


def test_reports_have_the_keys_that_are_promised() -> None:
    check = CheckResult("services", "failed", "one is not up", (("a line", None),), 3)
    service = Service("one", "longrun", up=False).document()
    measures = Measures(1, 2, 3, 4, 5)
    report = BootReport("one", "sha256:…", "runc", "it is there", 0, measures, {"one": service}, (check,)).document()
    _compare("boot", [{"cell": "one", **report, "changed": {}, "against": ""}])
    compared = {"changed": {}, "against": "", "against_siblings": {}}
    of_many = {key: value for key, value in report.items() if key != "log"}
    _compare("test", [{"ok": True, "results": [{"cell": "one", **of_many, **compared, "trouble": ""}]}])


# ---- comparing


def _compare(words: str, documents: list[Any]) -> None:
    """Promised keys are all there in some document, and no document has others."""
    promised, optional = set(), set()
    for shape in JSON_KEYS[words].split(", or "):
        tree = _Shape(shape).read()
        promised |= set(_paths(tree, mark=False))
        optional |= {path for path in _paths(tree, mark=True) if path not in promised}
    closed = {parent for path in promised | optional for parent in _above(path)}
    found: set[str] = set()
    for document in documents:
        found |= set(_found(document, closed))
    assert found - promised - optional == set(), f"{words}: keys that the reference does not name"
    assert promised - found == set(), f"{words}: keys that the reference names and nobody printed"


def _found(value: Any, closed: set[str], path: str = "") -> Iterator[str]:
    if isinstance(value, Mapping) and path in closed:
        for key, item in value.items():
            name = f"{path}.{key}" if f"{path}.*" not in closed else f"{path}.*"
            if not name.endswith(".*"):
                yield name
            yield from _found(item, closed, name)
    elif isinstance(value, list):
        for item in value:
            yield from _found(item, closed, path)


def _above(path: str) -> Iterator[str]:
    while path:
        path = path.rpartition(".")[0]
        yield path


def _paths(tree: Any, *, mark: bool, path: str = "") -> Iterator[str]:
    """Dotted paths of a shape; with `mark` those of optional keys, too. A free name is `*`, and not a path itself."""
    if isinstance(tree, list):
        for item in tree:
            yield from _paths(item, mark=mark, path=path)
    elif isinstance(tree, dict):
        for key, item in tree.items():
            if key.endswith("?") and not mark:
                continue
            name = f"{path}.{'*' if key.isupper() else key.rstrip('?')}"
            if not key.isupper():
                yield name
            yield from _paths(item, mark=mark, path=name)


class _Shape:
    """Reads `{a, b: [{c}]}`."""

    def __init__(self, text: str) -> None:
        self._tokens = re.findall(r"[{}\[\]:,]|[\w?]+", text)

    def read(self) -> Any:
        token = self._tokens.pop(0)
        if token == "[":
            items = []
            while self._tokens[0] != "]":
                items.append(self.read())
                self._skip(",")
            self._tokens.pop(0)
            return items
        if token != "{":
            return token
        found: dict[str, Any] = {}
        while self._tokens[0] != "}":
            key = self._tokens.pop(0)
            found[key] = self.read() if self._skip(":") else None
            self._skip(",")
        self._tokens.pop(0)
        return found

    def _skip(self, token: str) -> bool:
        if self._tokens[0] != token:
            return False
        self._tokens.pop(0)
        return True


def test_shapes_are_read(tmp_path: Path) -> None:
    assert _Shape("{a, b: [{c?, D: {e}}]}").read() == {"a": None, "b": [{"c?": None, "D": {"e": None}}]}
