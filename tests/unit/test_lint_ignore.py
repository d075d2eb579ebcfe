"""Suppressions, and what `--fix` mends."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from lint_world import init, lint, longrun, small_image
from sixsmith.errors import StoreError
from sixsmith.io.disk import read_tree, write_tree
from sixsmith.looking import files_on_disk, lint_seen, look_at_disk, mend_on_disk
from sixsmith.model.arch import ARCHES
from sixsmith.oci.image import ImageSettings
from sixsmith.s6.lint import lint_image

BAD = init((0o644, "#!/bin/sh\n"))


def rules(ignore: list[dict[str, str]]) -> list[str]:
    found = lint_image(small_image("3.2.1.0", BAD), ImageSettings(entrypoint=("/init",)), ignore=ignore)
    return [finding.rule for finding in found if finding.severity != "info"]


def test_an_entry_with_a_reason_suppresses() -> None:
    assert rules([]) == ["S1"]
    assert (
        rules([{"rule": "S1", "path": "/etc/cont-init.d/10-x", "reason": "made executable by the entry point"}]) == []
    )
    assert rules([{"rule": "S1", "path": "etc/cont-init.d", "reason": "all of them"}]) == []
    assert rules([{"rule": "S*", "reason": "everything about scripts"}]) == []


def test_an_entry_that_suppresses_nothing_is_a_warning() -> None:
    assert rules([{"rule": "S1", "path": "/etc/cont-finish.d/*", "reason": "x"}]) == ["S1", "L1"]


def test_an_entry_needs_a_rule_and_a_reason() -> None:
    assert rules([{"rule": "S99", "reason": "x"}]) == ["S1", "L2"]
    assert rules([{"rule": "S1"}]) == ["S1", "L2"]
    assert rules([{"rule": "S1", "reason": "  "}]) == ["S1", "L2"]


def test_findings_of_others_are_suppressed_too() -> None:
    others = lint("3.2.1.0", {"tmp/s6-overlay-noarch.tar.xz": "x"}, {})
    found = lint_image(
        small_image("3.2.1.0"),
        ImageSettings(entrypoint=("/init",)),
        ignore=[{"rule": "M12", "reason": "kept for reference"}],
        also=others,
    )
    assert "M12" not in {finding.rule for finding in found}


# ---- mending


BROKEN = {
    **init((0o644, b"\xef\xbb\xbf#!/usr/bin/with-contenv sh\r\ntrue\r\n")),
    **longrun(type="longrun\r\n", dependencies="base \r\n", dependencies_d_base=None),
    "etc/s6-overlay/s6-rc.d/app/dependencies.d": (0o755, None),
}


def folder_with(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    files = {path: file for path, file in BROKEN.items() if "dependencies.d" not in path}
    write_tree(small_image("3.2.1.0", files), root, owners=False)
    return root


def test_mending_a_folder_leaves_nothing_to_mend(tmp_path: Path) -> None:
    root = folder_with(tmp_path)
    seen = look_at_disk(root, ARCHES["x86_64"])
    before = lint_seen(seen)
    assert {"S1", "S2", "S3", "S6", "R1"} <= {finding.rule for finding in before}
    done = mend_on_disk(seen.tree, before, place_of=files_on_disk(root))
    assert {place.name for place, _ in done} >= {"10-x", "type"}
    script = root / "etc/cont-init.d/10-x"
    assert script.read_bytes() == b"#!/command/with-contenv sh\ntrue\n"
    assert stat.S_IMODE(script.stat().st_mode) == 0o755
    assert (root / "etc/s6-overlay/s6-rc.d/app/type").read_bytes() == b"longrun\n"
    again = look_at_disk(root, ARCHES["x86_64"])
    rest = lint_seen(again)
    assert not {"S1", "S2", "S3", "S6", "R1"} & {finding.rule for finding in rest}
    assert not [path for path in read_tree(root).nodes if path.rpartition("/")[2].startswith(".10-x")]


def test_what_a_link_leads_out_of_the_folder_is_not_touched(tmp_path: Path) -> None:
    root = folder_with(tmp_path)
    outside = tmp_path / "outside"
    outside.write_bytes(b"#!/bin/sh\r\n")
    outside.chmod(0o644)
    (root / "etc/cont-init.d/20-out").symlink_to(outside)
    seen = look_at_disk(root, ARCHES["x86_64"])
    mend_on_disk(seen.tree, lint_seen(seen), place_of=files_on_disk(root))
    assert outside.read_bytes() == b"#!/bin/sh\r\n"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o644


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    root = folder_with(tmp_path)
    seen = look_at_disk(root, ARCHES["x86_64"])
    found = lint_seen(seen)
    (root / "etc/cont-init.d").chmod(0o555)
    try:
        with pytest.raises(StoreError, match="cannot mend"):
            mend_on_disk(seen.tree, found, place_of=files_on_disk(root))
    finally:
        (root / "etc/cont-init.d").chmod(0o755)
