"""`find`: the tests and actions that install scripts use, with `!`, `-o` and parentheses."""

from __future__ import annotations

import re
from collections.abc import Callable

from sixsmith.rootfs.accounts import gid_of, uid_of
from sixsmith.rootfs.scripts import busybox
from sixsmith.rootfs.scripts.files import Refused
from sixsmith.rootfs.scripts.patterns import glob_regex
from sixsmith.rootfs.scripts.shell import Call, encode
from sixsmith.rootfs.scripts.syntax import NotUnderstood
from sixsmith.rootfs.tree import Node

__all__ = ["find"]

Test = Callable[[str], bool]

_KINDS = {"f": "file", "d": "directory", "l": "symlink", "p": "fifo", "c": "char", "b": "block"}
_ACTIONS = frozenset(["-print", "-delete", "-exec"])


def find(call: Call) -> int:
    words = call.arguments[1:]
    follow = False
    while words and words[0] in ("-L", "-H", "-P"):
        follow = words.pop(0) == "-L" or follow
    count = next((index for index, word in enumerate(words) if word[:1] in ("-", "!", "(")), len(words))
    return _Search(call, follow, words[count:]).run(words[:count] or ["."])


class _Search:
    """An expression, read into functions of a path, and where it is to be asked."""

    def __init__(self, call: Call, follow: bool, words: list[str]) -> None:
        self.call = call
        self.follow = follow
        self.words = words
        self.at = 0
        self.least, self.most = 0, 1 << 30
        self.status = 0
        self.collected: list[tuple[list[str], list[str]]] = []
        self.depth = 0
        self.expression = self._either() if words else None
        if self.at < len(words):
            raise self.unknown(words[self.at])
        self.acts = any(word in _ACTIONS for word in words)

    def unknown(self, word: str) -> NotUnderstood:
        return NotUnderstood(f"find: '{word}' is not understood")

    # --- reading ------------------------------------------------------------------------------------------------

    def _peek(self) -> str:
        return self.words[self.at] if self.at < len(self.words) else ""

    def _either(self) -> Test:
        self.depth += 1
        if self.depth > 20:
            raise self.unknown("(")
        tests = [self._all()]
        while self._peek() in ("-o", "-or"):
            self.at += 1
            tests.append(self._all())
        self.depth -= 1
        return lambda path: any(test(path) for test in tests)

    def _all(self) -> Test:
        tests = []
        while self._peek() not in ("", ")", "-o", "-or"):
            if self._peek() in ("-a", "-and"):
                self.at += 1
                continue
            tests.append(self._one())
        if not tests:
            raise self.unknown(self._peek())
        return lambda path: all(test(path) for test in tests)

    def _one(self) -> Test:
        word = self._peek()
        self.at += 1
        if word in ("!", "-not"):
            inner = self._one()
            return lambda path: not inner(path)
        if word == "(":
            inner = self._either()
            if self._peek() != ")":
                raise self.unknown("(")
            self.at += 1
            return inner
        if word == "-exec":
            return self._exec()
        if word in ("-print", "-delete"):
            return self._print if word == "-print" else self._delete
        if word in ("-xdev", "-depth", "-mount"):
            return lambda path: True
        if word == "-empty":
            programs = self.call.shell.programs
            if self.call.program == "busybox" and busybox.version(programs.busybox_binary()) < (1, 35):
                raise self.unknown("-empty, which older releases of busybox do not know,")
            return self._is_empty
        value = self._peek()
        self.at += 1
        return self._valued(word, value)

    def _valued(self, word: str, value: str) -> Test:
        if word in ("-maxdepth", "-mindepth") and value.isdecimal():
            if word == "-maxdepth":
                self.most = int(value)
            else:
                self.least = int(value)
            return lambda path: True
        if word in ("-name", "-path"):
            regex = glob_regex(((value, False),))
            if word == "-path":
                return lambda path: regex.fullmatch(path) is not None
            return lambda path: regex.fullmatch(path.rstrip("/").rpartition("/")[2] or "/") is not None
        if word == "-type" and value in _KINDS:
            return lambda path: self._kind(path) == _KINDS[value]
        tree = self.call.files.tree
        if word == "-user" and (uid := uid_of(tree, value)) is not None:
            return lambda path: self._node(path).uid == uid
        if word == "-group" and (gid := gid_of(tree, value)) is not None:
            return lambda path: self._node(path).gid == gid
        if word == "-perm" and re.fullmatch(r"[-/]?[0-7]{1,4}", value):
            return lambda path: self._has_mode(path, value)
        raise self.unknown(f"{word} {value}".strip())

    def _exec(self) -> Test:
        end = next((at for at in range(self.at, len(self.words)) if self.words[at] in (";", "+")), None)
        if end is None or end == self.at:
            raise self.unknown("-exec")
        command = self.words[self.at : end]
        self.at = end + 1
        if self.words[end] == ";":
            return lambda path: not self._start([part.replace("{}", path) for part in command])
        if command[-1] != "{}":
            raise self.unknown("-exec")
        paths: list[str] = []
        self.collected.append((command[:-1], paths))

        def collect(path: str) -> bool:
            paths.append(path)
            return True

        return collect

    # --- asking -------------------------------------------------------------------------------------------------

    def run(self, starts: list[str]) -> int:
        """Asks for every path at and below the starts; the status is find's."""
        files = self.call.files
        deepest_first = "-delete" in self.words or "-depth" in self.words
        for start in starts:
            if not files.exists(start, follow=False):
                self.status = self.call.complain(f"{start}: No such file or directory")
                continue
            paths = self._paths(start)
            for depth, path in reversed(paths) if deepest_first else paths:
                if not self.least <= depth <= self.most:
                    continue
                if (self.expression is None or self.expression(path)) and not self.acts:
                    self._print(path)
        for command, found in self.collected:
            if found and self._start(command + found):
                self.status = 1
        return self.status

    def _paths(self, start: str) -> list[tuple[int, str]]:
        """Depth and path of what is there, as it is now: directories before what is in them, names in order."""
        files = self.call.files
        real = files.real(start, follow=self.follow or start.endswith("/"))
        paths = [(0, start)]
        node = files.tree.get(real)
        if real and (node is None or node.kind != "directory"):
            return paths
        for below in sorted(files.below(real), key=lambda node: encode(node.path)):
            tail = below.path[len(real) :].lstrip("/")
            paths.append((tail.count("/") + 1, f"{start.rstrip('/')}/{tail}"))
        return paths

    def _node(self, path: str) -> Node:
        node = self.call.files.node(path, follow=self.follow) or self.call.files.node(path, follow=False)
        if node is None:
            raise NotUnderstood("find: the root directory's own mode and owner are not known here")
        return node

    def _kind(self, path: str) -> str:
        if self.call.files.real(path, follow=False) == "":
            return "directory"
        return self._node(path).kind

    def _has_mode(self, path: str, value: str) -> bool:
        mode, wanted = self._node(path).mode, int(value.lstrip("-/"), 8)
        if value[0] == "-":
            return mode & wanted == wanted
        return bool(mode & wanted) if value[0] == "/" else mode == wanted

    def _is_empty(self, path: str) -> bool:
        node = self._node(path)
        if node.kind == "directory":
            return not self.call.files.below(node.path)
        return node.kind == "file" and node.size == 0

    def _print(self, path: str) -> bool:
        self.call.out(path + "\n")
        return True

    def _delete(self, path: str) -> bool:
        files = self.call.files
        try:
            node = files.node(path, follow=False)
            if node is not None and node.kind == "directory":
                files.remove_directory(path)
            else:
                files.remove(path)
        except Refused as error:
            self.status = self.call.complain(f"{path}: {error}")
            return False
        return True

    def _start(self, words: list[str]) -> int:
        return self.call.shell.programs.call(Call(self.call.shell, words, self.call.streams), builtins=False)
