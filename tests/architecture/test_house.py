"""The house stands as docs/anatomy.md draws it: arrows point down, the core is pure, start-up is light."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commandline import Workplace, clean_environment

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "sixsmith"

CORE = ("model", "catalog", "apk", "rootfs", "solver", "oci", "s6", "overlay", "layers", "plan.py", "variant.py")
OUTSIDE = {"socket", "subprocess", "urllib3", "http", "requests", "asyncio", "multiprocessing", "time", "random"}
HEAVY = ("cryptography", "urllib3", "rich", "yaml", "msgspec", "zstandard", "deflate", "difflib", "http.client")


def core_files() -> list[Path]:
    found = []
    for name in CORE:
        path = SOURCE / name
        found += sorted(path.rglob("*.py")) if path.is_dir() else [path]
    return found


def test_import_layers_hold() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed beside this Python")
    done = subprocess.run([program, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", core_files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_core_does_not_touch_the_world(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.partition(".")[0])
    assert not imported & OUTSIDE, f"the core is pure, but {path.name} imports {sorted(imported & OUTSIDE)}"
    printed = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "input", "exit")
    ]
    assert not printed, f"the core is silent, but {path.name} prints on line {printed}"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sixsmith.cli import run\n"
        "assert run(['--help']) == 0\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage: sixsmith" in done.stdout


PLAIN = """\
name: family
images:
  one:
    tag: "{alpine}"
    arch: [x86_64]
    packages: [bash]
    matrix: {alpine: [3.22]}
"""
NOT_FOR_PLAIN = (
    *("sixsmith.s6.lint", "sixsmith.s6.compile", "sixsmith.s6.render", "sixsmith.overlay", "sixsmith.lock"),
    *("sixsmith.solver.explain", "sixsmith.sandbox", "sixsmith.io.registry", "sixsmith.publish", "sixsmith.boot"),
    *("urllib3", "http.client", "ssl", "email", "subprocess", "asyncio", "multiprocessing", "rich", "tempfile"),
)
"""What an image of packages alone has no use for: rules and renderers of services, the network, other processes."""


def test_a_build_loads_what_its_image_needs(place: Workplace) -> None:
    code = (
        "import sys\n"
        "from sixsmith.cli import run\n"
        "assert run(sys.argv[1:]) == 0\n"
        f"unwanted = [name for name in {NOT_FOR_PLAIN!r} if name in sys.modules]\n"
        "assert not unwanted, unwanted\n"
        "ours = [module for name, module in sys.modules.items() if name.startswith('sixsmith.')]\n"
        "made = {each.__module__ for module in ours for each in vars(module).values()\n"
        "        if isinstance(each, type) and '__dataclass_fields__' in vars(each)}\n"
        f"assert not made, made\n"
    )
    place.write(PLAIN)
    words = [sys.executable, "-c", code, "build", *place.options(), "--offline"]
    environment = clean_environment(place.folder, {})
    done = subprocess.run(words, cwd=place.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tree_names_no_registry_of_packages_and_no_path_of_a_machine() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    # spelled in pieces: this file is in the tree too
    words = ["py" + "pi.org", "python" + "hosted", "deb." + "debian.org", "registry.npm" + "js", "/root/" + ".pyenv"]
    wrong = []
    for name in listed.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.stat().st_size < 1 << 20:
            text = path.read_bytes().decode("utf-8", "replace")
            wrong += [f"{name}: {word}" for word in words if word in text]
    assert not wrong


def test_every_shipped_command_has_its_file() -> None:
    from sixsmith.cli import COMMANDS, group

    for name in COMMANDS:
        assert group.get_command(None, name) is not None  # type: ignore[arg-type]  # the context is not used


def test_files_stay_readable() -> None:
    long = {
        str(path.relative_to(SOURCE)): lines
        for path in SOURCE.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 950
    }
    assert not long, f"a file past about 900 lines is two rooms: {long}"
