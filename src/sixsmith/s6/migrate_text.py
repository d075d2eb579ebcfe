"""Scripts of s6-overlay v1 and v2 rewritten for v3: interpreters, paths, how to stop the container, its exit code.

Only what has one meaning is rewritten; whatever else refers to the old overlay is a decision for a person, with its line.
Sources: the programs of 1.21.4.0 and 2.1.0.2 beside those of 3.1.6.2 and 3.2.1.0; their init-stage scripts and rc.init.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

__all__ = ["Decision", "rewrite_script"]


class Decision(msgspec.Struct, frozen=True):
    """What a person must still decide: the place in the old tree (line 0 where none is meant), what it is about, advice."""

    path: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.message} ({self.hint})" if self.hint else f"{place}: {self.message}"


EXECLINE = [
    "background",
    "backtick",
    "cd",
    "define",
    "dollarat",
    "elgetopt",
    "elgetpositionals",
    "elglob",
    "emptyenv",
    "envfile",
    "exec",
    "execline-cd",
    "execline-umask",
    "execlineb",
    "exit",
    "export",
    "fdblock",
    "fdclose",
    "fdmove",
    "fdreserve",
    "fdswap",
    "forbacktickx",
    "foreground",
    "forstdin",
    "forx",
    "getcwd",
    "getpid",
    "heredoc",
    "homeof",
    "if",
    "ifelse",
    "ifte",
    "ifthenelse",
    "importas",
    "loopwhilex",
    "multidefine",
    "multisubstitute",
    "pipeline",
    "piperw",
    "redirfd",
    "runblock",
    "shift",
    "trap",
    "tryexec",
    "umask",
    "unexport",
    "wait",
    "withstdinas",
]
_S6 = r"s6-[a-z0-9-]+|with-contenv|with-retries|printcontenv|logutil-(?:service|newfifo)|ucspilogd|seekablepipe"

GONE = frozenset(
    [
        "import",
        "justc-envdir",
        "minidentd",
        "s6-clockadd",
        "s6-clockview",
        "s6-devd",
        "s6-dnsip4",
        "s6-dnsip6",
        "s6-dnsmx",
        "s6-dnsname",
        "s6-dnsns",
        "s6-dnsq",
        "s6-dnsqr",
        "s6-dnsqualify",
        "s6-dnssoa",
        "s6-dnssrv",
        "s6-dnstxt",
        "s6-fillurandompool",
        "s6-getservbyname",
        "s6-ident-client",
        "s6-randomip",
        "s6-sntpclock",
        "s6-taiclock",
        "s6-taiclockd",
        "s6-tcpclient",
        "s6-tcpserver",
        "s6-tcpserver-access",
        "s6-tcpserver4",
        "s6-tcpserver6",
        "s6-uevent-listener",
        "s6-uevent-spawner",
        "s6lockd",
        "skadnsd",
    ]
)
"""Programs of v1 and v2 that v3 does not bring."""

_EXECLINE_PROGRAMS = "|".join(re.escape(name) for name in sorted(EXECLINE, key=len, reverse=True))
_RUN = r"(?:/var)?/run"
_WORD_START = r"(?<![\w./-])"
_WORD_END = r"(?![\w-])"
_HALT = re.compile(
    rf"{_WORD_START}(?:/usr/bin/|/bin/)?s6-svscanctl\s+-[a-z]*[tTqQ6]+[a-z]*\s+(?:--\s+)?[\"']?{_RUN}/s6/services/?[\"']?{_WORD_END}"
)
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"{_RUN}/s6/env-stage3/S6_STAGE2_EXITED{_WORD_END}"), "/run/s6-linux-init-container-results/exitcode"),
    (re.compile(rf"{_RUN}/s6/services{_WORD_END}"), "/run/service"),
    (re.compile(rf"{_RUN}/s6/container_environment{_WORD_END}"), "/run/s6/container_environment"),
    (re.compile(rf"{_WORD_START}/(?:usr/)?bin/with-contenv-legacy{_WORD_END}"), "/command/with-contenv"),
    (re.compile(rf"{_WORD_START}/(?:usr/)?bin/s6-test{_WORD_END}"), "/command/eltest"),
    (re.compile(rf"{_WORD_START}/(?:usr/)?bin/({_S6}){_WORD_END}"), r"/command/\1"),
    (re.compile(rf"{_WORD_START}/(?:usr/)?bin/({_EXECLINE_PROGRAMS}){_WORD_END}"), r"/command/\1"),
    (re.compile(rf"{_WORD_START}with-contenv-legacy{_WORD_END}"), "with-contenv"),
    (re.compile(rf"{_WORD_START}s6-test{_WORD_END}"), "eltest"),
)
_ASKS: tuple[tuple[re.Pattern[str], str, str], ...] = (
    (
        re.compile(r"with-contenv-legacy"),
        "v3 has no `with-contenv-legacy`; it is `with-contenv` now",
        "see whether variables of several lines matter to this script",
    ),
    (
        re.compile(rf"s6-svc\s[^\n]*{_RUN}/s6/services"),
        "`s6-svc` works behind s6-rc's back: s6-rc goes on thinking that the service is up",
        "use `s6-rc -d change NAME` and `s6-rc -u change NAME`, or leave it for `-r` and other signals",
    ),
    (re.compile(rf"{_RUN}/s6/etc{_WORD_END}"), "v3 makes no copy of the user's files in /var/run/s6/etc", "use the files in /etc"),
    (re.compile(rf"{_RUN}/s6/env-(?:stage\d|[a-z]+)/(?!S6_STAGE2_EXITED)"), "v3 has no env-stage folders", "set the variable in the image"),
    (re.compile(r"/etc/s6/(?:init|services)"), "v3 has no /etc/s6/init and /etc/s6/services", "see what this line is for"),
    (re.compile(r"S6_STAGE2_EXITED(?<!env-stage3/S6_STAGE2_EXITED)"), "v3 does not know S6_STAGE2_EXITED", "write the code to /run/s6-linux-init-container-results/exitcode"),
    (re.compile(r"(?<![\w/.-])(?:/usr/bin/)?fix-attrs(?![\w.-])"), "v3 has no program `fix-attrs`", "use chown and chmod"),
)  # fmt: skip
_GONE = re.compile(
    rf"{_WORD_START}(?:/(?:usr/)?bin/|/command/)?({'|'.join(sorted(GONE, key=len, reverse=True))}){_WORD_END}"
)


def rewrite_script(path: str, content: bytes, moved: Mapping[str, str]) -> tuple[bytes, tuple[Decision, ...]]:
    """The script for v3, and what is to be decided about it. What is no script of text (no `#!`) stays as it is.

    `moved` are absolute paths of files that have another place now, and their new ones.
    """
    if not content.startswith(b"#!"):
        return content, ()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return content, ()
    decisions = []
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        code = line if number == 1 else _code(line)
        decisions += [Decision(path, number, message, hint) for message, hint in _asked(code)]
        lines[number - 1] = _rewritten(line, moved) if code.strip() else line
    return "\n".join(lines).encode(), tuple(decisions)


def _code(line: str) -> str:
    """The line, or nothing when it is a comment."""
    return "" if line.lstrip().startswith("#") else line


def _asked(line: str) -> Iterator[tuple[str, str]]:
    for pattern, message, hint in _ASKS:
        if pattern.search(line):
            yield message, hint
    for name in dict.fromkeys(_GONE.findall(line)):
        hint = "use importas" if name == "import" else "install it from Alpine's packages, or do without"
        if name != "import" or not re.match(r"\s*import\s+[a-z_.]+\s*$|from\s", line):
            yield f"v3 does not bring `{name}`", hint


def _rewritten(line: str, moved: Mapping[str, str]) -> str:
    line = _HALT.sub("/run/s6/basedir/bin/halt", line)
    for old in sorted(moved, key=len, reverse=True):
        if old in line:
            line = re.sub(rf"{re.escape(old)}(?![\w.-])", moved[old].replace("\\", r"\\"), line)
    for pattern, replacement in _RULES:
        line = pattern.sub(replacement, line)
    return line
