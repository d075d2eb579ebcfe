"""The catalogue: its tables are complete and agree with each other and with the real files."""

from __future__ import annotations

import hashlib
import re
from datetime import date
from pathlib import Path

import pytest

from sixsmith import catalog
from sixsmith.catalog.facts import read_bytes, read_json, read_table
from sixsmith.errors import UsageError
from sixsmith.model.arch import ARCHES

NOVEMBER = date(2026, 11, 23)


def test_alpine_releases_are_in_order_and_known_to_the_architecture_table() -> None:
    names = [release.name for release in catalog.alpine_releases()]
    assert names == [f"3.{number}" for number in range(25)] + ["edge"]
    for release in catalog.alpine_releases():
        assert set(release.arches) <= set(ARCHES)
        assert release.rolling or release.newest.startswith(f"{release.name}.")
        if release.released and release.end_of_support:
            assert release.released < release.end_of_support


@pytest.mark.parametrize(
    ("asked", "name"), [("3.20", "3.20"), ("v3.7", "3.7"), ("edge", "edge"), ("3.12.12", "3.12"), ("3.12.0", "3.12")]
)
def test_a_release_is_found_by_its_names(asked: str, name: str) -> None:
    assert catalog.alpine(asked).name == name


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("3.25", "the newest is 3.24"),
        ("3.2O", "'3.2'"),
        ("3.12.13", "newest point release of 3.12 is 3.12.12"),
        ("edge.1", "edge"),
        ("", "the newest is 3.24"),
        ("3", "the newest is 3.24"),
    ],
)
def test_an_unknown_alpine_release_is_an_error_with_a_hint(asked: str, hint: str) -> None:
    with pytest.raises(UsageError, match="unknown Alpine release") as caught:
        catalog.alpine(asked)
    assert caught.value.hint is not None and hint in caught.value.hint


def test_architectures_come_with_their_releases() -> None:
    assert "riscv64" not in catalog.alpine("3.19").arches and "riscv64" in catalog.alpine("3.20").arches
    assert "loongarch64" not in catalog.alpine("3.20").arches and "loongarch64" in catalog.alpine("3.21").arches
    assert "armv7" not in catalog.alpine("3.8").arches and "armv7" in catalog.alpine("3.9").arches
    assert catalog.alpine("3.2").repositories == ("main",)


def test_the_articles_table_is_kept() -> None:
    compared = [release.name for release in catalog.alpine_releases() if release.changes]
    assert compared == ["3.7", "3.8", "3.9", "3.10", "3.11", "3.12"]
    changes = catalog.alpine("3.9").changes
    assert changes is not None and "Node.js 10.14" in changes.versions and "LibreSSL" in changes.removed


def test_a_dead_release_warns_with_the_newest_living_one() -> None:
    (advice,) = catalog.advice_for_alpine("3.12", NOVEMBER)
    assert "out of support since 2022-05-01" in advice.message and advice.instead == "Alpine 3.24"
    assert catalog.advice_for_alpine("3.12", date(2021, 1, 1)) == ()
    assert catalog.advice_for_alpine("3.22", NOVEMBER) == ()
    (advice,) = catalog.advice_for_alpine("3.12", date(2022, 5, 1))
    assert advice.instead == "Alpine 3.15", "a release of the future is no advice"


def test_support_ends_on_the_day_named() -> None:
    release = catalog.alpine("3.21")
    assert release.supported(date(2026, 10, 31)) and not release.supported(date(2026, 11, 1))
    (advice,) = catalog.advice_for_alpine("3.21", date(2026, 10, 31))
    assert advice.severity == "caution"


def test_overlay_releases_are_in_order_and_complete_since_v2() -> None:
    versions = [release.version for release in catalog.overlay_releases()]
    assert versions[0] == "0.1.0" and versions[-1] == "3.2.3.2"
    assert [release.order for release in catalog.overlay_releases()] == sorted(
        r.order for r in catalog.overlay_releases()
    )
    dated = [r.released for r in catalog.overlay_releases() if r.major >= 2]
    assert all(dated) and dated == sorted(day for day in dated if day)
    assert versions.index("3.0.0.2") < versions.index("3.0.0.2-1") < versions.index("3.1.0.0")


@pytest.mark.parametrize(
    ("version", "arch", "names"),
    [
        ("1.21.8.0", "x86_64", ["s6-overlay-amd64.tar.gz"]),
        ("1.21.4.0", "x86", ["s6-overlay-x86.tar.gz"]),
        ("2.2.0.3", "ppc64le", ["s6-overlay-ppc64le.tar.gz"]),
        ("2.0.0.1", "armhf", ["s6-overlay-armhf.tar.gz"]),
        ("3.0.0.2", "aarch64", ["s6-overlay-noarch-3.0.0.2.tar.xz", "s6-overlay-aarch64-3.0.0.2.tar.xz"]),
        ("3.0.0.2-2", "armv7", ["s6-overlay-noarch-3.0.0.2-2.tar.xz", "s6-overlay-arm-3.0.0.2-2.tar.xz"]),
        ("3.1.0.0", "x86", ["s6-overlay-noarch.tar.xz", "s6-overlay-i686.tar.xz"]),
        ("3.1.4.0", "ppc64le", ["s6-overlay-noarch.tar.xz", "s6-overlay-powerpc64le.tar.xz"]),
        ("v3.2.3.0", "riscv64", ["s6-overlay-noarch.tar.xz", "s6-overlay-riscv64.tar.xz"]),
    ],
)
def test_a_release_names_its_files(version: str, arch: str, names: list[str]) -> None:
    assert list(catalog.overlay_files(version, ARCHES[arch])) == names


def test_optional_tarballs_follow_the_release() -> None:
    assert catalog.overlay_files("3.2.1.0", ARCHES["x86_64"], symlinks=True, syslogd=True)[2:] == (
        "s6-overlay-symlinks-noarch.tar.xz",
        "s6-overlay-symlinks-arch.tar.xz",
        "syslogd-overlay-noarch.tar.xz",
    )
    assert catalog.overlay_files("1.21.8.0", ARCHES["x86_64"], symlinks=True) == ("s6-overlay-amd64.tar.gz",)
    with pytest.raises(UsageError, match="has no syslogd tarball"):
        catalog.overlay_files("2.0.0.1", ARCHES["x86_64"], syslogd=True)


@pytest.mark.parametrize(
    ("version", "arch"),
    [
        ("1.21.8.0", "ppc64le"),
        ("2.2.0.3", "s390x"),
        ("2.2.0.3", "riscv64"),
        ("3.0.0.0", "s390x"),
        ("3.1.3.0", "ppc64le"),
        ("3.2.3.0", "loongarch64"),
        ("0.1.0", "x86_64"),
    ],
)
def test_an_architecture_without_files_is_an_error(version: str, arch: str) -> None:
    with pytest.raises(UsageError, match=f"s6-overlay {version} has no files for {arch}"):
        catalog.overlay_files(version, ARCHES[arch])


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("3.2.9.9", "newest is 3.2.3.2"), ("1.21.8", "'1.21.8.0'"), ("latest", "newest"), ("", "newest")],
)
def test_an_unknown_overlay_release_is_an_error_with_a_hint(asked: str, hint: str) -> None:
    with pytest.raises(UsageError, match="unknown s6-overlay release") as caught:
        catalog.overlay(asked)
    assert caught.value.hint is not None and hint in caught.value.hint


@pytest.mark.parametrize(
    ("version", "reference", "instead"),
    [
        ("1.21.8.0", "#274", "2.0.0.1"),
        ("1.22.1.0", "#275", "2.0.0.1"),
        ("2.0.0.0", "#278", "2.0.0.1"),
        ("2.2.0.0", "#321", "3.2.0.0"),
        ("3.1.2.0", "#473", "3.2.0.0"),
        ("3.1.6.1", "#554", "3.2.0.0"),
        ("3.2.3.1", "hotio#28", "3.2.3.0"),
    ],
)
def test_a_bad_release_is_told_with_reason_and_way_out(version: str, reference: str, instead: str) -> None:
    advice = catalog.advice_for_overlay(version)
    assert any(reference in (each.reference or "") for each in advice)
    assert all(instead in (each.instead or "") for each in advice)


@pytest.mark.parametrize("version", ["2.0.0.1", "2.1.0.2", "3.2.0.0", "3.2.1.0", "3.2.3.0"])
def test_a_good_release_has_no_advice(version: str) -> None:
    assert catalog.advice_for_overlay(version) == ()


def test_the_newest_good_overlay_is_good() -> None:
    assert catalog.advice_for_overlay(catalog.newest_good_overlay().version) == ()


def test_every_checksum_is_of_a_known_file_and_well_formed() -> None:
    lengths = {"sha256": 64, "sha512": 128, "md5": 32}
    for row in read_table("overlay-checksums.tsv"):
        release = catalog.overlay(row["version"])
        assert re.fullmatch(r"[0-9a-f]+", row["digest"]) and len(row["digest"]) == lengths[row["algorithm"]]
        assert row["status"] in ("confirmed", "single-source") and row["sources"]
        optional = {"symlinks": True, "syslogd": release.major == 3}
        known = {
            name for arch in release.arches for name in catalog.overlay_files(release.version, ARCHES[arch], **optional)
        }
        assert row["file"] in known or row["file"].endswith((".sig", "-installer"))
    for row in read_table("minirootfs-checksums.tsv"):
        assert len(row["digest"]) == lengths[row["algorithm"]]
        _, _, point, arch = row["file"].removesuffix(".tar.gz").split("-")
        assert arch in catalog.alpine(point).arches


def test_a_sha256_wins_over_an_md5() -> None:
    strong = catalog.overlay_checksum("1.21.8.0", "s6-overlay-amd64.tar.gz")
    assert strong is not None and strong.algorithm == "sha256" and not strong.confirmed
    weak = catalog.overlay_checksum("v2.2.0.1", "s6-overlay-amd64.tar.gz")
    assert weak is not None and weak.algorithm == "md5"
    assert catalog.overlay_checksum("3.1.5.0", "s6-overlay-noarch.tar.xz") is None


def test_keys_belong_to_one_architecture() -> None:
    old = catalog.keys_for("3.7", "x86_64")
    assert {name[-16:-8] for name in old} == {"4a6a0840", "5261cecb"}
    assert {name[-16:-8] for name in catalog.keys_for("3.22", "aarch64")} == {"58199dcc", "616ae350"}
    assert not set(catalog.keys_for("3.22", "x86_64")) & set(catalog.keys_for("3.22", "aarch64"))
    with pytest.raises(UsageError, match=r"Alpine 3\.19 has no riscv64"):
        catalog.keys_for("3.19", "riscv64")


def test_every_cell_of_release_and_architecture_has_a_key() -> None:
    for release in catalog.alpine_releases():
        for arch in release.arches:
            keys = catalog.keys_for(release.name, arch)
            assert keys and all(pem.startswith(b"-----BEGIN PUBLIC KEY-----") for pem in keys.values())


def test_the_key_table_names_every_key_file() -> None:
    assert {row["file"] for row in read_json("keys.json")} == {
        path.name for path in (Path(catalog.__file__).parent / "facts" / "keys").iterdir()
    }


def test_data_is_read_as_bytes() -> None:
    assert read_bytes("alpine.json").startswith(b"{")


def test_real_tarballs_have_the_checksums(data: Path) -> None:
    checked = 0
    for path in (data / "upstream" / "s6-overlay").glob("v*/*.tar.*"):
        known = catalog.overlay_checksum(path.parent.name, path.name)
        if known is not None:
            assert known.matches(path.read_bytes()), path.name
            checked += 1
    for path in (data / "upstream" / "alpine").glob("v*/releases/*/alpine-minirootfs-*.tar.gz"):
        known = catalog.minirootfs_checksum(path.name.split("-")[2], path.parent.name)
        assert known is not None and known.matches(path.read_bytes()), path.name
        checked += 1
    assert checked >= 10


def test_real_keys_are_the_ones_shipped(data: Path) -> None:
    table = (data / "reference" / "alpine-keys.txt").read_text()
    for file, digest in re.findall(r"^(alpine-devel\S+) size=\d+ sha256=([0-9a-f]{64})", table, re.M):
        assert hashlib.sha256(read_bytes(f"keys/{file}")).hexdigest() == digest


def test_real_indexes_are_signed_by_a_key_of_their_release(data: Path) -> None:
    import tarfile

    seen = 0
    for path in (data / "upstream" / "alpine").glob("v*/[mc]*/*/APKINDEX.tar.gz"):
        with tarfile.open(path, "r:gz", ignore_zeros=True) as index:
            first = index.next()
        assert first is not None
        signer = first.name.removeprefix(".SIGN.RSA.")
        assert signer in catalog.keys_for(path.parts[-4], path.parent.name)
        seen += 1
    assert seen
