"""Wrong family files: every mistake at once, each at its place, with the nearest valid name."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from sixsmith.errors import MatrixError, UsageError
from sixsmith.matrix import load_family, parse_family
from sixsmith.matrix.text import MAX_BYTES


def problems(text: str | bytes, folder: Path = Path("/nowhere")) -> list[str]:
    data = text if isinstance(text, bytes) else dedent(text).lstrip("\n").encode()
    with pytest.raises(MatrixError) as caught:
        parse_family(data, file="f.yaml", folder=folder)
    assert caught.value.exit_code == 2
    return [str(problem) for problem in caught.value.problems]


def image(body: str, matrix: str = "{alpine: 3.22, s6-overlay: 3.2.3.0}") -> str:
    return f"images:\n  base:\n    matrix: {matrix}\n    {body}\n"


def test_every_mistake_is_told_in_file_order() -> None:
    assert problems(
        """
        defualts: {}
        images:
          base:
            matrix:
              alpine: [3.22, 3.25]
              s6-overlay: [3.2.3.O]
            pakages: [bash]
            wrkdir: /srv
            entrypoint: /init
            ports: [http, 8080/tpc]
            stop-signal: SIGTREM
          child:
            from: bsae
        """
    ) == [
        "f.yaml:1:1: unknown key 'defualts' in the family file (did you mean 'defaults'?)",
        "f.yaml:5:22: unknown Alpine release '3.25' (the newest is 3.24)",
        "f.yaml:6:20: unknown s6-overlay release '3.2.3.O' (the newest is 3.2.3.2)",
        "f.yaml:7:5: unknown key 'pakages' in an image (did you mean 'packages'?)",
        "f.yaml:8:5: unknown key 'wrkdir' in an image (did you mean 'workdir'?)",
        "f.yaml:9:17: expected a list of words, found '/init' (write [/init])",
        "f.yaml:10:13: 'http' is not a port (like 8080/tcp)",
        "f.yaml:10:19: '8080/tpc': unknown protocol 'tpc' (tcp, udp or sctp)",
        "f.yaml:11:18: 'SIGTREM' is not a signal (did you mean 'SIGTERM' or 'SIGVTALRM' or 'SIGTRAP'?)",
        "f.yaml:13:11: no image 'bsae' in this file (did you mean 'base'?)",
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("packages: [bash=]", "f.yaml:4:16: "),
        ("packages: ['bash foo']", "f.yaml:4:16: "),
        ("packages: [a, '']", "f.yaml:4:19: expected a package, found ''"),
        ("packages: {a: b}", "f.yaml:4:15: expected a package, found a mapping"),
        ("packages: [nodejs@edge]", "no repository has the pin 'edge' (give a repository this pin)"),
        ("packages: ['nodejs={nod}']", "no axis 'nod' (this cell has {alpine}, {s6-overlay})"),
        ("without: [shadow]", "'shadow' is not among the packages of this cell"),
        (
            "packages: [shadow]\n    without: [shadwo]",
            "'shadwo' is not among the packages of this cell (did you mean 'shadow'?)",
        ),
        ("arch: [amd64]", "unknown architecture 'amd64'"),
        ("arch: [amd64]", "(did you mean 'x86_64'?)"),
        ("arch: []", "found an empty list"),
        ("arch: [loongarch64]", "s6-overlay 3.2.3.0 has no files for loongarch64"),
        ("base: minirotfs", "unknown base 'minirotfs' (did you mean 'minirootfs'?)"),
        ("base: 'Host:5000/Image:tag'", "is not a repository name"),
        ("env: [A=b]", "expected NAME: VALUE, found a list (write NAME: VALUE)"),
        ("env: {A B: c}", "'A B' is not the name of an environment variable"),
        ("env: {A: }", "f.yaml:4:14: expected a value, found nothing"),
        ("env: {A: '{version:bash}'}", "known only once the packages are resolved"),
        ("env: {A: [b]}", "expected a value, found a list"),
        ("user: a:b:c", "'a:b:c' is not a user"),
        ("user: 'a b'", "'a b' is not a user"),
        ("workdir: srv", "'srv' is not an absolute path in the image"),
        ("volumes: [/a/../b]", "a path in the image has no '.', '..' or line break"),
        ("ports: [0]", "'0' is not a port"),
        ("ports: [65536]", "'65536' is not a port"),
        ("scripts: emulat", "expected one of emulate, sandbox, skip; found 'emulat' (did you mean 'emulate'?)"),
        ("scripts: {busybox: no}", "expected one of emulate, sandbox, skip; found 'no'"),
        ("healthcheck: {interval: 3s}", "a health check needs 'command'"),
        ("healthcheck: {command: x, interval: 3}", "'3' is not a duration (like 30s, 1m30s or 500ms)"),
        ("healthcheck: {command: x, retrys: 3}", "(did you mean 'retries'?)"),
        ("tag: ''", "expected a tag, found ''"),
        ("tag: 'a b'", "'a b' is not a tag"),
        ("tag: '{alpin}'", "no axis 'alpin' (did you mean 'alpine'?)"),
        ("tag: '{alpine'", "a brace without its partner"),
        ("tag: '{arch}'", "one tag holds all architectures"),
        ("tag: '{version:}'", "no axis 'version:'"),
        ("tags: []", "expected a list of tags, found an empty list"),
        ("accounts: {users: [{uid: 3}]}", "a user needs 'name'"),
        ("accounts: {users: [{name: a, uid: -1}]}", "expected a whole number"),
        ("accounts: {users: [{name: a, uid: 4294967295}]}", "expected a whole number"),
        ("accounts: {users: [{name: 'a:b'}]}", "'a:b' is not a name for a user or group"),
        ("accounts: {users: [{name: a}, {name: a}]}", "two entries for the user 'a'"),
        ("files: [{path: etc/x, content: y}]", "'etc/x' is not an absolute path in the image"),
        ("files: [{path: /etc/x}]", "type file needs 'source' or 'content'"),
        ("files: [{path: /x, content: y, target: z}]", "type symlink has no 'content'"),
        ("files: [{path: /x, content: y, source: z}]", "'source' and 'content' for one file"),
        ("files: [{path: /x, content: y, mode: 0888}]", "'0888' is not an octal mode (like \"0755\")"),
        ("files: [{path: /x, content: y, mode: rw}]", "'rw' is not an octal mode"),
        ("files: [{path: /x, type: absent, content: y}]", "type absent has no 'content'"),
        ("files: [{path: /x, type: fille, content: y}]", "(did you mean 'file'?)"),
        ("files: [{path: /x, content: y}, {path: //x, content: z}]", "f.yaml:4:37: two entries for the file '/x'"),
        ("files: [{path: /x, source: nope.conf}]", "f.yaml:4:32: no file 'nope.conf'"),
        ("services: {a/b: {run: x}}", "'a/b' cannot be the name of a service"),
        ("services: {s6rc-x: {run: x}}", "'s6rc-x' cannot be the name of a service"),
        ("services: [a]", "expected services by name, or a folder of service directories, found a list"),
        ("services: ./nope", "no file './nope'"),
        ("s6-overlay-options: {symlinks: yes}", "expected true or false, found 'yes'"),
        ("s6-overlay-options: {symlink: true}", "(did you mean 'symlinks'?)"),
        ("layers: {budget: 128}", "expected a whole number from 1 to 127"),
        ("compression: bzip2", "expected one of gzip, zstd; found 'bzip2'"),
        ("lint: {ignore: [{rule: R1}]}", "an ignored finding needs 'reason'"),
        ("repositories: [mian]", "Alpine 3.22 has no repository 'mian' (did you mean 'main'?)"),
        ("repositories: [{url: x}]", "a repository needs 'name'"),
        ("repositories: [{name: x, url: 'ftp://x'}]", "cannot fetch from ftp://"),
        ("repositories: [{name: ../x, url: ./x}]", "f.yaml:4:27: '../x' is not a name for a repository"),
        ("repositories: [main, {name: x, url: ./x}, {name: x, url: ./y}]", "two repositories are called 'x'"),
        ("repositories: [{name: x, url: ./x, key: ./x.pub}]", "no file './x.pub'"),
        ("budget: {size: big}", "'big' is not a size"),
        ("from: base", "an image cannot stand on itself: base → base"),
        ("", "f.yaml:5:1: "),
    ],
)
def test_a_wrong_value_is_told_with_its_place(body: str, message: str) -> None:
    text = image(body) if body else image("user: root") + "images: {}\n"
    found = problems(text)
    assert len(found) == 1, found
    assert message in found[0]
    assert found[0].startswith("f.yaml:")


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ("{alpine: []}", "expected a list of values of 'alpine', found an empty list"),
        ("{alpine: [3.22, 3.22]}", "'3.22' stands here twice"),
        ("[3.22]", "expected a matrix (AXIS: [values]), found a list"),
        ("{alpine: {a: b}}", "expected an Alpine release, found a mapping"),
        ("{alpine: 3.22, packages: [a]}", "'packages' is a key of the image, not an axis"),
        ("{alpine: 3.22, 'a b': [a]}", "'a b' cannot be the name of an axis"),
        ("{alpine: 3.22, include: {}}", "expected a list of {AXIS: value}, found a mapping"),
        ("{alpine: 3.22, include: [x]}", "expected {AXIS: value}, found 'x'"),
        (
            "{alpine: 3.22, include: [{alpin: 3.23}]}",
            "unknown key 'alpin' in an entry of include (did you mean 'alpine'?)",
        ),
        ("{alpine: 3.22, include: [{pakages: [x]}]}", "unknown key 'pakages' in an entry of include"),
        ("{alpine: 3.22, include: [{alpine: 3.22, user: a b}]}", "'a b' is not a user"),
        ("{alpine: 3.22, exclude: [{alpine: 3.21}]}", "exclude removes nothing"),
        ("{alpine: 3.22, exclude: [{alpine: 3.22}]}", "image 'base' has no cell left"),
        ("{s6-overlay: 3.2.3.0}", "which Alpine release?"),
        ("{alpine: 3.4}", "Alpine 3.4 has no minirootfs"),
        ("{alpine: 3.12, s6-overlay: 1.21.8.0, arch: [s390x]}", "s6-overlay 1.21.8.0 has no files for s390x"),
        ("{alpine: 3.12, arch: [riscv64]}", "or exclude {alpine: 3.12, arch: riscv64}"),
    ],
)
def test_a_wrong_matrix_is_told_with_its_place(matrix: str, message: str) -> None:
    found = problems(image("user: root", matrix))
    assert len(found) == 1, found
    assert message in found[0] and found[0].startswith("f.yaml:")


def test_services_need_an_overlay() -> None:
    (problem,) = problems(image("services: {a: {run: x}}", "{alpine: 3.22}"))
    assert problem.startswith("f.yaml:4:16: services need s6-overlay")


def test_syslogd_needs_v3() -> None:
    (problem,) = problems(image("s6-overlay-options: {syslogd: true}", "{alpine: 3.12, s6-overlay: 2.0.0.1}"))
    assert "s6-overlay 2.0.0.1 has no syslogd tarball" in problem


def test_two_cells_with_one_tag_are_told_apart() -> None:
    (problem,) = problems(image("tag: '{s6-overlay}'", "{alpine: [3.22, 3.23], s6-overlay: 3.2.3.0}"))
    assert problem == (
        "f.yaml:3:29: the tag 'base:3.2.3.0' is taken by base:3.22-3.2.3.0 (name more axes in the tag: {alpine} {s6-overlay})"
    )


def test_one_tag_for_different_architectures_is_fine() -> None:
    text = """
        images:
          base:
            tag: one
            arch: [x86_64]
            matrix: {alpine: 3.22, include: [{alpine: 3.23, arch: [aarch64]}]}
        """
    family = parse_family(dedent(text).encode(), file="f", folder=Path("/"))
    assert [cell.tags for cell in family.cells] == [("one",), ("one",)]


def test_a_circle_of_parents_is_told_once() -> None:
    assert problems(
        """
        images:
          a: {from: b}
          b: {from: c}
          c: {from: a}
        """
    ) == ["f.yaml:4:13: an image cannot stand on itself: a → b → c → a"]


@pytest.mark.parametrize(
    ("child", "message"),
    [
        ("{from: base, matrix: {alpine: [3.23]}}", "the parent has no cell with alpine 3.23 (did you mean '3.22'?)"),
        ("{from: base, matrix: {include: [{alpine: 3.23}]}}", "the parent has no cell with alpine 3.23"),
        ("{from: base, arch: [aarch64]}", "the parent base:3.22-3.2.3.0 has no aarch64 (it has x86_64)"),
        ("{from: base, base: packages}", "an image with 'from' has its parent as base (remove 'base')"),
        ("{from: base, without: [bash]}", "what the parent's image has cannot be taken out"),
    ],
)
def test_a_child_must_fit_its_parent(child: str, message: str) -> None:
    (problem,) = problems(image("packages: [bash]") + f"  child: {child}\n")
    assert message in problem and problem.startswith("f.yaml:5:")


def test_a_mistake_in_a_parent_is_not_told_again_for_its_children() -> None:
    found = problems(image("user: root", "{alpine: [3.99]}") + "  child: {from: base, matrix: {alpine: 3.98}}\n")
    assert [problem.split(": ")[1] for problem in found] == [
        "unknown Alpine release '3.99' (the newest is 3.24)",
        "unknown Alpine release '3.98' (the newest is 3.24)",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"[]", "f.yaml:1:1: expected the family file, found a list"),
        (b"hello", "expected the family file, found 'hello'"),
        (b"images:\n", "expected images by name, found nothing"),
        (b"name: x\n", "the family file needs 'images'"),
        (b"images: {}\n", "f.yaml:1: no images"),
        (b"images: {Base: {}}\n", "f.yaml:1:10: 'Base' is not a name for an image"),
        (b"images: {a: }\n", "expected an image, found nothing"),
        (b"images: [\n", "f.yaml:2:1: not YAML:"),
        (b"a: b: c\n", "f.yaml:1:5: not YAML: mapping values are not allowed"),
        (b"\ta: b\n", "not YAML"),
        (b"images: \xff\n", "f.yaml:1: not UTF-8"),
        (b"name: a\nimages: \x07\n", "a character that YAML does not allow"),
        (b"name: a\nname: b\n", "f.yaml:2:1: 'name' stands here twice (first in line 1)"),
        (b"a: *b\n", "f.yaml:1:4: no anchor '&b' before this alias"),
        (b"a: &a [*a]\n", "no anchor '&a' before this alias"),
        (b"a: !!python/object:os.system {}\n", "tag 'tag:yaml.org,2002:python/object:os.system' means nothing here"),
        (b"? [a]\n: b\n", "f.yaml:1:3: a key must be a word"),
        (b"images: {}\n---\nimages: {}\n", "f.yaml:2:1: a second document"),
        (b"a: {<<: b}\n", "f.yaml:1:9: '<<' takes a mapping"),
        (b"a: " + b"[" * 1000 + b"]" * 1000, "more than 40 levels deep"),
        (b"[" * 500_000, "more than 40 levels deep"),
        (b"x" * (MAX_BYTES + 1), "larger than 1024 KiB"),
    ],
)
def test_what_is_no_family_file_is_told(data: bytes, message: str) -> None:
    assert any(message in problem for problem in problems(data)), problems(data)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = [b"x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [b"x-%d: &a%d [%s]" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)]
    assert problems(b"\n".join(lines)) == ["f.yaml:6:6: more than 100000 values"]


def test_too_many_cells_are_refused() -> None:
    values = ", ".join(str(number) for number in range(200))
    (problem,) = problems(image("tag: '{a}-{b}'", f"{{alpine: 3.22, a: [{values}], b: [{values}]}}"))
    assert "40000 cells: more than 10000" in problem


def test_no_file_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no family file") as caught:
        load_family(tmp_path)
    assert caught.value.hint and "sixsmith init" in caught.value.hint
    (tmp_path / "sixsmith.yaml").write_text("images: {a: {matrix: {alpine: 3.22}}}")
    assert load_family(tmp_path).cells == load_family(tmp_path / "sixsmith.yaml").cells


def test_it_reads_the_same_without_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = b"x-a: &a {user: root}\nimages:\n  a:\n    <<: *a\n    matrix: {alpine: 3.20}\n    env: {A: '', B: \"~\"}\n"
    fast = parse_family(text, file="f", folder=Path("/"))
    monkeypatch.delattr(yaml, "CBaseLoader")
    assert parse_family(text, file="f", folder=Path("/")).cells == fast.cells
    assert fast.cells[0].place is not None and fast.cells[0].place.line == 5
    assert any("more than 40 levels deep" in problem for problem in problems(b"[" * 100_000))
    assert any("not YAML" in problem for problem in problems(b"a: b: c"))
