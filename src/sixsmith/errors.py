"""The exception tree.

    SixsmithError                      exit code
    ├── AnswerIsNo                     1   the question was understood, the answer is no
    │   ├── Unsatisfiable                  no set of packages fulfils the request
    │   ├── InstallRefused                 packages contradict each other on disk
    │   ├── ScriptNotUnderstood            an install script that `emulate` cannot read
    │   ├── LockOutdated                   the lock does not hold what the family file asks
    │   ├── LintFailed                     a service or an image setting is broken
    │   └── CheckFailed                    an image does not behave, or is over its budget
    ├── UsageError                     2   wrong option, argument or selection
    │   └── MatrixError                    sixsmith.yaml is wrong (holds every problem found)
    ├── OutsideError                   3   network, disk, registry, other programs
    │   ├── FetchError                     a file could not be had from a mirror
    │   ├── RegistryError                  a registry refused or went away
    │   ├── RunnerRefused                  this machine starts no such images
    │   └── StoreError                     the local store cannot be read or written
    └── VerificationError              4   bytes are not what was promised
        ├── SignatureError                 not signed by a key that we trust for it
        ├── DigestMismatch                 checksum or digest differ
        └── FormatError                    bytes that do not follow their format

Every error says where (`place`), what is wrong (the message), and, where one is known, what helps (`hint`).
The core raises; only `sixsmith.cli` prints and exits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "AnswerIsNo",
    "CheckFailed",
    "DigestMismatch",
    "FetchError",
    "FormatError",
    "InstallRefused",
    "LintFailed",
    "LockOutdated",
    "MatrixError",
    "OutsideError",
    "Place",
    "Problem",
    "RegistryError",
    "RunnerRefused",
    "ScriptNotUnderstood",
    "SignatureError",
    "SixsmithError",
    "StoreError",
    "Unsatisfiable",
    "UsageError",
    "VerificationError",
    "nearest",
]


class Place(NamedTuple):
    """Where in a file: 1-based line and column; 0 where the format has none."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}" if self.column else f"{self.file}:{self.line}"


class Problem(NamedTuple):
    """One thing that is wrong in a file, for errors that collect."""

    place: Place
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}"
        return f"{text} ({self.hint})" if self.hint else text


class SixsmithError(Exception):
    """Anything that sixsmith gives up on, with an exit code."""

    exit_code = 1

    def __init__(self, message: str, *, place: Place | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class AnswerIsNo(SixsmithError):
    """The question was understood, and the answer is no."""

    exit_code = 1


class Unsatisfiable(AnswerIsNo):
    """No set of packages fulfils the request; `subjects` are the names that apk would list."""

    def __init__(
        self, message: str, *, subjects: Sequence[str] = (), place: Place | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, place=place, hint=hint)
        self.subjects = tuple(subjects)


class InstallRefused(AnswerIsNo):
    """Packages contradict each other on disk, where apk would leave a half-written tree."""


class ScriptNotUnderstood(AnswerIsNo):
    """An install script has a line that `emulate` does not understand."""


class LockOutdated(AnswerIsNo):
    """The lock does not hold what the family file asks, and nothing may move (`--frozen`)."""


class LintFailed(AnswerIsNo):
    """A service or an image setting is broken; the build stops before the image is made."""


class CheckFailed(AnswerIsNo):
    """An image does not behave as its checks ask, or costs more than its budget."""


class UsageError(SixsmithError):
    """Wrong option, argument or selection."""

    exit_code = 2


class MatrixError(UsageError):
    """The family file is wrong; `problems` holds everything found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class OutsideError(SixsmithError):
    """The outside failed: network, disk, registry, another program."""

    exit_code = 3


class FetchError(OutsideError):
    """A file could not be had from a mirror."""


class RegistryError(OutsideError):
    """A registry refused, or went away."""


class RunnerRefused(OutsideError):
    """This machine starts no such images: no namespaces, no emulator, no daemon. Nothing is said about the image."""


class StoreError(OutsideError):
    """The local store cannot be read or written (full disk, permissions)."""


class VerificationError(SixsmithError):
    """Bytes are not what was promised."""

    exit_code = 4


class SignatureError(VerificationError):
    """Not signed, or not by a key that is trusted for this release and architecture."""


class DigestMismatch(VerificationError):
    """A checksum or digest differs from the promised one."""


class FormatError(VerificationError):
    """Bytes that do not follow their format: truncated, hostile or absurd."""


def nearest(name: str, valid: Iterable[str], limit: int = 3) -> str | None:
    """A hint such as `did you mean 'bash'?`, or None when nothing valid is near."""
    from difflib import get_close_matches  # costs start-up time, and most runs have no error

    close = get_close_matches(name, list(valid), n=limit, cutoff=0.6)
    if not close:
        return None
    return "did you mean " + " or ".join(f"'{match}'" for match in close) + "?"
