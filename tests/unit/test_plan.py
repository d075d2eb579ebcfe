"""Plans: pure values whose id stands for every byte of the image, and for nothing else."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from sixsmith.apk.index import PackageIndex
from sixsmith.errors import Place, Unsatisfiable, UsageError
from sixsmith.model.arch import ARCHES
from sixsmith.model.digest import Digest, digest_of
from sixsmith.plan import BaseFacts, BuildPlan, LocalFile, PlannedFile, make_plan
from sixsmith.solver import SolverRepository
from sixsmith.testing.packages import make_apk
from sixsmith.variant import Accounts, FileSpec, OverlayChoice, RepositoryChoice, User, Variant

PACKAGES = [
    make_apk("musl", "1.2-r0", build_time=100),
    make_apk("busybox", "1.36-r1", depends=["musl"], build_time=300),
    make_apk("bash", "5.2-r0", depends=["musl", "readline"], build_time=200),
    make_apk("readline", "8.2-r0", depends=["musl"], build_time=150),
]

VARIANT = Variant(
    id="one:3.22-3.2.3.0/x86_64",
    image="one",
    tags=("3.22-3.2.3.0",),
    alpine="3.22",
    arch=ARCHES["x86_64"],
    axes={"alpine": "3.22", "s6-overlay": "3.2.3.0"},
    base="minirootfs",
    overlay=OverlayChoice("3.2.3.0"),
    packages=("bash",),
    repositories=(RepositoryChoice("main"),),
)
BASE = BaseFacts("minirootfs", digest_of(b"base"), "alpine-minirootfs-3.22.1-x86_64.tar.gz", (), ("busybox",), 9)
OVERLAY = (PlannedFile("s6-overlay-3.2.3.0/s6-overlay-noarch.tar.xz", digest_of(b"overlay"), 7),)
FILE = LocalFile("etc/site", digest_of(b"site"), 0o644, source="/home/me/site", size=4)


def index(packages: list[Any]) -> PackageIndex:
    return PackageIndex.parse("\n".join(package.record for package in packages).encode() + b"\n")


def planned(variant: Variant = VARIANT, packages: list[Any] | None = None, **more: Any) -> BuildPlan:
    repositories = [SolverRepository(index(PACKAGES if packages is None else packages), "main")]
    known: dict[str, Any] = {"base": BASE, "repositories": repositories, "overlay": OVERLAY, "files": (FILE,)}
    return make_plan(variant, **{**known, **more})


def test_a_plan_knows_everything_before_a_byte_is_fetched() -> None:
    plan = planned()
    assert plan.world == ("busybox", "bash")
    assert [step.name for step in plan.installs] == ["musl", "readline", "bash", "busybox"], (
        "what is asked for now comes first"
    )
    assert {step.action for step in plan.steps} == {"install"}
    assert {step.repository for step in plan.steps} == {"main"}
    assert plan.download_size == sum(len(package.data) for package in PACKAGES)
    assert plan.epoch == 300, "the newest build time of the packages"
    assert plan.tags == ("3.22-3.2.3.0",)


def test_packages_of_the_base_that_stay_come_first() -> None:
    installed = tuple(index(PACKAGES[:2]))
    plan = planned(base=replace(BASE, installed=installed))
    assert [(package.name, package.repository) for package in plan.packages] == [
        ("musl", ""),
        ("busybox", ""),
        ("readline", "main"),
        ("bash", "main"),
    ]
    assert [step.name for step in plan.steps] == ["readline", "bash"]


def test_no_packages_need_no_repository() -> None:
    plan = planned(replace(VARIANT, packages=()), repositories=[])
    assert plan.steps == () and plan.world == ("busybox",)


SAME: dict[str, Callable[[Variant], Variant]] = {
    "where it stands in the file": lambda variant: replace(variant, place=Place("other.yaml", 9, 9)),
    "the cell's id": lambda variant: replace(variant, id="one:else/x86_64"),
    "the order of axes": lambda variant: replace(variant, axes=dict(reversed(variant.axes.items()))),
    "the place of the overlay": lambda variant: replace(variant, overlay=OverlayChoice("3.2.3.0", place=Place("x", 1))),
    "where a source lies": lambda variant: replace(
        variant, files=(FileSpec("/a", source="/elsewhere/x", place=Place("y", 2)),)
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_change_the_image_does_not_change_the_id(what: str) -> None:
    base = VARIANT
    if "source" in what:
        base = replace(VARIANT, files=(FileSpec("/a", source="/home/me/x"),))
    assert planned(SAME[what](base)).id == planned(base).id


OTHER: dict[str, Callable[[Variant], Variant]] = {
    "image": lambda variant: replace(variant, image="two"),
    "architecture": lambda variant: replace(variant, arch=ARCHES["aarch64"]),
    "tag": lambda variant: replace(variant, tags=("other",)),
    "env": lambda variant: replace(variant, env={"A": "1"}),
    "cmd": lambda variant: replace(variant, cmd=("sh",)),
    "entrypoint": lambda variant: replace(variant, entrypoint=("/bin/sh",)),
    "user": lambda variant: replace(variant, user="app"),
    "ports": lambda variant: replace(variant, ports=("80/tcp",)),
    "labels": lambda variant: replace(variant, labels={"a": "b"}),
    "annotations": lambda variant: replace(variant, annotations={"a": "b"}),
    "accounts": lambda variant: replace(variant, accounts=Accounts(users=(User("app"),))),
    "files": lambda variant: replace(variant, files=(FileSpec("/a", content="a"),)),
    "scripts": lambda variant: replace(variant, scripts="skip"),
    "layers": lambda variant: replace(variant, layers="single"),
    "budget": lambda variant: replace(variant, layer_budget=3),
    "compression": lambda variant: replace(variant, compression="zstd"),
    "overlay choice": lambda variant: replace(variant, overlay=OverlayChoice("3.2.3.0", symlinks=True)),
    "services": lambda variant: replace(variant, services={"web": {"run": "x"}}),
    "a repository's address": lambda variant: replace(
        variant, repositories=(RepositoryChoice("main", url="https://example.org/main"),)
    ),
}


@pytest.mark.parametrize("what", OTHER)
def test_what_changes_the_image_changes_the_id(what: str) -> None:
    assert planned(OTHER[what](VARIANT)).id != planned().id


def test_the_order_of_the_environment_is_the_images_too() -> None:
    forward, backward = (replace(VARIANT, env=dict(pairs)) for pairs in (["A1", "B2"], ["B2", "A1"]))
    assert planned(forward).id != planned(backward).id


def test_the_order_within_a_service_is_the_images_too() -> None:
    forward, backward = (
        replace(VARIANT, services={"web": {"run": "x", "env": dict(pairs)}}) for pairs in (["A1", "B2"], ["B2", "A1"])
    )
    assert planned(forward).id != planned(backward).id


def test_folders_of_this_machine_are_not_in_the_id() -> None:
    ids = {
        planned(
            replace(
                VARIANT,
                services=f"{home}/services",
                repositories=(
                    RepositoryChoice("main"),
                    RepositoryChoice("own", url=f"{home}/apks", key=f"{home}/k.pub"),
                ),
            )
        ).id
        for home in ("/home/me", "/home/you")
    }
    assert len(ids) == 1


def test_other_bytes_from_outside_change_the_id() -> None:
    ids = [
        planned().id,
        planned(base=replace(BASE, identity=digest_of(b"another base"))).id,
        planned(overlay=(replace(OVERLAY[0], digest=digest_of(b"another overlay")),)).id,
        planned(files=(replace(FILE, digest=digest_of(b"another site")),)).id,
        planned(files=(replace(FILE, mode=0o755),)).id,
        planned(files=()).id,
        planned(packages=[*PACKAGES[:2], make_apk("bash", "5.2-r1", depends=["musl"]), PACKAGES[3]]).id,
        planned(
            packages=[
                *PACKAGES[:2],
                make_apk("bash", "5.2-r0", depends=["musl", "readline"], description="x"),
                PACKAGES[3],
            ]
        ).id,
    ]
    assert len(set(ids)) == len(ids)


def test_the_order_of_an_index_does_not_matter() -> None:
    chance = random.Random(1)
    for _ in range(5):
        shuffled = PACKAGES[:]
        chance.shuffle(shuffled)
        assert planned(packages=shuffled).id == planned().id


def test_a_tag_with_the_version_of_a_package() -> None:
    assert planned(replace(VARIANT, tags=("{version:bash}-s6",))).tags == ("5.2-r0-s6",)
    with pytest.raises(UsageError) as caught:
        planned(replace(VARIANT, tags=("{version:bahs}",), place=Place("sixsmith.yaml", 5, 3)))
    assert str(caught.value) == (
        "sixsmith.yaml:5:3: one:3.22-3.2.3.0/x86_64: tag '{version:bahs}' names the version of 'bahs', which is not installed"
    )
    assert caught.value.hint == "did you mean 'bash'?"


def test_a_request_that_cannot_be_fulfilled() -> None:
    with pytest.raises(Unsatisfiable) as caught:
        planned(replace(VARIANT, packages=("bahs",)))
    assert caught.value.subjects == ("bahs (no such package)",)


def test_what_is_asked_for_replaces_what_the_base_asked_for() -> None:
    plan = planned(replace(VARIANT, packages=("busybox>1",)))
    assert plan.world == ("busybox>1",)


def test_ids_are_digests() -> None:
    assert Digest(planned().id).startswith("sha256:") and len(planned().id) == 71
