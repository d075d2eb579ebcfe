"""`python fuzz/run.py TARGET... --seconds N`: fuzzes, and leaves what it finds in a file. `all` is every target.

Uses atheris where it can be imported (`pip install atheris`), else the loop in `guided`. `--replay FILE` runs one input.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
sys.path[:1] = [str(ROOT), str(ROOT / "src")]  # instead of this folder

from fuzz.targets import TARGETS  # noqa: E402  # the path comes first

MEMORY = 2 << 30
"""Bytes of address space: an input that wants more is a finding."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("targets", nargs="+", choices=[*TARGETS, "all"], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="our own loop even where atheris is")
    parser.add_argument("--found", type=Path, default=Path(tempfile.gettempdir()), help="where findings are written")
    parser.add_argument("--corpus", type=Path, help="a folder to keep what was learned (TARGET/ below it)")
    parser.add_argument("--replay", type=Path, help="run this one input")
    options = parser.parse_args()
    targets = TARGETS if "all" in options.targets else options.targets
    if options.replay:
        _load(targets[0]).TestOneInput(options.replay.read_bytes())
        return 0
    if len(targets) > 1:  # one process for each: atheris ends its own
        codes = [subprocess.call([sys.executable, __file__, target, *_passed_on(options)]) for target in targets]
        return max(codes)
    options.found.mkdir(parents=True, exist_ok=True)
    if not options.plain and _has_atheris():
        return _run_atheris(targets[0], options)
    return _run_guided(targets[0], options)


def _load(target: str) -> ModuleType:
    return import_module(f"fuzz.targets.{target}")


def _passed_on(options: argparse.Namespace) -> list[str]:
    words = [f"--seconds={options.seconds}", f"--seed={options.seed}", f"--found={options.found}"]
    return words + ["--plain"] * options.plain + [f"--corpus={options.corpus}"] * bool(options.corpus)


def _has_atheris() -> bool:
    try:
        import_module("atheris")
    except ImportError:
        return False
    return True


def _run_atheris(target: str, options: argparse.Namespace) -> int:
    atheris = import_module("atheris")
    with atheris.instrument_imports(include=["sixsmith"]):
        module = _load(target)
        import_module("sixsmith.rootfs.install")  # what targets import late
    with tempfile.TemporaryDirectory() as folder:
        corpus = options.corpus / target if options.corpus else Path(folder, "corpus")
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(module.seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
        words = Path(folder, "words")
        words.write_text(
            "".join('"' + "".join(f"\\x{byte:02x}" for byte in word[:60]) + '"\n' for word in module.WORDS)
        )
        atheris.Setup(
            [
                f"fuzz {target}",
                f"-max_total_time={options.seconds}",
                *(
                    "-timeout=10",
                    f"-rss_limit_mb={MEMORY >> 20}",
                    "-max_len=65536",
                    "-verbosity=0",
                    "-print_final_stats=1",
                ),
                f"-seed={options.seed + 1}",
                f"-dict={words}",
                f"-artifact_prefix={options.found}/{target}-",
                str(corpus),
            ],
            module.TestOneInput,
        )
        print(f"{target}: atheris", flush=True)
        atheris.Fuzz()  # ends the program
    return 0


def _run_guided(target: str, options: argparse.Namespace) -> int:
    from fuzz.guided import Loop

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    module = _load(target)
    loop = Loop(module.TestOneInput, module.seeds(), module.WORDS, seed=options.seed)
    finding = loop.run(seconds=options.seconds)
    print(
        f"{target}: {loop.runs} inputs, {len(loop.corpus)} kept, {'nothing' if finding is None else 'something'} found"
    )
    if finding is None:
        return 0
    file = options.found / f"{target}-{hashlib.sha1(finding.data).hexdigest()[:12]}"
    file.write_bytes(finding.data)
    traceback.print_exception(finding.error)
    print(f"again with: python fuzz/run.py {target} --replay {file}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
