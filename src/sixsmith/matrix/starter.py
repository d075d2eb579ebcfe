"""The files that `sixsmith init` writes: a commented family file and an example service, as good today as the catalogue is."""

from __future__ import annotations

import re
from pathlib import Path

from sixsmith.catalog import alpine_releases, newest_good_overlay

__all__ = ["starter_files"]

_FOLDER = Path(__file__).parent


def starter_files(name: str) -> dict[str, str]:
    """Path below the folder → text. `name` (the folder's, say) becomes the family's name as far as it can.

    A text that starts with `#!` is meant to be executable. The Alpine releases are the newest two, the s6-overlay release
    the newest that nothing is known against.
    """
    numbered = [release for release in alpine_releases() if not release.rolling]
    words = {
        "NAME": re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "family",
        "ALPINE": numbered[-1].name,
        "OLDER": numbered[-2].name,
        "OVERLAY": newest_good_overlay().version,
    }
    return {
        "sixsmith.yaml": re.sub(r"@([A-Z]+)@", lambda blank: words[blank[1]], _read("starter.yaml.tmpl")),
        "sixsmith.schema.json": _read("sixsmith.schema.json"),
        "services/hello/type": "longrun\n",
        "services/hello/run": _read("starter-run.tmpl"),
        "services/hello/dependencies.d/base": "",
    }


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
