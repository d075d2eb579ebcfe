"""Patterns of the shell, of grep and of sed, as Python's.

Only what means the same in both is translated. POSIX prefers the longest match where Python prefers the first
alternative; where that could show (an alternation in a substitution), the pattern is refused.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sixsmith.rootfs.scripts.syntax import NotUnderstood

__all__ = ["basic_regex", "glob_regex", "has_magic"]

_CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": " \\t\\n\\r\\f\\v",
    "blank": " \\t",
    "punct": "!-/:-@\\[-`{-~",
    "xdigit": "0-9A-Fa-f",
    "print": " -~",
    "graph": "!-~",
    "cntrl": "\\x00-\\x1f\\x7f",
}


def has_magic(text: str) -> bool:
    """Whether unquoted text is a pattern."""
    return any(char in text for char in "*?[")


def _bracket(text: str, at: int, *, shell: bool) -> tuple[str, int] | None:
    """The Python set for the bracket expression at `[`, and where it ends; None when it is not closed."""
    start = at + 1
    negated = text[start : start + 1] in (("!", "^") if shell else ("^",))
    index = start + negated
    items: list[str] = []
    first = True
    while True:
        char = text[index : index + 1]
        if char == "":
            return None
        if char == "]" and not first:
            break
        first = False
        if text.startswith("[:", index):
            end = text.find(":]", index)
            name = text[index + 2 : end] if end > 0 else ""
            if name not in _CLASSES:
                raise NotUnderstood(f"the pattern {text!r} is not understood")
            items.append(_CLASSES[name])
            index = end + 2
            continue
        if text[index : index + 2] in ("[.", "[="):
            raise NotUnderstood(f"the pattern {text!r} is not understood")
        if shell and char == "\\" and index + 1 < len(text):
            index += 1
            char = text[index]
        last = text[index + 2 : index + 3]
        if text[index + 1 : index + 2] == "-" and last not in ("", "]"):
            if shell and last == "\\":
                raise NotUnderstood(f"the pattern {text!r} is not understood")
            items.append(f"{re.escape(char)}-{re.escape(last)}")
            index += 3
            continue
        items.append(re.escape(char))
        index += 1
    body = "".join(items)
    return (f"[^{body}]" if negated else f"[{body}]"), index + 1


@lru_cache(maxsize=512)
def glob_regex(pieces: tuple[tuple[str, bool], ...], *, greedy: bool = True) -> re.Pattern[str]:
    """The regular expression of a shell pattern; pieces are text and whether it was quoted. To be used with fullmatch,
    or anchored by the caller."""
    # Quoted text is marked by a backslash before each character, then the whole is read as one pattern.
    text = "".join(re.sub(r"([*?\[\]\\!^-])", r"\\\1", piece) if quoted else piece for piece, quoted in pieces)
    out: list[str] = []
    at = 0
    many = ".*" if greedy else ".*?"
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            out.append(re.escape(text[at + 1]))
            at += 2
            continue
        if char == "*":
            out.append(many)
        elif char == "?":
            out.append(".")
        elif char == "[" and (found := _bracket(text, at, shell=True)) is not None:
            out.append(found[0])
            at = found[1]
            continue
        else:
            out.append(re.escape(char))
        at += 1
    return _compile("".join(out), re.DOTALL, text)


@lru_cache(maxsize=256)
def basic_regex(
    text: str, *, extended: bool = False, ignore_case: bool = False, whole: str = "", longest: bool = False
) -> re.Pattern[str]:
    """The Python pattern of a POSIX basic or extended regular expression, as musl's regcomp reads it.

    `whole` is `word` or `line` for grep's -w and -x. With `longest` the match's extent counts (sed, grep -o), and
    patterns are refused where Python could match less.
    """
    translated = _Translation(text, extended, longest).run()
    if whole == "line":
        translated = f"^(?:{translated})$"
    elif whole == "word":
        translated = rf"(?<!\w)(?:{translated})(?!\w)"
    flags = re.ASCII | (re.IGNORECASE if ignore_case else 0)
    return _compile(translated, flags, text)


def _compile(pattern: str, flags: int, text: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise NotUnderstood(f"the pattern {text!r} is not understood: {error}") from None


class _Translation:
    """Walks a POSIX regular expression once, writing Python's."""

    def __init__(self, text: str, extended: bool, longest: bool) -> None:
        self.text = text
        self.extended = extended
        self.longest = longest
        self.out: list[str] = []
        self.depth = 0
        self.atom = False
        """Whether something that a repetition can refer to comes before."""

    def run(self) -> str:
        text, at = self.text, 0
        while at < len(text):
            at = self.step(at)
        if self.depth:
            raise self.unknown()
        return "".join(self.out)

    def unknown(self) -> NotUnderstood:
        return NotUnderstood(f"the regular expression {self.text!r} is not understood")

    def emit(self, piece: str, *, atom: bool = True) -> None:
        self.out.append(piece)
        self.atom = atom

    def step(self, at: int) -> int:
        text = self.text
        char = text[at]
        if char == "[":
            found = _bracket(text, at, shell=False)
            if found is None:
                raise self.unknown()
            self.emit(found[0])
            return found[1]
        if char == "\\":
            return self.escape(at)
        if char == ".":
            self.emit(".")
        elif char == "*":
            if self.atom:
                self.emit("*")
            elif self.extended:
                raise self.unknown()
            else:
                self.emit(r"\*")
        elif char == "^":
            starts = at == 0 or text[at - 1] in "(|" or text[at - 2 : at] in ("\\(", "\\|")
            self.emit("^" if self.extended or starts else r"\^", atom=not (self.extended or starts))
        elif char == "$":
            rest = text[at + 1 : at + 3]
            ends = rest == "" or rest[:1] in (")", "|") or rest in ("\\)", "\\|")
            self.emit(r"\Z" if self.extended or ends else r"\$", atom=not (self.extended or ends))
        elif self.extended and char in "()|+?{":
            return self.operator(char, at, 1)
        else:
            self.emit(re.escape(char))
        return at + 1

    def escape(self, at: int) -> int:
        following = self.text[at + 1 : at + 2]
        if following == "":
            raise self.unknown()
        if not self.extended and following in "()|+?{":
            return self.operator(following, at, 2)
        if following.isdigit():
            if following == "0":
                raise self.unknown()
            self.emit(rf"(?:\{following})")
        elif following in "wWsSbB":
            self.emit("\\" + following, atom=following not in "bB")
        elif following in "nt":
            self.emit("\\" + following)
        elif following == "<":
            self.emit(r"\b(?=\w)", atom=False)
        elif following == ">":
            self.emit(r"\b(?<=\w)", atom=False)
        elif following.isalnum() or following in "`'":
            raise self.unknown()
        else:
            self.emit(re.escape(following))
        return at + 2

    def operator(self, char: str, at: int, width: int) -> int:
        if char == "(":
            self.depth += 1
            self.emit("(", atom=False)
        elif char == ")":
            if not self.depth:
                raise self.unknown()
            self.depth -= 1
            self.emit(")")
        elif char == "|":
            if self.longest and not self._plain_alternatives(at, width):
                raise self.unknown()
            self.emit("|", atom=False)
        elif char in "+?":
            if not self.atom:
                raise self.unknown()
            self.emit(char)
        else:
            end = self.text.find("}" if self.extended else "\\}", at)
            counts = self.text[at + width : end] if end > 0 else ""
            if not self.atom or not re.fullmatch(r"\d{1,3}(,\d{0,3})?|,\d{1,3}", counts):
                raise self.unknown()
            self.emit("{" + counts + "}")
            return end + (1 if self.extended else 2)
        return at + width

    def _plain_alternatives(self, at: int, width: int) -> bool:
        """Whether the alternatives around the `|` at `at` are plain texts of which none begins another."""
        opening, closing, bar = ("(", ")", "|") if width == 1 else ("\\(", "\\)", "\\|")
        start = self.text.rfind(opening, 0, at)
        end = self.text.find(closing, at)
        inner = self.text[start + width if start >= 0 else 0 : end if end >= 0 else len(self.text)]
        names = inner.split(bar)
        if any(not re.fullmatch(r"[\w/ :,=@%-]*", name) for name in names):
            return False
        return not any(a is not b and b.startswith(a) for a in names for b in names)
