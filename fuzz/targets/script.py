"""Install scripts: any text is understood to its end, fails as a script fails, or is refused with its line."""

from __future__ import annotations

from dataclasses import dataclass

from sixsmith.errors import InstallRefused, ScriptNotUnderstood
from sixsmith.rootfs.scripts import Emulator
from sixsmith.rootfs.tree import Tree

WORDS = (
    b"addgroup -S www\n",
    b"adduser -S -D -H -G www www\n",
    b"for i in a b; do ",
    b"; done\n",
    b"case $1 in a*) ;; esac\n",
    b"$(",
    b"${x:-y}",
    b"<<EOF\n",
    b"EOF\n",
    b"if [ -e /etc ]; then ",
    b"; fi\n",
    b"while :; do ",
    b"$((1+",
    b"| sed -e 's/a*/b/g'",
    b"> /etc/f",
    b"find / -name ",
    b"|| exit 1\n",
)


def seeds() -> list[bytes]:
    return [
        b"#!/bin/sh\naddgroup -S -g 82 www 2>/dev/null\nadduser -S -D -H -u 82 -h /var/www -G www www || true\nexit 0\n",
        b"#!/bin/sh\nfor d in a b; do\n  install -d -o root -m 750 /var/lib/$d\ndone\nln -sf a /var/lib/c\n",
        b'#!/bin/sh\nif [ "$1" = x ]; then\n cat >/etc/f <<EOF\n$1 $(echo a | tr a b)\nEOF\nfi\nsed -i -e "s/b/c/" /etc/f\n',
        b"#!/bin/busybox sh\nf() { local x=${1%%.*}; echo $((x * 2)); }\nf 3.4 > /tmp/o; rm -rf /tmp/o\n",
    ]


@dataclass(frozen=True)
class _Named:
    name: str


_APPLETS = "sh addgroup adduser cat chmod chown cp echo find grep install ln mkdir mv rm rmdir sed sort tr uniq xargs"


def TestOneInput(data: bytes) -> None:
    tree = Tree(epoch=1)
    for path in ("etc", "tmp", "var", "var/lib", "bin"):
        tree.make_directory(path)
    tree.write("bin/busybox", b"", mode=0o755)
    for applet in _APPLETS.split():
        tree.make_symlink(f"bin/{applet}", "busybox")
    tree.write("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    tree.write("etc/group", b"root:x:0:root\n")
    tree.write("etc/shadow", b"root:!::0:::::\n")
    try:
        Emulator().run(tree, _Named("fuzz"), "post-install", data, ("1.0-r0",))
    except (ScriptNotUnderstood, InstallRefused):
        return
    for node in tree:
        assert not node.path.startswith("/") and ".." not in node.path.split("/"), node.path
