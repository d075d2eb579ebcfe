"""Draws docs/build.svg: the terminal of `make demo`'s build, as it was printed. Run it after `make demo`."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / ".demo"
COMMAND = "sixsmith build -f examples/alpine-s6-overlay/sixsmith.yaml"


def main() -> None:
    if not (DEMO / "world").is_dir():
        sys.exit("run `make demo` first: the picture shows what it built")
    options = [
        "--mirror",
        DEMO / "world/alpine",
        "--overlay-mirror",
        DEMO / "world/s6-overlay",
        "--keys",
        DEMO / "world/keys",
    ]
    options += ["--checksums", DEMO / "world/checksums.txt", "--store", DEMO / "picture", "-o", DEMO / "dist", "-q"]
    command = [sys.executable, "-m", *COMMAND.split(), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "NO_COLOR": "1"})
    console = Console(record=True, width=92, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text("$ ", style="bold green") + Text(COMMAND, style="bold"))
    for number, line in enumerate(done.stdout.splitlines()):
        console.print(Text(line, style="bold cyan" if number == 0 else ""))
    svg = console.export_svg(title="sixsmith", unique_id="build")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # a picture fetches nothing from anywhere
    svg = re.sub(r"\s*<!--.*?-->", "", svg, flags=re.DOTALL).replace("Fira Code", "ui-monospace, Menlo, Consolas")
    (ROOT / "docs" / "build.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
