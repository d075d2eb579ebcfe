"""A plan and its verified parts become one file tree, in the order in which a Dockerfile's author would do it:
packages, the overlay, accounts, files, services.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from sixsmith import catalog
from sixsmith.apk.archive import record_from_control
from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageRecord
from sixsmith.apk.installed import INSTALLED
from sixsmith.bases import Base
from sixsmith.errors import FormatError, LintFailed, Place, UsageError, nearest
from sixsmith.io.local import LocalSource
from sixsmith.io.repository import StoredPackage
from sixsmith.io.store import Store
from sixsmith.io.supply import DEFAULT_LOCATION
from sixsmith.layers.plan import LayerOverlay, LayerPackage
from sixsmith.oci.image import Healthcheck, ImageSettings, inherited, settings_of
from sixsmith.plan import BuildPlan, LocalFile
from sixsmith.rootfs.accounts import apply_accounts, gid_of, uid_of
from sixsmith.rootfs.install import InstallPackage, ScriptRunner, install, write_settings
from sixsmith.rootfs.tree import Member, Tree
from sixsmith.s6.found import find_overlay, has_traces
from sixsmith.variant import FileSpec, Variant
from sixsmith.variant import Healthcheck as AskedHealthcheck

if TYPE_CHECKING:
    from sixsmith.overlay import LaidOverlay
    from sixsmith.s6.finding import Finding

__all__ = ["Assembly", "assemble_tree", "completed", "settings_for"]


_SAID_BY_CATALOGUE = frozenset(["M15", "V9"])
"""Rules on the overlay's release as such: `build` has said it once for the family."""


class Assembly(msgspec.Struct, frozen=True):
    """The finished tree, and what the layer planner wants to know about its parts."""

    tree: Tree
    settings: ImageSettings
    layer_packages: tuple[LayerPackage, ...]
    overlay: LayerOverlay | None
    warnings: tuple[str, ...]
    findings: tuple[Finding, ...]


def assemble_tree(
    plan: BuildPlan,
    base: Base,
    packages: Mapping[str, InstallPackage],
    *,
    store: Store,
    scripts: ScriptRunner | None = None,
    strict: bool = True,
) -> Assembly:
    """The tree of a plan. Raises InstallRefused, ScriptNotUnderstood, UsageError (a file's owner is nobody), FormatError,
    and, when it is `strict`, LintFailed for an image that would not run."""
    variant = plan.variant
    tree = base.tree()
    tree.epoch = plan.epoch
    warnings: list[str] = []
    if plan.steps or variant.base == "packages":
        report = install(
            tree,
            _install_steps(plan, packages),
            packages,
            world=plan.world,
            repositories=_repository_lines(variant, tree),
            keys=_keys(plan),
            arch=variant.arch.name,
            scripts=scripts,
        )
        tree = report.tree
        warnings += report.messages
    elif _asks_for_what_is_there(plan, tree):
        lines = _repository_lines(variant, tree)
        write_settings(tree, world=plan.world, repositories=lines, keys=_keys(plan), arch=variant.arch.name)
    laid = _lay_overlay(plan, tree, store) if plan.overlay else None
    apply_accounts(tree, variant.accounts.users, variant.accounts.groups)
    for number, spec in enumerate(variant.files):
        try:
            _put_file(tree, spec, [file for file in plan.files if file.spec == number])
        except FormatError as error:
            hint = "an entry of `type: absent` before it takes away what is there"
            raise UsageError(f"{spec.path}: {error.message}", place=spec.place, hint=hint) from None
    services = _add_services(variant, tree)
    settings = settings_for(plan, services.health)
    findings = _lint(plan, tree, settings, base, [*(laid.findings if laid else ()), *services.findings])
    if strict:
        _refuse_errors(variant, findings)
    warnings += [str(finding) for finding in findings if finding.severity != "info"]
    overlay = LayerOverlay(laid.name, laid.nodes, laid.source, laid.entries, laid.size) if laid else None
    return Assembly(tree, settings, _layer_packages(plan, packages), overlay, tuple(warnings), findings)


def _asks_for_what_is_there(plan: BuildPlan, tree: Tree) -> bool:
    """Whether packages that are all installed have to join the world. Compared by what entries mean: `=~` is `~`."""
    if not plan.variant.packages or INSTALLED not in tree:
        return False
    return set(map(Dependency.parse, plan.world)) != set(map(Dependency.parse, plan.base.world))


class _Services(msgspec.Struct, frozen=True):
    """What adding the services gave: a health check's command, and what their overlay cannot express."""

    health: tuple[str, ...] | None = None
    findings: tuple[Finding, ...] = ()


def _add_services(variant: Variant, tree: Tree) -> _Services:
    """Renders the cell's services for the overlay that the image has, into the tree.

    Raises UsageError for services without an overlay, MatrixError for services that are described wrongly.
    """
    if not variant.services:
        return _Services()
    from sixsmith.s6 import render  # most images have no services of their own
    from sixsmith.s6.service_file import read_services

    version = _overlay_version(variant, tree)
    if isinstance(variant.services, str):
        rendered = render.read_service_folder(variant.services, version)
        render.apply_services(tree, rendered)
        return _Services(findings=rendered.findings)
    place = variant.place or Place("sixsmith.yaml")
    # names were judged when the file was read; here they may be the base's, which the lint sees
    services = read_services(variant.services, place=place, closed=False)
    rendered = render.render_services(services, version, tree=tree)
    render.apply_services(tree, rendered)
    return _Services(render.health_check(services, version), rendered.findings)


def _overlay_version(variant: Variant, tree: Tree) -> str:
    """The overlay that services are rendered for: the cell's own, its parent's, or the one that is found in the image."""
    if variant.overlay is not None:
        return variant.overlay.version
    if "s6-overlay" in variant.axes:
        return variant.axes["s6-overlay"]
    found = find_overlay(tree)
    if found is None or not found.possible:
        raise UsageError(
            f"{variant.id} has services but no s6-overlay",
            place=variant.place,
            hint="give it an `s6-overlay` axis, or a parent that has one",
        )
    return found.version or found.possible[-1]


def _lint(
    plan: BuildPlan, tree: Tree, settings: ImageSettings, base: Base, found_before: Sequence[Finding]
) -> tuple[Finding, ...]:
    """What is wrong with the finished image; not again what the catalogue says of the overlay's release."""
    variant = plan.variant
    also = list(found_before)
    if variant.overlay is not None:
        from sixsmith.overlay import check_base, check_bundles  # an image without an overlay does not need them

        also += check_base(tree, variant.overlay.version)
        also += check_bundles(tree, variant.overlay.version, syslogd=variant.overlay.syslogd)
    if not also and not variant.lint_ignore and not has_traces(tree):
        return ()
    from sixsmith.s6.lint import lint_image  # the rules take longer to load than many an image to build

    whole = settings if base.config is None else inherited(settings_of(base.config), settings)
    version = variant.overlay.version if variant.overlay is not None else None
    found = lint_image(tree, whole, overlay_version=version, ignore=variant.lint_ignore, also=also)
    return tuple(finding for finding in found if finding.rule not in _SAID_BY_CATALOGUE)


def _refuse_errors(variant: Variant, findings: Sequence[Finding]) -> None:
    """A broken service never reaches a container: errors stop the build, all of them shown."""
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        listed = "\n".join(f"  {finding}" for finding in errors)
        raise LintFailed(f"{variant.id} would not run:\n{listed}")


def _repository_lines(variant: Variant, tree: Tree) -> list[str]:
    """etc/apk/repositories: the base's own lines stay; an image from nothing gets its release's public ones."""
    old = tree.read("etc/apk/repositories")
    lines = old.decode("utf-8", "replace").splitlines() if old else []
    for repository in variant.repositories:
        if repository.url is None:
            if old is not None:
                continue
            branch = variant.alpine if variant.alpine == "edge" else f"v{variant.alpine}"
            line = f"{DEFAULT_LOCATION}/{branch}/{repository.name}"
        elif "://" in repository.url:
            line = f"@{repository.pin} {repository.url}" if repository.pin else repository.url
        else:
            continue  # a folder of the machine that builds means nothing in the image
        if line not in lines:
            lines.append(line)
    return lines


def completed(plan: BuildPlan, packages: Mapping[str, InstallPackage]) -> Mapping[str, InstallPackage]:
    """The packages with whole records: those of a locked plan say by themselves what the index would have said.

    But for the architecture: an index files a `noarch` package under its own.
    """
    if not plan.locked:
        return packages
    whole = {}
    for name, package in packages.items():
        record = record_from_control(package.control, package.record.size)
        record.arch = package.record.arch
        whole[name] = msgspec.structs.replace(package, record=record)
    return whole


class _Pinned(msgspec.Struct, frozen=True):
    """The repository of a step, as far as the database wants to know it."""

    pin: str | None


class _Step(msgspec.Struct, frozen=True):
    """One step with its records, as the installer wants it."""

    action: str
    record: PackageRecord
    old: PackageRecord | None
    repository: _Pinned | None


def _install_steps(plan: BuildPlan, packages: Mapping[str, InstallPackage]) -> list[_Step]:
    """The plan's steps with what the packages and the base's database say of them."""
    there = {record.name: record for record in plan.base.installed}
    steps = []
    for step in plan.steps:
        package = packages.get(step.name)
        record = package.record if package is not None else there[step.name]
        steps.append(_Step(step.action, record, there.get(step.name), _Pinned(step.pin or None)))
    return steps


def _keys(plan: BuildPlan) -> Mapping[str, bytes]:
    """The keys that an image with apk in it needs to patch itself, where its packages do not bring them."""
    if all(package.name != "apk-tools" for package in plan.packages):
        return {}
    return catalog.keys_for(plan.variant.alpine, plan.variant.arch.name)


def _layer_packages(plan: BuildPlan, packages: Mapping[str, InstallPackage]) -> tuple[LayerPackage, ...]:
    found = []
    for step in plan.installs:
        package = packages[step.name]
        assert package.source is not None, "a package that is installed has a source"
        left_out = package.left_out if isinstance(package, StoredPackage) else ""
        found.append(
            LayerPackage(
                step.name,
                step.version,
                f"apk:{step.name}",
                package.source,
                package.entries,
                package.data_size,
                left_out,
            )
        )
    return tuple(found)


def _lay_overlay(plan: BuildPlan, tree: Tree, store: Store) -> LaidOverlay:
    from sixsmith.overlay import lay_overlay, read_overlay  # an image without an overlay does not need them

    choice = plan.variant.overlay
    assert choice is not None
    files = {file.name.rpartition("/")[2]: store.read(file.digest) for file in plan.overlay}
    return lay_overlay(tree, read_overlay(choice.version, plan.variant.arch, files))


# ---- the family's own files


def _put_file(tree: Tree, spec: FileSpec, found: Sequence[LocalFile]) -> None:
    """Puts what one entry of `files` asks for; `found` is what its source holds, the source itself first."""
    path = spec.path.strip("/")
    owner = _owner(tree, spec)
    if spec.type == "absent":
        tree.remove(path)
    elif spec.type == "symlink":
        tree.make_symlink(path, spec.target or "")
    elif spec.source is not None:
        for local in found:
            mode = spec.mode if spec.mode is not None and local.path == path else local.mode
            _put_local(tree, local.path, local.kind, local.source, local.digest, local.size, mode, owner)
    elif spec.type == "directory":
        tree.make_directory(path, mode=spec.mode if spec.mode is not None else 0o755, uid=owner[0], gid=owner[1])
    else:
        mode = spec.mode if spec.mode is not None else 0o644
        _make_way(tree, path)
        tree.write(path, (spec.content or "").encode(), mode=mode, uid=owner[0], gid=owner[1])


def _put_local(
    tree: Tree, path: str, kind: str, source: str, digest: str, size: int, mode: int, owner: tuple[int, int]
) -> None:
    from sixsmith.model.digest import Digest

    if kind == "symlink":
        tree.make_symlink(path, source)
    elif kind == "directory":
        if path and tree.find(path) is None:  # the root itself is there, and nobody's to change
            tree.make_directory(path, mode=mode, uid=owner[0], gid=owner[1])
    else:
        _make_way(tree, path)
        node = tree.write(path, b"", mode=mode, uid=owner[0], gid=owner[1])
        content = Member(LocalSource(source, Digest(digest)), 0, size)
        tree.put(msgspec.structs.replace(node, size=size, content=content))


def _make_way(tree: Tree, path: str) -> None:
    """A file that is put is another file, not the old one with other bytes: other names of that stay what they were."""
    real = tree.resolve(path)
    old = tree.get(real)
    if old is not None and old.kind == "file":
        tree.remove(real)


def _owner(tree: Tree, spec: FileSpec) -> tuple[int, int]:
    """uid and gid by number or by a name that the image has; a group that is not said is the user's own."""
    uid = gid = 0
    if spec.owner is not None:
        found = int(spec.owner) if spec.owner.isdigit() else uid_of(tree, spec.owner)
        if found is None:
            raise _nobody("user", spec.owner, tree, "etc/passwd", spec)
        uid = found
        if spec.group is None:
            gid = _primary_group(tree, spec.owner, uid)
    if spec.group is not None:
        found = int(spec.group) if spec.group.isdigit() else gid_of(tree, spec.group)
        if found is None:
            raise _nobody("group", spec.group, tree, "etc/group", spec)
        gid = found
    return uid, gid


def _primary_group(tree: Tree, owner: str, uid: int) -> int:
    for line in (tree.read("etc/passwd") or b"").decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        if len(fields) > 3 and (fields[0] == owner or fields[2] == str(uid)) and fields[3].isdigit():
            return int(fields[3])
    return uid


def _nobody(kind: str, name: str, tree: Tree, file: str, spec: FileSpec) -> UsageError:
    names = [line.split(":")[0] for line in (tree.read(file) or b"").decode("utf-8", "replace").splitlines()]
    return UsageError(
        f"{spec.path}: the image has no {kind} '{name}'",
        place=spec.place,
        hint=nearest(name, names) or f"`accounts:` adds a {kind}",
    )


# ---- how the container starts


def settings_for(plan: BuildPlan, health: tuple[str, ...] | None = None) -> ImageSettings:
    """The image's settings: what the family file says, and what the overlay needs where it says nothing.

    `health` is the health check that the services' readiness makes, for an image that names none.
    """
    variant = plan.variant
    env = dict(variant.env)
    entrypoint = variant.entrypoint
    if variant.overlay is not None:
        if entrypoint is None:
            entrypoint = ("/init",)
        if "PATH" not in env and variant.base != "parent":
            from sixsmith.overlay import overlay_settings  # an image without an overlay does not need them

            settings = overlay_settings(variant.overlay.version, symlinks=variant.overlay.symlinks)
            env = {"PATH": settings.path, **env}
    check = variant.healthcheck
    return ImageSettings(
        entrypoint=entrypoint,
        cmd=variant.cmd,
        env=env,
        user=variant.user,
        workdir=variant.workdir,
        ports=variant.ports,
        volumes=variant.volumes,
        stop_signal=variant.stop_signal,
        healthcheck=_healthcheck(check, health),
        labels=variant.labels,
        annotations=variant.annotations,
    )


def _healthcheck(said: AskedHealthcheck | None, health: tuple[str, ...] | None) -> Healthcheck | None:
    if said is not None:
        return Healthcheck(said.command, said.interval, said.timeout, said.start_period, said.retries)
    return Healthcheck(health) if health is not None else None
