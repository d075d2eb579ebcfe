"""The keeper's start, apart from all the rest: it takes a moment, in which the image can be looked for.

Nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path
from types import TracebackType

import sixsmith
from sixsmith.boot.channel import pair

__all__ = ["Launched"]

_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[3]); from sixsmith.boot.keeper import main; main(int(sys.argv[1]), int(sys.argv[2]))"
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_PATIENCE = 15.0


class Launched:
    """A keeper that waits for its first words. Closing it ends it, and with it whatever runs and lies in it."""

    def __init__(self) -> None:
        self.channel, theirs = pair()
        life, self._life = os.pipe()
        path = [str(Path(sixsmith.__file__).parents[1]), *sys.path]
        arguments = [str(theirs.fileno()), str(life), json.dumps(path)]
        self._keeper = subprocess.Popen(
            [sys.executable, "-E", "-s", "-S", "-c", _CODE, *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), life),
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        os.close(life)
        theirs.close()

    def __enter__(self) -> Launched:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._keeper.pid

    def close(self) -> None:
        """Ends the keeper, if it has not ended."""
        if self._life < 0:
            return
        self.channel.close()
        os.close(self._life)
        self._life = -1
        # not with a time limit of `wait`, which sleeps between looks
        watch = os.pidfd_open(self._keeper.pid)
        if not select.select([watch], [], [], _PATIENCE)[0]:
            self._keeper.kill()
        os.close(watch)
        self._keeper.wait()
