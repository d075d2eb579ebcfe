"""Services are read with every mistake at its place."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from service_trees import EXAMPLES, ROOT, example, services_of
from sixsmith.errors import MatrixError, Place
from sixsmith.matrix.load import parse_family
from sixsmith.s6.service import Command, Limit, Log, OnExit, Script
from sixsmith.s6.service_file import read_services
from sixsmith.s6.service_schema import service_schema


def problems_of(text: str, *, closed: bool = True) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        services_of(text, closed=closed)
    return [str(problem) for problem in caught.value.problems]


def test_a_service_with_everything() -> None:
    (prepare, web) = services_of(
        """
prepare: {type: oneshot, up: install -d -o app /run/app}
web:
  run: |
    #!/bin/sh
    exec nginx -g "daemon off;"
  needs: [prepare, base]
  ready: {fd: 4}
  user: app:www
  env: {TZ: Asia/Seoul, EMPTY: ""}
  workdir: /srv
  umask: 027
  limits: {open-files: 1024, memory: 512M, core: 0, cpu-time: 1m, stack: max}
  log: {to: /var/log/web/, keep: 20, size: 1M}
  on-exit: {stop-container: 3}
  timeout: {up: 10s, down: 1m30s, kill: 500ms}
  down-signal: quit
"""
    )
    assert prepare.up == Command("install -d -o app /run/app", Place("sixsmith.yaml", 2, 30))
    assert isinstance(web.run, Script) and web.run.interpreter == ("/bin/sh", "")
    assert web.needs == ("prepare", "base")
    assert web.ready is not None and web.ready.fd == 4
    assert (web.user, web.workdir, web.umask, web.down_signal) == ("app:www", "/srv", "027", "SIGQUIT")
    assert web.env == {"TZ": "Asia/Seoul", "EMPTY": ""}
    assert web.limits == (
        *(Limit("o", "1024"), Limit("m", str(512 << 20)), Limit("c", "0"), Limit("t", "60"), Limit("s", "=")),
    )
    assert web.log == Log("/var/log/web", 20, 1 << 20)
    assert web.on_exit == OnExit("stop-container", 3)
    assert (web.timeout.up, web.timeout.down, web.timeout.kill, web.timeout.finish) == (10_000, 90_000, 500, None)
    assert web.at("user").line == 9
    assert web.at("finish", "run").line == 4


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_are_read(name: str) -> None:
    assert len(example(name)) >= 4


def test_kinds_follow_from_keys() -> None:
    services = services_of("a: {run: x}\nb: {up: x}\nc: {contents: [a, b]}\nd: {down: x}\n")
    assert [service.kind for service in services] == ["longrun", "oneshot", "bundle", "oneshot"]


def test_plain_values_do_as_well() -> None:
    (service,) = read_services({"a": {"run": ["sleep", "in f"]}}, place=Place("here", 7))
    assert service.run == Command("sleep 'in f'", Place("here", 7))


@pytest.mark.parametrize(
    ("line", "rendered"),
    [
        ("exec nginx -g 'daemon off;'", "nginx -g 'daemon off;'"),
        ('nginx -g "daemon off;"', 'nginx -g "daemon off;"'),
        ('run --at="a|b" $(cat /x) ${Y:-z}', 'run --at="a|b" $(cat /x) ${Y:-z}'),
        ("say it\\;", "say it\\;"),
        ("a \\\n  b", "a \\\n  b"),
    ],
)
def test_commands(line: str, rendered: str) -> None:
    (service,) = read_services({"a": {"run": line}}, place=Place("f"))
    assert isinstance(service.run, Command) and service.run.line == rendered


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: {runs: x}", ["sixsmith.yaml:1:1: longrun 'a' has no 'run' (say which program runs, or 'type: oneshot' with 'up')",
                          "sixsmith.yaml:1:5: unknown key 'runs' in service 'a' (did you mean 'run'?)"]),
        ("a: {run: x, depends: [b]}\nb: {run: y}", ["sixsmith.yaml:1:13: unknown key 'depends' in service 'a' (did you mean 'needs'?)"]),
        ("a: {run: x, needs: [bb]}\nbbb: {run: y}", ["sixsmith.yaml:1:21: no service 'bb' (did you mean 'bbb'?)"]),
        ("a: {run: x, needs: [a]}", ["sixsmith.yaml:1:21: 'a' cannot need itself"]),
        ("a: {run: x, needs: [b]}\nb: {up: y, needs: [a]}", ["sixsmith.yaml:1:21: these wait for each other in a circle: a → b → a (remove one of these needs)"]),
        ("a: {run: x, needs: [user]}", ["sixsmith.yaml:1:21: 'user' is the bundle that holds all services: nothing can wait for it (name single services instead)"]),
        ("a: {run: x && y}", ["sixsmith.yaml:1:10: '&&' in a plain command (for a shell script, begin it with a line such as '#!/bin/sh')"]),
        ("a: {run: \"x\\ny\"}", ["sixsmith.yaml:1:10: a command of several lines (begin it with a line such as '#!/bin/sh')"]),
        ("a: {run: A=b c}", ["sixsmith.yaml:1:10: 'A=b' in front of a command (say it under 'env')"]),
        ("a: {run: \"x 'y\"}", ["sixsmith.yaml:1:10: the command is not made of words: no closing quotation (check its quotes)"]),
        ("a: {run: ''}", ["sixsmith.yaml:1:10: expected a command or a script, found nothing"]),
        ("a: {run: \"#!sh\\nx\\n\"}", ["sixsmith.yaml:1:10: '#!sh' does not name a program by its whole path (write #!/bin/sh)"]),
        ("a: {run: \"#!/command/execlineb -P\\nif { x\\n\"}", ["sixsmith.yaml:1:10: the script is not valid execline: unmatched `{` (close the block with ` }`, a word of its own with white space around it)"]),
        ("a: {run: x, timeout: {up: 5}}", ["sixsmith.yaml:1:27: '5' is not a duration (write its unit: 5s, 500ms)"]),
        ("a: {run: x, timeout: {start: 5s}}", ["sixsmith.yaml:1:23: unknown key 'start' in 'timeout' (known are up, down, kill, finish)"]),
        ("a: {run: x, on-exit: stop}", ["sixsmith.yaml:1:22: expected one of restart, stop-container, never; found 'stop'"]),
        ("a: {run: x, on-exit: {stop-container: 300}}", ["sixsmith.yaml:1:39: '300' is not a number from 0 to 255"]),
        ("a: {run: x, down-signal: SIGTREM}", ["sixsmith.yaml:1:26: 'SIGTREM' is not a signal (did you mean 'SIGTERM'?)"]),
        ("a: {run: x, ready: {fd: 1}}", ["sixsmith.yaml:1:25: '1' is not a number from 3 to 1023"]),
        ("a: {run: x, ready: {every: 1s}}", ["sixsmith.yaml:1:28: 'every' means something with 'check' only (the service tells by itself when it writes to the descriptor)"]),
        ("a: {run: x, log: {keep: 3}}", ["sixsmith.yaml:1:18: 'log' does not say where 'to' (a folder, or stdout)"]),
        ("a: {run: x, log: {to: /l, size: 1}}", ["sixsmith.yaml:1:33: '1' is not a size for a log file (from 4K to just below 256M)"]),
        ("a: {run: x, log: logs}", ["sixsmith.yaml:1:18: 'logs' is not an absolute path (it is a path in the image, like /srv/app)"]),
        ("a: {run: x, log: /l}\na-log: {run: y}", ["sixsmith.yaml:2:1: 'a-log' is the name of the logger of 'a' (choose another name)"]),
        ("s6-rc-x: {run: x}", ["sixsmith.yaml:1:1: 's6-rc-x': names that start with s6rc- or s6-rc- are reserved for s6-rc (rename it)"]),
        ("base: {run: x}", ["sixsmith.yaml:1:1: 'base' is a service of s6-overlay itself (choose another name)"]),
        ("a/b: {run: x}", ["sixsmith.yaml:1:1: 'a/b' cannot be the name of a service (letters, digits and . _ - in between)"]),
        ("a: x", ["sixsmith.yaml:1:4: service 'a' must be a mapping, found 'x'"]),
        ("a: {type: daemon, run: x}", ["sixsmith.yaml:1:11: expected one of longrun, oneshot, bundle, pipeline; found 'daemon'"]),
        ("a: {type: oneshot, run: x}", ["sixsmith.yaml:1:1: oneshot 'a' has no 'up' ('run' belongs to a longrun: say 'up', or 'type: longrun')",
                                          "sixsmith.yaml:1:20: a oneshot has no 'run' (it belongs to a longrun)"]),
        ("a: {type: pipeline, contents: [b, c]}\nb: {up: x}\nc: {run: y}", ["sixsmith.yaml:1:32: 'b' is a oneshot: only longruns can be joined"]),
        ("p: {type: pipeline, contents: [a]}\na: {run: x}", ["sixsmith.yaml:1:31: a pipeline joins two longruns or more"]),
        ("p: {type: pipeline, contents: [a, b]}\na: {run: x, log: /l}\nb: {run: y}", ["sixsmith.yaml:2:18: the output of 'a' goes to 'b', not to a log (remove 'log', or take it out of the pipeline)"]),
        ("p: {type: pipeline, contents: [a, b]}\na: {run: x}\nb: {run: y, needs: [a]}", ["sixsmith.yaml:3:21: these wait for each other in a circle: a → b → a (remove one of these needs)"]),
        ("a: {run: x, env: {1A: b, C: [d]}}", ["sixsmith.yaml:1:19: '1A' is not the name of a variable", "sixsmith.yaml:1:29: expected the value of 'C', found a list"]),
        ("a: {run: x, limits: {files: 3}}", ["sixsmith.yaml:1:22: unknown key 'files' in 'limits' (did you mean 'file-size' or 'open-files'?)"]),
        ("a: {run: x, user: 'a b'}", ["sixsmith.yaml:1:19: 'a b' is not a user (a name, or USER:GROUP)"]),
        ("a: {run: x, user: 7}", ["sixsmith.yaml:1:19: '7' is a number without a group (say 7:7)"]),
        ("a: {run: x, umask: 999}", ["sixsmith.yaml:1:20: '999' is not a umask (octal digits, like 027)"]),
        ("a: {run: x, workdir: srv}", ["sixsmith.yaml:1:22: 'srv' is not an absolute path (it is a path in the image, like /srv/app)"]),
        ("a: {run: x, needs: [b, b]}\nb: {up: x}", ["sixsmith.yaml:1:24: 'b' stands here twice"]),
        ("a: {run: \"#!/bin/sh\\r\\nx\\r\\n\"}", ["sixsmith.yaml:1:10: the script has Windows line ends (save the file with LF line ends)"]),
    ],
)  # fmt: skip
def test_mistakes(text: str, expected: list[str]) -> None:
    assert problems_of(text) == expected


def test_all_mistakes_are_told_in_file_order() -> None:
    found = problems_of("a:\n  user: 'x y'\n  run: a; b\n  ready: {fd: x}\nb: {up: }\n")
    assert [problem.split(":")[1] for problem in found] == ["2", "3", "4", "5"]


def test_a_parents_services_may_be_needed() -> None:
    (service,) = services_of("a: {run: x, needs: [of-the-parent]}", closed=False)
    assert service.needs == ("of-the-parent",)


def test_ten_thousand_services_take_seconds() -> None:
    mapping = {f"s{number}": {"run": "x", "needs": [f"s{number - 1}"] if number else []} for number in range(10_000)}
    assert len(read_services(mapping, place=Place("f"))) == 10_000


# --- in the family file


def test_the_schema_describes_what_is_read() -> None:
    validator = jsonschema.Draft202012Validator(service_schema())
    for name in EXAMPLES:
        services = yaml.safe_load((ROOT / f"examples/services/{name}.yaml").read_text())["services"]
        for service in services.values():
            validator.validate(service)
    assert not validator.is_valid({"runs": "x"})
    assert not validator.is_valid({"run": "x", "timeout": {"up": "soon"}})
    assert not validator.is_valid({"run": "x", "on-exit": "stop"})


def test_loading_a_family_tells_of_its_services() -> None:
    text = "name: f\nimages:\n  a:\n    tag: x\n    matrix: {alpine: [3.22], s6-overlay: [3.2.3.0]}\n    services:\n"
    with pytest.raises(MatrixError) as caught:
        parse_family(
            (text + "      web: {run: x, nedes: [b]}\n      b: {up: y, needs: [c]}\n").encode(),
            file="f.yaml",
            folder=Path.cwd(),
        )
    assert [str(problem) for problem in caught.value.problems] == [
        "f.yaml:7:21: unknown key 'nedes' in service 'web' (did you mean 'needs'?)",
        "f.yaml:8:26: no service 'c' (define it, or remove it)",
    ]
    file = "    files: [{path: /etc/s6-overlay/s6-rc.d/c/type, content: oneshot}]\n"
    parse_family((text + "      b: {up: y, needs: [c]}\n" + file).encode(), file="f.yaml", folder=Path.cwd())
