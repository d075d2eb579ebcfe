"""The reference of the family file, written from the table that reads it; a test holds docs/family-file.md against it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sixsmith.matrix.schema import SETTINGS, json_schema

__all__ = ["render_reference"]

_HEAD = """# The family file: `sixsmith.yaml`

Written from the table of keys that reads the file (`src/sixsmith/matrix/schema.py`); do not edit it by hand.

Scalars are read as text and typed by the key: an unquoted `3.20` is the release 3.20, and `no` is a word. Unknown keys, unknown
releases and wrong values are errors with file, line, column and the nearest valid name, all of them at once. Paths are relative to the
file. YAML anchors work; keys that start with `x-` are for them.

"""

_MERGE = {
    "replace": "replaces the default",
    "add": "adds to the default",
    "merge": "merges, key by key",
    "files": "adds; the same path wins",
    "lists": "adds, list by list",
    "services": "merges by service",
}

_INHERIT = {
    "image": "comes with the parent's image",
    "build": "as the parent, unless said",
    "each": "of each image alone",
}

_TAIL = """
## How cells come about

- **`matrix`**: each key but `include` and `exclude` is an axis, a word or a list. `alpine` and `s6-overlay` mean what they say; any other axis
  can be used in templates as `{name}`. An image without an `s6-overlay` axis gets no overlay.
- **`include`** entries refine the cells that agree with their axis values, or add a cell (`without: [PACKAGE]` takes packages away).
- **`exclude`** entries remove cells, or one architecture of them.
- **`from`**: the parent's cells are this image's cells, unless its `matrix` narrows them. The image is built on the parent's image: what the
  parent installed stays, and only what is added is resolved and stored.
- **Templates**: `{alpine}`, `{s6-overlay}` and any axis in tags, packages, env and labels; `{version:PACKAGE}` in tags is the resolved version.
- A cell's id is `IMAGE:AXIS-AXIS/ARCH`. Commands select by image name, id (with or without the architecture) or tag, with globs.

## Repositories

In order, first wins a tie, as in apk. `main`, `community` and other names are those of the cell's Alpine release on the mirror;
`{name, url, key, pin}` is any other: `url` is a URL or a folder with `ARCH/APKINDEX.tar.gz` below it, `key` a public key to trust for it,
and with `pin` only `NAME@pin` takes from it. Default: `[main, community]`. In an image, `repositories` replaces the default.
"""


def render_reference() -> str:
    """The whole page, in Markdown."""
    schema = json_schema()
    lines = [_HEAD, "## Top of the file\n\n", "| key | meaning |\n|---|---|\n"]
    for name, about in schema["properties"].items():
        lines.append(f"| `{name}` | {about.get('description', '')} |\n")
    lines.append("\n## Keys of an image\n\nAll of them may stand in `defaults` and in entries of `include`, too.\n\n")
    lines.append("| key | meaning | shape | in an image it | for a child |\n|---|---|---|---|---|\n")
    for name, key in SETTINGS.items():
        shape = _shape(key.shape.json()).replace("|", "\\|")
        lines.append(f"| `{name}` | {key.doc} | {shape} | {_MERGE[key.merge]} | {_INHERIT[key.inherit]} |\n")
    lines.append(_TAIL)
    return "".join(lines)


def _shape(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_shape(each) for each in schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_shape(schema.get('items', {}))}"
    if kind == "object":
        fields = schema.get("properties")
        if fields:
            return "{" + ", ".join(f"`{name}`" for name in fields) + "}"
        values = schema.get("additionalProperties")
        return f"NAME: {_shape(values)}" if isinstance(values, dict) else "mapping"
    if kind == "boolean" or (isinstance(kind, list) and kind == ["boolean"]):
        return "`true` or `false`"
    return "text"
