"""Reading shell scripts loosely."""

from __future__ import annotations

import time

import pytest

from sixsmith.s6.lint.shell import read_shell

SCRIPT = rb"""#!/bin/sh
set -e
FOO=bar baz "a b" > /dev/null 2>&1
if [ -f /x ]; then
  echo hi && foo -d &
elif test y; then exec nginx -g 'daemon off;'
fi
case "$1" in
  a|b) do_it ;;
  *) other arg; exec last ;;
esac
f() { inner x; }
while read -r line; do echo $line; done < /etc/passwd
cat <<EOT | tee x
not a command
EOT
x=$(echo "a b" | sed 's/)//')
exec s6-setuidgid app \
   prog --x="$Y"   # comment
"""


def test_commands_with_lines_and_nesting() -> None:
    commands = read_shell(SCRIPT)
    assert [(command.words, command.line, command.ender, command.inside) for command in commands] == [
        (("set", "-e"), 2, ";", ()),
        (("baz", "a b"), 3, ";", ()),
        (("[", "-f", "/x", "]"), 4, ";", ("if",)),
        (("echo", "hi"), 5, "&&", ("if",)),
        (("foo", "-d"), 5, "&", ("if",)),
        (("test", "y"), 6, ";", ("if",)),
        (("exec", "nginx", "-g", "daemon off;"), 6, ";", ("if",)),
        (("do_it",), 9, ";", ("case",)),
        (("other", "arg"), 10, ";", ("case",)),
        (("exec", "last"), 10, ";", ("case",)),
        (("inner", "x"), 12, ";", ("{",)),
        (("read", "-r", "line"), 13, ";", ("for",)),
        (("echo", "$line"), 13, ";", ("for",)),
        (("cat",), 14, "|", ()),
        (("tee", "x"), 14, ";", ()),
        ((), 17, ";", ()),
        (("exec", "s6-setuidgid", "app", "prog", "--x=$Y"), 18, ";", ()),
    ]
    assert commands[1].assignments == ("FOO=bar",)
    assert commands[14].piped


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"((((",
        b"))))",
        b"esac fi done }",
        b"case",
        b"'",
        b'"$(',
        b"<",
        b"<<",
        b"<<EOF",
        b"a \\",
        b"`",
        b"\xff\xfe\x00",
        b"${a:-${b:-${c}",
        b"if if if",
        b"x=$((1+2)) ; y",
        b"<(a) >(b)",
    ],
)
def test_rubbish_never_fails(rubbish: bytes) -> None:
    read_shell(rubbish)


@pytest.mark.parametrize("piece", [b"(", b"$(", b'"$(', b"case x in a|", b"if x; then ", b"a|", b"${", b"<<E\n"])
def test_hostile_scripts_take_linear_time(piece: bytes) -> None:
    def seconds(count: int) -> float:
        started = time.process_time()
        read_shell(piece * count)
        return time.process_time() - started

    seconds(100)
    small, large = seconds(2_000), seconds(16_000)
    assert large < max(0.2, small * 30)
