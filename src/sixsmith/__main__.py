"""`python -m sixsmith`, and the `sixsmith` program.

A build that has nothing to do is answered from its receipt, before the command line is loaded.
"""

from __future__ import annotations

import sys

__all__ = ["main", "replay"]


def main() -> None:
    """Runs the command line and exits with its code."""
    if not replay(sys.argv[1:]):
        from sixsmith.cli import main as run_and_exit

        run_and_exit()


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
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone; there is nobody left to tell
        sys.exit(1)
    return True


if __name__ == "__main__":
    main()
