"""APKINDEX: what is read, when, and what is refused."""

from __future__ import annotations

import time

import pytest

from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.errors import FormatError

Q1 = "Q1" + "A" * 27 + "="

TEXT = f"""C:{Q1}
P:musl
V:1.2.5-r0
A:x86_64
S:407000
I:667648
T:the musl c library
U:https://musl.libc.org/
L:MIT
o:musl
m:Someone <a@b.c>
t:1709333123
c:deadbeef
p:so:libc.musl-x86_64.so.1=1 cmd:ldd=1.2.5-r0

C:Q1{"B" * 27}=
P:busybox
V:1.36-r1
A:x86_64
S:1
I:2
T:x
U:x
L:x
k:100
D:so:libc.musl-x86_64.so.1 !other<2
p:/bin/sh cmd:sh=1.36-r1
i:musl cmd:ldd=1 !nothing

""".encode()


def test_fields() -> None:
    musl = PackageIndex.parse(TEXT)[0]
    assert (musl.name, musl.version, musl.arch, musl.size, musl.installed_size) == (
        "musl",
        "1.2.5-r0",
        "x86_64",
        407000,
        667648,
    )
    assert (musl.origin, musl.license, musl.build_time, musl.commit) == ("musl", "MIT", 1709333123, "deadbeef")
    assert musl.maintainer == "Someone <a@b.c>"
    assert musl.filename == "musl-1.2.5-r0.apk"
    assert musl.provides == ("so:libc.musl-x86_64.so.1=1", "cmd:ldd=1.2.5-r0")
    assert musl.depends == ()
    assert musl.provider_priority == 0


def test_lists_are_parsed_when_asked_for() -> None:
    busybox = PackageIndex.parse(TEXT)[1]
    assert [str(entry) for entry in busybox.dependencies] == ["so:libc.musl-x86_64.so.1", "!other<2"]
    assert [name for name, _ in busybox.offered] == ["/bin/sh", "cmd:sh"]
    assert [key is None for _, key in busybox.offered] == [True, False]
    assert [str(entry) for entry in busybox.triggered_by] == ["musl", "cmd:ldd=1", "!nothing"]
    assert busybox.provider_priority == 100


def test_searches() -> None:
    index = PackageIndex.parse(TEXT)
    assert len(index) == 2
    assert [record.name for record in index.find("musl")] == ["musl"]
    assert [index.at(place).name for place in index.providing("so:libc.musl-x86_64.so.1")] == ["musl"]
    assert [index.at(place).name for place in index.providing("/bin/sh")] == ["busybox"]
    assert [index.at(place).name for place in index.awaiting("cmd:ldd")] == ["busybox"]
    assert [index.at(place).name for place in index.awaiting("nothing")] == ["busybox"]
    assert index.trigger_names(index.awaiting("musl")[0]) == ["musl", "cmd:ldd"]
    assert index.providing("nothing") == []
    assert list(index.names()) == ["musl", "busybox"]


def test_made_of_records_it_answers_alike() -> None:
    parsed = PackageIndex.parse(TEXT)
    made = PackageIndex.of(parsed)
    for name in ("musl", "busybox", "/bin/sh", "cmd:ldd", "nothing", "other"):
        for search in ("providing", "awaiting", "named"):
            assert [made.at(place).name for place in getattr(made, search)(name)] == [
                parsed.at(place).name for place in getattr(parsed, search)(name)
            ]
    assert made[1] is parsed[1]


def test_several_versions_in_file_order() -> None:
    def block(version: str, letter: str) -> str:
        return f"C:Q1{letter * 27}=\nP:a\nV:{version}\np:v=1 a=7\n"

    index = PackageIndex.parse("\n".join([block("2", "C"), block("1", "D")]).encode())
    assert [record.version for record in index.find("a")] == ["2", "1"]
    assert [index.at(place).version for place in index.providing("a")] == ["2", "1"]


@pytest.mark.parametrize(
    "text",
    [
        "P:a\nV:1\n",  # no checksum
        f"C:{Q1}\nV:1\n",
        f"C:{Q1}\nP:a\n",
        f"C:{Q1}\nP:\nV:1\n",
        f"C:{Q1}\nP:a\nP:b\nV:1\n",
        f"C:{Q1}\nP:a\nV:1\nS:-5\n",
        f"C:{Q1}\nP:a\nV:1\nS:99999999999999999999\n",
        f"C:{Q1}\nP:a\nV:1\nI:0x10\n",
        f"C:{Q1}\nP:a\nV:1\nS:\n",
        f"C:{Q1}\nP:../../etc/passwd\nV:1\n",
        f"C:{Q1}\nP:a b\nV:1\n",
        f"C:{Q1}\nP:-rf\nV:1\n",
        f"C:{Q1}\nP:a\nV:1/../2\n",
        f"C:{Q1}\nP:a\nV:1\nA:../x\n",
        f"C:{Q1}\nP:a\nV:1\nk:70000\n",
        f"C:{Q1}\nP:a\nV:1\nnonsense\n",
        "C:Q1short\nP:a\nV:1\n",
        f"C:{Q1}\nP:{'a' * 300}\nV:1\n",
    ],
)
def test_malformed_records_are_refused(text: str) -> None:
    with pytest.raises(FormatError):
        PackageIndex.parse(text.encode()).validate()


@pytest.mark.parametrize("field", ["D:a=", "p:=1", "i:@x", "D:b~1__2"])
def test_malformed_lists_are_refused_and_named(field: str) -> None:
    with pytest.raises(FormatError, match="a-1: "):
        PackageIndex.parse(f"C:{Q1}\nP:a\nV:1\n{field}\n".encode()).validate()


def test_a_bad_record_harms_only_those_who_visit_it() -> None:
    index = PackageIndex.parse(TEXT + b"P:broken\nS:-1\n\n")
    assert index.find("musl")
    with pytest.raises(FormatError):
        index.find("broken")


def test_empty() -> None:
    assert len(PackageIndex.parse(b"")) == 0
    assert PackageIndex.parse(b"\n\n\n").find("a") == []


def test_installed_entries_end_at_their_files() -> None:
    record = PackageRecord.parse(f"C:{Q1}\nP:a\nV:1\ns:@edge\nF:etc\nR:x\nF:usr\nR:x\n")
    assert record.pin == "edge"


def test_odd_bytes_survive() -> None:
    record = PackageRecord.parse(f"C:{Q1}\nP:a\nV:1\nm:J\xf6rg\n".encode("latin-1"))
    assert record.maintainer.encode("utf-8", "surrogateescape") == b"J\xf6rg"


def test_large_text_is_searched_in_bounded_time() -> None:
    text = b"".join(
        f"C:Q1{number:027d}=\nP:p{number}\nV:1\nD:{' '.join(f'so:l{i}' for i in range(20))}\n\n".encode()
        for number in range(20000)
    )
    start = time.process_time()
    index = PackageIndex.parse(text)
    assert index.find("p19999")[0].version == "1"
    assert time.process_time() - start < 2
