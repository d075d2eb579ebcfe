"""Dependencies and `etc/apk/world`: what is read is written as something that is read the same."""

from __future__ import annotations

from sixsmith.apk.dependency import Dependency, parse_world, render_world
from sixsmith.errors import FormatError

WORDS = (b"><", b"~=", b">=", b"@edge", b"!", b"so:", b"=Q1", b"=1.2-r0", b"\n", b"\t", b"\xff")


def seeds() -> list[bytes]:
    return [b"busybox", b"!musl<1.2", b"nginx~1.22 php@edge", b"so:libc.so.6=1 /bin/sh", b"a><Q1+aGk=\nb=<2\nc\n"]


def TestOneInput(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    try:
        dependency = Dependency.parse(text)
    except FormatError:
        pass
    else:
        assert Dependency.parse(str(dependency)) == dependency
        dependency.accepts("1.2-r0")
        dependency.accepts(None, "Q1+aGk=")
    try:
        world = parse_world(text)
    except FormatError:
        return
    rendered = render_world(world)
    assert render_world(parse_world(rendered)) == rendered
