"""Reading shell scripts loosely: which commands stand where.

Rules about habits need no full parser, and scripts in images are written for every shell there is. This reader splits a
script into commands with their words, line, nesting and what ends them; quoting, comments, here-documents, `$(…)`, and the
keywords of compound commands are understood, expansions are left as they stand. It never fails: rubbish gives rubbish
commands, about which no rule speaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

__all__ = ["ShellCommand", "read_shell", "word_set"]

_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*\+?="
_OPENING = frozenset({"if", "for", "while", "until", "case", "{", "select"})
_CLOSING = {"fi": "if", "done": "for", "esac": "case", "}": "{"}
_BETWEEN = frozenset({"then", "else", "elif", "do", "!", "time"})
_LOOPS = frozenset({"while", "until", "select"})
_OPERATORS = ("&&", "||", ";;", "|&", ";", "&", "|", "(", ")")
_HEREDOC = re.compile(r"<<-?\s*(['\"\\]?)([A-Za-z_][\w.-]*)\1?")
_WORD_END = re.compile(r"[\s;&|()<>]")


class ShellCommand(msgspec.Struct, frozen=True):
    """One simple command. `words` are without quotes and redirections, expansions as they stand; assignments before it
    are in `assignments`. `ender` is what follows: `;` (or a new line), `&`, `&&`, `||`, `|`. `inside` are the compound
    commands around it, from outside: `if`, `for` (all loops), `case`, `{`, `(`."""

    words: tuple[str, ...]
    line: int
    ender: str
    inside: tuple[str, ...]
    assignments: tuple[str, ...] = ()
    piped: bool = False

    @property
    def name(self) -> str:
        """The program's name without its folder, or ""."""
        return self.words[0].rpartition("/")[2] if self.words else ""


class _Token(msgspec.Struct):
    text: str
    line: int
    quoted: bool = False
    operator: bool = False


def word_set(text: str) -> frozenset[str]:
    """A set of names that is written as words."""
    return frozenset(text.split())


def read_shell(script: bytes) -> tuple[ShellCommand, ...]:
    """The simple commands of a script, in order."""
    text = script.decode("utf-8", "surrogateescape").replace("\r\n", "\n")
    return tuple(_commands(list(_Lexer(text).tokens())))


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.line = 1
        self.pending: list[str] = []

    def tokens(self) -> Iterator[_Token]:
        text, size = self.text, len(self.text)
        while self.at < size:
            char = text[self.at]
            if char == "\n":
                yield _Token("\n", self.line, operator=True)
                self.line += 1
                self.at += 1
                self.skip_documents()
            elif char in " \t":
                self.at += 1
            elif text.startswith("\\\n", self.at):
                self.line += 1
                self.at += 2
            elif char == "#":
                end = text.find("\n", self.at)
                self.at = size if end < 0 else end
            elif char in "<>" or re.match(r"\d+[<>]|&>", text[self.at : self.at + 6]):
                self.redirection()
            else:
                operator = next((each for each in _OPERATORS if text.startswith(each, self.at)), None)
                if operator:
                    yield _Token(operator, self.line, operator=True)
                    self.at += len(operator)
                else:
                    yield self.word()

    def redirection(self) -> None:
        """Skips a redirection with its target; remembers here-documents."""
        document = _HEREDOC.match(self.text, self.at)
        if document and not self.text.startswith("<<<", self.at):
            self.pending.append(document[2])
            self.at = document.end()
            return
        match = re.compile(r"\d*(?:&>>?|<<<|<>|<&|>&|>>|>\||<|>)[ \t]*").match(self.text, self.at)
        self.at = match.end() if match else self.at + 1
        if self.at < len(self.text) and self.text[self.at] == "(":  # bash: <( … )
            self.at = self.closing(self.at + 1, ")")
        elif self.at < len(self.text) and self.text[self.at] not in "\n;|":
            self.word()

    def skip_documents(self) -> None:
        for mark in self.pending:
            end = re.compile(rf"^\t*{re.escape(mark)}$", re.MULTILINE).search(self.text, self.at)
            stop = end.end() if end else len(self.text)
            self.line += self.text.count("\n", self.at, stop)
            self.at = stop
        self.pending.clear()

    def word(self) -> _Token:
        text, start_line, pieces, quoted = self.text, self.line, [], False
        while self.at < len(text) and not _WORD_END.match(text[self.at]):
            char = text[self.at]
            start = self.at
            if char in "'\"`":
                self.at = self.quoted(char)
                inside = text[start + 1 : self.at - 1]
                pieces.append(inside if char != "`" else f"`{inside}`")
                quoted = True
            elif char == "\\":
                pieces.append("" if text.startswith("\\\n", self.at) else text[self.at + 1 : self.at + 2])
                self.at += 2
            elif text.startswith(("$(", "${"), self.at):
                self.at = self.closing(self.at + 2, ")" if text[self.at + 1] == "(" else "}")
                pieces.append(text[start : self.at])
            else:
                pieces.append(char)
                self.at += 1
            self.line += text.count("\n", start, self.at)
        word = "".join(pieces)
        if not word and not quoted:
            self.at += 1  # a lone `<` or the like that nobody took: never stand still
        return _Token(word, start_line, quoted)

    def quoted(self, char: str) -> int:
        """Behind the closing quote, or the end of the script."""
        at = self.at + 1
        while at < len(self.text) and self.text[at] != char:
            if self.text[at] == "\\" and char != "'":
                at += 1
            elif char == '"' and self.text.startswith("$(", at):
                at = self.closing(at + 2, ")") - 1
            at += 1
        return min(at + 1, len(self.text))

    def closing(self, at: int, char: str) -> int:
        """Behind the bracket that closes what was opened before `at`. Iterative, so that nesting costs no stack."""
        stack = [char]
        text = self.text
        while at < len(text) and stack:
            here = text[at]
            if here == stack[-1]:
                stack.pop()
            elif stack[-1] == '"':
                if here == "\\":
                    at += 1
                elif text.startswith(("$(", "${"), at):
                    stack.append(")" if text[at + 1] == "(" else "}")
                    at += 1
            elif stack[-1] == "'":
                pass
            elif here == "\\":
                at += 1
            elif here in "'\"":
                stack.append(here)
            elif here == "(" and stack[-1] == ")":
                stack.append(")")
            elif here == "{" and stack[-1] == "}":
                stack.append("}")
            at += 1
        return min(at, len(text))


def _commands(tokens: list[_Token]) -> Iterator[ShellCommand]:
    inside: list[str] = []
    words: list[_Token] = []
    first = True  # whether a word here would be a command's name, or a keyword
    piped = False
    for index, token in enumerate([*tokens, _Token("\n", tokens[-1].line if tokens else 1, operator=True)]):
        if not token.operator:
            keyword = "" if token.quoted or not first else token.text
            if keyword in _OPENING:
                inside.append("for" if keyword in _LOOPS else keyword)
                if keyword in ("for", "case", "select"):  # up to `in` and its words: no command
                    first = False
                    words = [_Token("", token.line)]
                continue
            if keyword in _CLOSING:
                _close(inside, _CLOSING[keyword])
                first = False
                words = [_Token("", token.line)]
                continue
            if keyword in _BETWEEN:
                continue
            if words and not words[0].text and token.text == "in" and inside and inside[-1] == "case":
                words, first = [], True
                continue
            words.append(token)
            first = bool(re.match(_ASSIGNMENT, token.text)) and not token.quoted and first
            continue
        operator = token.text
        if operator == ")" and inside and inside[-1] == "case":
            words, first = [], True  # the words were a pattern
            continue
        if operator == "|" and inside and inside[-1] == "case" and _is_pattern(words, tokens[index + 1 : index + 40]):
            words = []
            continue
        ender = ";" if operator in ("\n", ";;", "(", ")") else "|" if operator == "|&" else operator
        if operator == "(" and words:
            words = []  # a function's name
        command = _command(words, ender, inside, piped)
        if command is not None:
            yield command
        words, first = [], True
        piped = ender == "|"
        if operator == "(":
            inside.append("(")
        elif operator == ")":
            _close(inside, "(")


def _is_pattern(words: list[_Token], following: list[_Token]) -> bool:
    """Whether a `|` inside `case` joins patterns: only words, bars and the closing bracket follow up to it."""
    for token in following:
        if token.operator:
            return token.text == ")" or (token.text == "|" and len(words) <= 1)
    return False


def _close(inside: list[str], opener: str) -> None:
    if opener in inside:
        while inside.pop() != opener:
            pass


def _command(words: list[_Token], ender: str, inside: list[str], piped: bool) -> ShellCommand | None:
    if not words or (not words[0].text and not words[0].quoted):
        return None
    count = 0
    while (
        count < len(words) and re.match(_ASSIGNMENT, words[count].text) and not words[count].text.startswith(("'", '"'))
    ):
        count += 1
    texts = tuple(word.text for word in words)
    return ShellCommand(texts[count:], words[0].line, ender, tuple(inside[:50]), texts[:count], piped)
