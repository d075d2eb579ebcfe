"""The shell language of install scripts: text in, a tree of commands out.

What POSIX calls the Shell Command Language, as far as ash and dash share it, minus what makes no sense in a script that
runs alone while a package is installed (jobs, history, aliases). The parser is strict: what it does not know is a
`NotUnderstood` with a line, never a guess.

Grammar and quoting follow POSIX.1-2017, Shell & Utilities, chapter 2.
"""

from __future__ import annotations

import re

import msgspec

__all__ = [
    "AndOr",
    "Arithmetic",
    "Case",
    "CaseItem",
    "Command",
    "For",
    "Function",
    "Group",
    "If",
    "Literal",
    "NotUnderstood",
    "Parameter",
    "Part",
    "Pipeline",
    "Redirect",
    "Simple",
    "Substitution",
    "While",
    "Word",
    "parse_script",
]


class NotUnderstood(Exception):
    """A script does something that cannot be followed; `line` is 1-based, 0 where it is not known yet."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class Literal(msgspec.Struct, frozen=True):
    """Text as it stands; quoted text is neither split nor matched as a pattern."""

    text: str
    quoted: bool = False


class Parameter(msgspec.Struct, frozen=True):
    """`$name`, `${name}`, `${name<operator>word}`; the operator `length` stands for `${#name}`."""

    name: str
    operator: str = ""
    word: tuple[Part, ...] = ()
    quoted: bool = False


class Substitution(msgspec.Struct, frozen=True):
    """`$(commands)` or the same in backquotes."""

    body: tuple[AndOr, ...]
    quoted: bool = False


class Arithmetic(msgspec.Struct, frozen=True):
    """`$((expression))`, the expression not expanded yet."""

    expression: tuple[Part, ...]
    quoted: bool = False


Part = Literal | Parameter | Substitution | Arithmetic
Word = tuple[Part, ...]


class Redirect(msgspec.Struct, frozen=True):
    """`2>file` and its like. `operator` is <, >, >>, >|, <>, <&, >&, &>, &>> or <<; `document` is the text after <<."""

    descriptor: int
    operator: str
    word: Word
    line: int
    document: list[Part] = []  # filled when the parser comes to the end of the line, which is after this value is made


class Simple(msgspec.Struct, frozen=True):
    """Assignments, a command with its arguments, redirections; any of the three may be missing."""

    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]
    line: int


class Group(msgspec.Struct, frozen=True):
    """`{ …; }`, or `( … )` when it is a subshell."""

    body: tuple[AndOr, ...]
    subshell: bool
    redirects: tuple[Redirect, ...]
    line: int


class If(msgspec.Struct, frozen=True):
    """`if` and `elif` conditions with what follows them, and what stands after `else`."""

    branches: tuple[tuple[tuple[AndOr, ...], tuple[AndOr, ...]], ...]
    otherwise: tuple[AndOr, ...]
    redirects: tuple[Redirect, ...]
    line: int


class For(msgspec.Struct, frozen=True):
    """`for name in words`; `words` is None for `for name`, which walks the positional parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: tuple[AndOr, ...]
    redirects: tuple[Redirect, ...]
    line: int


class While(msgspec.Struct, frozen=True):
    """`while`, or `until`."""

    condition: tuple[AndOr, ...]
    body: tuple[AndOr, ...]
    until: bool
    redirects: tuple[Redirect, ...]
    line: int


class CaseItem(msgspec.Struct, frozen=True):
    """`pattern | pattern) commands ;;`."""

    patterns: tuple[Word, ...]
    body: tuple[AndOr, ...]


class Case(msgspec.Struct, frozen=True):
    """`case word in … esac`."""

    word: Word
    items: tuple[CaseItem, ...]
    redirects: tuple[Redirect, ...]
    line: int


class Function(msgspec.Struct, frozen=True):
    """`name() command`."""

    name: str
    body: Command
    line: int


Command = Simple | Group | If | For | While | Case | Function


class Pipeline(msgspec.Struct, frozen=True):
    """Commands joined by `|`, with `!` before them when `negated`."""

    commands: tuple[Command, ...]
    negated: bool


class AndOr(msgspec.Struct, frozen=True):
    """Pipelines joined by `&&` and `||`: the operator stands before each one, empty before the first."""

    pipelines: tuple[tuple[str, Pipeline], ...]


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
_PLAIN = re.compile(r"[^\s'\"\\$`|&;<>()#*?\[\]~{}!=]+")
_WORD = re.compile(r"[a-z]+|[{}!]")
"""What may be a reserved word."""
_BLANK = re.compile(r"(?:[ \t]|\\\n)*")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-]")
_PLAIN_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-]")
_PARENTHESES = re.compile(r"[ \t]*\([ \t]*\)")
_OPERATOR = re.compile(r":?[-=?+]|##?|%%?")
_REDIRECT = re.compile(r"([0-9]*)(<<-|<<|<>|<&|<|>>|>\||>&|>)|()(&>>|&>)")
_RESERVED = frozenset(
    ["if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "in", "{", "}", "!"]
)
_DEPTH = 60
_LONGEST = 1 << 20


def parse_script(text: str) -> tuple[AndOr, ...]:
    """The commands of a script. Raises NotUnderstood for what is no shell language, or none that is known here."""
    if len(text) > _LONGEST:
        raise NotUnderstood("the script is longer than a mebibyte", 1)
    try:
        return _Parser(text).script()
    except RecursionError:
        raise NotUnderstood("nested too deeply", 1) from None


class _Document(msgspec.Struct):
    """A here-document whose text comes after the current line."""

    delimiter: str
    quoted: bool
    strip: bool
    parts: list[Part]


class _Parser:
    def __init__(self, text: str, line: int = 1, depth: int = 0) -> None:
        self.text = text
        self.at = 0
        self.depth = depth
        self.counted = (0, line)
        self.waiting: list[_Document] = []

    # --- where we are -------------------------------------------------------------------------------------------

    @property
    def line(self) -> int:
        start, line = self.counted
        if self.at < start:
            return line - self.text.count("\n", self.at, start)
        self.counted = (self.at, line + self.text.count("\n", start, self.at))
        return self.counted[1]

    def fail(self, reason: str) -> NotUnderstood:
        return NotUnderstood(reason, self.line)

    def peek(self, length: int = 1) -> str:
        at = self.at
        return self.text[at : at + length]

    def blanks(self) -> None:
        """Skips blanks and comments on this line."""
        char = self.peek()
        if char and char in " \t\\":
            match = _BLANK.match(self.text, self.at)
            if match is not None:
                self.at = match.end()
            char = self.peek()
        if char == "#":
            end = self.text.find("\n", self.at)
            self.at = len(self.text) if end < 0 else end

    def newlines(self) -> None:
        """Skips blanks, comments and line ends; here-documents are read where a line ends."""
        self.blanks()
        while self.peek() == "\n":
            self.at += 1
            for document in self.waiting:
                self._read_document(document)
            self.waiting.clear()
            self.blanks()

    def reserved(self, *words: str) -> str:
        """The reserved word that comes next, when it is one of these; it is not consumed."""
        self.blanks()
        match = _WORD.match(self.text, self.at)
        if match is None or match.group() not in words:
            return ""
        end = match.end()
        return match.group() if self.text[end : end + 1] in _WORD_END else ""

    def accept(self, *words: str) -> str:
        word = self.reserved(*words)
        self.at += len(word)
        return word

    def expect(self, word: str) -> None:
        self.newlines()
        if not self.accept(word):
            raise self.fail(f"'{word}' is missing")

    # --- lists and pipelines ------------------------------------------------------------------------------------

    def script(self) -> tuple[AndOr, ...]:
        body = self.commands()
        if self.at < len(self.text):
            raise self.fail(f"unexpected '{self.peek()}'")
        if self.waiting:
            self.at = len(self.text)
            for document in self.waiting:
                self._read_document(document)
            self.waiting.clear()
        return body

    def commands(self, *ends: str) -> tuple[AndOr, ...]:
        """Commands up to (not including) one of the reserved words, `)`, `;;` or the end."""
        self._descend()
        found = []
        while True:
            self.newlines()
            if self.at >= len(self.text) or self.peek() == ")" or self.peek(2) == ";;":
                break
            if ends and self.reserved(*ends):
                break
            found.append(self.and_or())
            self.blanks()
            if self.peek(2) == ";;":
                break
            if self.peek() == ";":
                self.at += 1
            elif self.peek() == "&":
                raise self.fail("a command in the background")
            elif self.peek() not in ("\n", "", ")"):
                raise self.fail(f"unexpected '{self.peek()}'")
        self.depth -= 1
        return tuple(found)

    def and_or(self) -> AndOr:
        pipelines = [("", self.pipeline())]
        while True:
            self.blanks()
            operator = self.peek(2)
            if operator not in ("&&", "||"):
                return AndOr(tuple(pipelines))
            self.at += 2
            self.newlines()
            pipelines.append((operator, self.pipeline()))

    def pipeline(self) -> Pipeline:
        negated = False
        while self.accept("!"):
            negated = not negated
        commands = [self.command()]
        while True:
            self.blanks()
            if self.peek() != "|" or self.peek(2) == "||":
                return Pipeline(tuple(commands), negated)
            self.at += 1
            self.newlines()
            commands.append(self.command())

    # --- commands -----------------------------------------------------------------------------------------------

    def command(self) -> Command:
        self.blanks()
        line = self.line
        if self.peek() == "(":
            self.at += 1
            body = self.commands()
            if self.peek() != ")":
                raise self.fail("')' is missing")
            self.at += 1
            return Group(body, True, self.redirects(), line)
        word = self.accept("{", "if", "for", "while", "until", "case", "function")
        if word == "{":
            body = self.commands("}")
            self.expect("}")
            return Group(body, False, self.redirects(), line)
        if word == "if":
            return self._if(line)
        if word == "for":
            return self._for(line)
        if word in ("while", "until"):
            condition = self.commands("do")
            body = self._do_group()
            return While(condition, body, word == "until", self.redirects(), line)
        if word == "case":
            return self._case(line)
        if word == "function":
            raise self.fail("the keyword 'function' is not POSIX shell")
        return self._simple_or_function(line)

    def _if(self, line: int) -> If:
        branches = []
        word = "if"
        while word in ("if", "elif"):
            condition = self.commands("then")
            self.expect("then")
            body = self.commands("elif", "else", "fi")
            branches.append((condition, body))
            self.newlines()
            word = self.accept("elif", "else", "fi")
        otherwise: tuple[AndOr, ...] = ()
        if word == "else":
            otherwise = self.commands("fi")
            self.expect("fi")
        elif word != "fi":
            raise self.fail("'fi' is missing")
        return If(tuple(branches), otherwise, self.redirects(), line)

    def _for(self, line: int) -> For:
        self.blanks()
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.fail("'for' without a variable")
        self.at = match.end()
        self.newlines()
        words: tuple[Word, ...] | None = None
        if self.accept("in"):
            found = []
            self.blanks()
            while self.peek() not in ("\n", ";", ""):
                found.append(self._some_word())
                self.blanks()
            words = tuple(found)
        self.blanks()
        if self.peek() == ";":
            self.at += 1
        return For(match.group(), words, self._do_group(), self.redirects(), line)

    def _do_group(self) -> tuple[AndOr, ...]:
        self.expect("do")
        body = self.commands("done")
        self.expect("done")
        return body

    def _case(self, line: int) -> Case:
        self.blanks()
        word = self._some_word()
        self.expect("in")
        items: list[CaseItem] = []
        while True:
            self.newlines()
            if self.accept("esac"):
                return Case(word, tuple(items), self.redirects(), line)
            if self.peek() == "(":
                self.at += 1
            patterns = []
            while True:
                self.blanks()
                patterns.append(self._some_word())
                self.blanks()
                if self.peek() != "|":
                    break
                self.at += 1
            if self.peek() != ")":
                raise self.fail("')' is missing after a case pattern")
            self.at += 1
            items.append(CaseItem(tuple(patterns), self.commands("esac")))
            self.newlines()
            if self.peek(2) == ";;":
                self.at += 2
            elif not self.reserved("esac"):
                raise self.fail("'esac' is missing")

    def _simple_or_function(self, line: int) -> Simple | Function:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            self.blanks()
            redirect = self._redirect()
            if redirect is not None:
                redirects.append(redirect)
                continue
            if self.peek() in _OPERATORS:
                break
            match = _ASSIGNMENT.match(self.text, self.at) if not words else None
            if match is not None:
                self.at = match.end()
                assignments.append((match.group(1), self.word()))
                continue
            if not words and not assignments and not redirects and self.reserved(*_RESERVED):
                raise self.fail(f"unexpected '{self.reserved(*_RESERVED)}'")
            words.append(self._some_word())
            if len(words) == 1 and not assignments and not redirects and self._opens_function():
                return self._function(words[0], line)
        if not (assignments or words or redirects):
            raise self.fail(f"unexpected '{self.peek()}'" if self.peek() else "the script ends too early")
        return Simple(tuple(assignments), tuple(words), tuple(redirects), line)

    def _opens_function(self) -> bool:
        match = _PARENTHESES.match(self.text, self.at)
        if match is None:
            return False
        self.at = match.end()
        return True

    def _function(self, word: Word, line: int) -> Function:
        name = word[0].text if len(word) == 1 and isinstance(word[0], Literal) else ""
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name):
            raise self.fail("a function without a plain name")
        self.newlines()
        self._descend()
        body = self.command()
        self.depth -= 1
        return Function(name, body, line)

    def _descend(self) -> None:
        self.depth += 1
        if self.depth > _DEPTH:
            raise self.fail("nested too deeply")

    # --- redirections -------------------------------------------------------------------------------------------

    def redirects(self) -> tuple[Redirect, ...]:
        found: list[Redirect] = []
        while True:
            self.blanks()
            redirect = self._redirect()
            if redirect is None:
                return tuple(found)
            found.append(redirect)

    def _redirect(self) -> Redirect | None:
        match = _REDIRECT.match(self.text, self.at)
        if match is None:
            return None
        line = self.line
        self.at = match.end()
        operator = match.group(2) or match.group(4)
        if operator.startswith("&>"):
            # Known to busybox ash and bash; dash would run the command in the background.
            self.blanks()
            return Redirect(1, operator, self._some_word(), line)
        descriptor = int(match.group(1)) if match.group(1) else (0 if operator[0] == "<" else 1)
        self.blanks()
        if operator in ("<<", "<<-"):
            return Redirect(descriptor, "<<", (), line, self._document(strip=operator == "<<-"))
        return Redirect(descriptor, operator, self._some_word(), line)

    def _document(self, *, strip: bool) -> list[Part]:
        word = self._some_word()
        delimiter = "".join(part.text for part in word if isinstance(part, Literal))
        if any(not isinstance(part, Literal) for part in word):
            raise self.fail("a here-document whose end is not plain text")
        quoted = any(isinstance(part, Literal) and part.quoted for part in word)
        parts: list[Part] = []
        self.waiting.append(_Document(delimiter, quoted, strip, parts))
        return parts

    def _read_document(self, document: _Document) -> None:
        line = self.line
        lines = []
        while True:
            if self.at >= len(self.text):
                break
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            content = self.text[self.at : end]
            self.at = min(end + 1, len(self.text))
            if document.strip:
                content = content.lstrip("\t")
            if content == document.delimiter:
                break
            lines.append(content + "\n")
        text = "".join(lines)
        if document.quoted:
            document.parts.append(Literal(text, True))
        else:
            document.parts += _Parser(text, line, self.depth).document_text()

    def document_text(self) -> Word:
        """The whole text, expanded as between double quotes, where a quote is an ordinary character."""
        return tuple(self._double_quoted(end=""))

    # --- words --------------------------------------------------------------------------------------------------

    def _some_word(self) -> Word:
        start = self.at
        word = self.word()
        if self.at == start:
            raise self.fail(f"unexpected '{self.peek()}'" if self.peek() not in ("", "\n") else "a word is missing")
        return word

    def word(self) -> Word:
        """One word; an empty tuple when none is here."""
        parts: list[Part] = []
        text = self.text
        while self.at < len(text):
            match = _PLAIN.match(text, self.at)
            if match is not None:
                parts.append(Literal(match.group()))
                self.at = match.end()
                continue
            char = text[self.at]
            if char in " \t\n|&;<>()":
                break
            if char == "\\":
                following = self.peek(2)[1:]
                self.at += 2
                if following != "\n":
                    parts.append(Literal(following or "\\", True))
            elif char == "'":
                end = text.find("'", self.at + 1)
                if end < 0:
                    raise self.fail("a quote is not closed")
                parts.append(Literal(text[self.at + 1 : end], True))
                self.at = end + 1
            elif char == '"':
                self.at += 1
                inner = self._double_quoted(end='"')
                parts += inner or [Literal("", True)]
            elif char == "$":
                parts.append(self._dollar(quoted=False))
            elif char == "`":
                parts.append(self._backquoted(quoted=False))
            else:
                parts.append(Literal(char))
                self.at += 1
        return tuple(_joined(parts))

    def _double_quoted(self, *, end: str) -> list[Part]:
        """Parts up to the closing `end`, which is consumed ('' is the end of the text, for here-documents)."""
        parts: list[Part] = []
        plain: list[str] = []
        text = self.text

        def flush() -> None:
            if plain:
                parts.append(Literal("".join(plain), True))
                plain.clear()

        while True:
            if self.at >= len(text):
                if end:
                    raise self.fail("a quote is not closed")
                break
            char = text[self.at]
            if end and char == end:
                self.at += 1
                break
            if char == "\\":
                following = self.peek(2)[1:]
                self.at += 2
                if following == "\n":
                    continue
                special = following in '$`"\\}' if end == "}" else following in '$`"\\' if end else following in "$`\\"
                plain.append(following if special and following else "\\" + following)
            elif char == "$":
                flush()
                parts.append(self._dollar(quoted=True))
            elif char == "`":
                flush()
                parts.append(self._backquoted(quoted=True))
            elif char == '"' and end == "}":
                # "${x:-"text"}": the inner quotes end nothing and are dropped.
                self.at += 1
            else:
                plain.append(char)
                self.at += 1
        flush()
        return parts

    def _dollar(self, *, quoted: bool) -> Part:
        text = self.text
        if text.startswith("$((", self.at):
            return self._arithmetic(quoted=quoted)
        if text.startswith("$(", self.at):
            self.at += 2
            body = self.commands()
            if self.peek() != ")":
                raise self.fail("')' is missing after a command substitution")
            self.at += 1
            return Substitution(body, quoted)
        if text.startswith("${", self.at):
            return self._braced(quoted=quoted)
        if text.startswith("$'", self.at) and not quoted:
            raise self.fail("$'…' is not understood")
        self.at += 1
        match = _PLAIN_PARAMETER.match(text, self.at)
        if match is None:
            return Literal("$", quoted)
        self.at = match.end()
        return Parameter(match.group(), quoted=quoted)

    def _braced(self, *, quoted: bool) -> Part:
        start_line = self.line
        self.at += 2
        text = self.text
        if self.peek() == "#" and self.peek(2)[1:] not in ("}", ":", "-", "+", "=", "?", "%", ""):
            match = _PARAMETER.match(text, self.at + 1)
            if match is None or text[match.end() : match.end() + 1] != "}":
                raise self.fail("a parameter expansion is not understood")
            self.at = match.end() + 1
            return Parameter(match.group(), "length", quoted=quoted)
        match = _PARAMETER.match(text, self.at)
        if match is None:
            raise self.fail("a parameter expansion is not understood")
        self.at = match.end()
        if self.peek() == "}":
            self.at += 1
            return Parameter(match.group(), quoted=quoted)
        operator = _OPERATOR.match(text, self.at)
        if operator is None:
            raise self.fail("a parameter expansion that is not POSIX shell")
        self.at = operator.end()
        # The pattern of # and % has its own quoting even between double quotes.
        self._descend()
        word = self._brace_word(quoted=quoted and operator.group()[-1] not in "#%")
        self.depth -= 1
        if not text.startswith("}", self.at - 1):
            raise NotUnderstood("'}' is missing", start_line)
        return Parameter(match.group(), operator.group(), word, quoted)

    def _brace_word(self, *, quoted: bool) -> Word:
        if quoted:
            return tuple(self._double_quoted(end="}"))
        parts: list[Part] = []
        while True:
            char = self.peek()
            if char == "":
                raise self.fail("'}' is missing")
            if char == "}":
                self.at += 1
                return tuple(_joined(parts))
            if char in " \t\n|&;<>()":
                parts.append(Literal(char))
                self.at += 1
                continue
            if char in "\"'\\$`":
                parts += self._quoted_part(char)
                continue
            parts.append(Literal(char))
            self.at += 1

    def _quoted_part(self, char: str) -> list[Part]:
        """One quoted or expanded piece of a word, of which `char` is the first character."""
        if char == "\\":
            following = self.peek(2)[1:]
            self.at += 2
            return [] if following == "\n" else [Literal(following, True)]
        if char == "'":
            end = self.text.find("'", self.at + 1)
            if end < 0:
                raise self.fail("a quote is not closed")
            literal = Literal(self.text[self.at + 1 : end], True)
            self.at = end + 1
            return [literal]
        if char == '"':
            self.at += 1
            return self._double_quoted(end='"') or [Literal("", True)]
        return [self._dollar(quoted=False) if char == "$" else self._backquoted(quoted=False)]

    def _arithmetic(self, *, quoted: bool) -> Part:
        start = self.at + 3
        depth = 0
        at = start
        while True:
            char = self.text[at : at + 1]
            if char == "":
                raise self.fail("'))' is missing")
            if char == "(":
                depth += 1
            elif char == ")":
                if depth == 0:
                    break
                depth -= 1
            at += 1
        if not self.text.startswith("))", at):
            raise self.fail("$(( … ) is not understood")
        inner = _Parser(self.text[start:at], self.line, self.depth).document_text()
        self.at = at + 2
        return Arithmetic(inner, quoted)

    def _backquoted(self, *, quoted: bool) -> Part:
        line = self.line
        self.at += 1
        script: list[str] = []
        while True:
            char = self.peek()
            if char == "":
                raise NotUnderstood("a backquote is not closed", line)
            self.at += 1
            if char == "`":
                break
            if char == "\\" and self.peek() in ('$`\\"' if quoted else "$`\\") and self.peek():
                char = self.peek()
                self.at += 1
            script.append(char)
        if self.depth > _DEPTH:
            raise NotUnderstood("nested too deeply", line)
        return Substitution(_Parser("".join(script), line, self.depth + 1).script(), quoted)


def _joined(parts: list[Part]) -> list[Part]:
    """Neighbouring literals of one kind of quoting made one."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Literal) and isinstance(last, Literal) and part.quoted == last.quoted:
            found[-1] = Literal(last.text + part.text, part.quoted)
        else:
            found.append(part)
    return found


_OPERATORS = frozenset(["", "\n", ";", "&", "|", "(", ")", "<", ">"])
_WORD_END = frozenset(["", " ", "\t", "\n", ";", "&", "|", "(", ")", "<", ">"])
