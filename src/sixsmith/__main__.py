"""`python -m sixsmith`, and the `sixsmith` program.

A build that has nothing to do is answered from its receipt, before the command line is loaded.
"""

from __future__ import annotations

import gc
import os
import sys

__all__ = ["main", "replay"]


def main() -> None:
    """Runs the command line and exits with its code."""
    code = 0
    if not replay(sys.argv[1:]):
        # what a run makes lives as long as the run: a build has some 50,000 objects, and one look through them for
        # garbage takes 15 ms and finds none
        gc.set_threshold(200_000, 20, 20)
        from sixsmith.cli import run

        code = run(sys.argv[1:])
    _leave(code)


def _leave(code: int) -> None:
    """Ends the process without taking the interpreter apart object by object: nothing of ours waits for that."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except OSError:
        code = code or 1  # the reader of our output has gone
    os._exit(code)


def replay(arguments: list[str]) -> bool:
    """Prints what the last build of this request printed and returns True, when nothing has changed since."""
    if arguments[:1] != ["build"]:
        return False
    from sixsmith.io.receipt import read_receipt, request_key, store_root

    receipt = read_receipt(store_root(arguments), request_key(arguments))
    if receipt is None or not receipt.still_holds():
        return False
    sys.stderr.write(receipt.errors)
    sys.stdout.write(receipt.output)
    return True


if __name__ == "__main__":
    main()
