"""`sixsmith lint`: what is wrong with services, scripts and settings, before a container starts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sixsmith.cli.session import Session, family_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sixsmith.io.store import Store
    from sixsmith.looking import SeenImage
    from sixsmith.s6.finding import Finding
    from sixsmith.variant import Variant

__all__ = ["command"]


@click.command("lint")
@click.argument("places", nargs=-1, metavar="[PATH|IMAGE|CELL]...")
@click.option("--arch", "arches", multiple=True, metavar="ARCH", help="Only this architecture (repeatable).")
@click.option("--overlay", metavar="VERSION", help="The s6-overlay that will be laid on a folder of files.")
@click.option("--fix", is_flag=True, help="Mend what has a safe mend, in folders.")
@click.option("--plain-http", is_flag=True, help="The registry has no TLS.")
@click.option("--rules", is_flag=True, help="Print all rules, as Markdown.")
@family_options
def command(
    session: Session,
    places: tuple[str, ...],
    arches: tuple[str, ...],
    overlay: str | None,
    fix: bool,
    plain_http: bool,
    rules: bool,
) -> int:
    """Find what is wrong with services, scripts and image settings.

    PATH is a folder with a root file system (or files for one), an OCI layout, or an archive of either; LAYOUT:TAG names
    one of several images. IMAGE is a reference to a registry. CELL is a cell of the family, with globs; without any the
    whole family is looked at. Exit code 1 when there are errors.
    """
    if rules:
        from sixsmith.s6.lint import render_rules

        click.echo(render_rules(), nl=False)
        return 0
    linter = _Linter(session, arches, _version(overlay), plain_http, fix)
    linter.lint(places)
    linter.show()
    return 1 if any(finding.severity == "error" for finding in linter.findings) else 0


def _version(overlay: str | None) -> str | None:
    from sixsmith.errors import UsageError
    from sixsmith.s6.found import version_order

    try:
        return overlay if overlay is None or version_order(overlay) else None
    except ValueError:
        raise UsageError(f"--overlay: '{overlay}' is no version", hint="for example 3.2.1.0") from None


class _Linter:
    def __init__(
        self, session: Session, arches: tuple[str, ...], overlay: str | None, plain_http: bool, fix: bool
    ) -> None:
        self.session = session
        self.arches = arches
        self.overlay = overlay
        self.plain_http = plain_http
        self.fix = fix
        self.findings: list[Finding] = []
        self.fixed: list[dict[str, Any]] = []

    def lint(self, places: tuple[str, ...]) -> None:
        """Looks at every place: what is on disk, then cells of the family, else references."""
        on_disk = [(place, _on_disk(place)) for place in places]
        elsewhere = [place for place, found in on_disk if found is None]
        for _, found in on_disk:
            if found is not None:
                self.disk(*found, several=len(places) > 1)
        if not places or elsewhere:
            self.elsewhere(elsewhere, whole=not places)

    # ---- on disk

    def disk(self, path: Path, ref: str | None, *, several: bool) -> None:
        from sixsmith.errors import UsageError
        from sixsmith.looking import lint_seen, look_at_disk

        seen = look_at_disk(path, self.arch(), ref=ref)
        if self.fix and seen.folder is None:
            raise UsageError(f"--fix mends folders, and {path} is none")
        findings = lint_seen(seen, overlay_version=self.overlay, cell=seen.name if several else "")
        if self.fix and self.mend_folder(seen, findings):
            seen = look_at_disk(path, self.arch())
            findings = lint_seen(seen, overlay_version=self.overlay, cell=seen.name if several else "")
        self.findings += findings

    def mend_folder(self, seen: SeenImage, findings: Sequence[Finding]) -> bool:
        from sixsmith.looking import files_on_disk, mend_on_disk

        assert seen.folder is not None
        place_of = files_on_disk(seen.folder)
        done = mend_on_disk(seen.tree, findings, overlay_version=self.overlay, place_of=place_of)
        self.fixed += [
            {"path": str(place), "rules": list(mend.rules), "changes": list(mend.changes)} for place, mend in done
        ]
        return bool(done)

    # ---- the family, and registries

    def elsewhere(self, places: list[str], *, whole: bool) -> None:
        cells = self.cells(places, whole)
        with self.session.open_store() as store:
            if cells:
                self.family(cells, store)
            else:
                for place in places:
                    self.reference(place, store, several=len(places) > 1)

    def cells(self, places: list[str], whole: bool) -> tuple[Variant, ...]:
        """The cells that the words name; none when they are no cells but may be references."""
        from sixsmith.errors import UsageError

        if whole or self.session.file.is_file():
            family = self.session.load_family()
            try:
                return self.session.select(family, tuple(places), self.arches)
            except UsageError:
                if whole or not all("/" in place or ":" in place for place in places):
                    raise
        elif not all("/" in place or ":" in place for place in places):
            word = next(place for place in places if "/" not in place and ":" not in place)
            raise UsageError(f"'{word}' is no path, and there is no {self.session.file} here to look for a cell in")
        return ()

    def family(self, cells: tuple[Variant, ...], store: Store) -> None:
        from sixsmith.build import Line
        from sixsmith.looking import lint_cell

        supply = self.session.supply(store)
        line = Line(family=self.session.load_family(), supply=supply, store=store, reporter=self.session.reporter)
        for cell in cells:
            tree, findings = lint_cell(line, cell, supply=supply, store=store, reporter=self.session.reporter)
            if self.fix:
                findings = self.mend_cell(tree, findings, cell)
            self.findings += findings

    def mend_cell(self, tree: Any, findings: tuple[Finding, ...], cell: Variant) -> tuple[Finding, ...]:
        """Mends the family's own files, and returns the findings that are left."""
        from sixsmith.looking import local_files, mend_on_disk

        version = cell.overlay.version if cell.overlay else None
        done = mend_on_disk(tree, findings, overlay_version=version, place_of=local_files)
        self.fixed += [
            {"path": str(place), "rules": list(mend.rules), "changes": list(mend.changes)} for place, mend in done
        ]
        mended = {(f"/{mend.path}", rule) for _, mend in done for rule in mend.rules}
        return tuple(finding for finding in findings if (finding.path, finding.rule) not in mended)

    def reference(self, place: str, store: Store, *, several: bool) -> None:
        from sixsmith.errors import UsageError
        from sixsmith.io.pull import pull_image
        from sixsmith.looking import lint_seen, look_at_image
        from sixsmith.oci.spec import parse_manifest

        if self.fix:
            raise UsageError(f"--fix mends folders, and {place} is none")
        session = self.session
        digest = pull_image(
            place,
            self.arch(),
            store=store,
            http=session.http,
            credentials=session.credentials(),
            plain_http=self.plain_http,
            reporter=session.reporter,
        )
        seen = look_at_image(store, parse_manifest(store.read(digest), what=place), place)
        self.findings += lint_seen(seen, overlay_version=self.overlay, cell=place if several else "")

    def arch(self) -> Any:
        """The architecture that is asked for; without a word, this machine's."""
        import platform

        from sixsmith.model.arch import ARCHES, arch_named

        if self.arches:
            return arch_named(self.arches[0])
        machine = {"amd64": "x86_64", "arm64": "aarch64", "armv7l": "armv7", "armv6l": "armhf", "i686": "x86"}
        name = platform.machine()
        return ARCHES.get(machine.get(name, name), ARCHES["x86_64"])

    # ---- showing

    def show(self) -> None:
        from sixsmith.cli.console import print_json

        counts = {
            kind: sum(finding.severity == kind for finding in self.findings) for kind in ("error", "warning", "info")
        }
        if self.session.json:
            print_json(
                {"findings": [_document(finding) for finding in self.findings], "fixed": self.fixed, **_plural(counts)}
            )
            return
        for mended in self.fixed:
            click.echo(f"{mended['path']}: mended {' '.join(mended['rules'])}: {', '.join(mended['changes'])}")
        for finding, cells in _together(self.findings):
            _print_finding(finding, cells)
        if not self.session.quiet:
            said = ", ".join(
                f"{number} {kind}{'s' * (number != 1 and kind != 'info')}" for kind, number in counts.items() if number
            )
            click.echo(said or "nothing found", err=True)


def _plural(counts: dict[str, int]) -> dict[str, int]:
    return {"errors": counts["error"], "warnings": counts["warning"], "infos": counts["info"]}


def _on_disk(place: str) -> tuple[Path, str | None] | None:
    """The path, and the tag behind it, or None for what is not on disk."""
    path = Path(place)
    if path.exists():
        return path, None
    before, colon, tag = place.rpartition(":")
    if colon and "/" not in tag and before and Path(before).exists():
        return Path(before), tag
    return None


def _document(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        "severity": finding.severity,
        "path": finding.path,
        "line": finding.line,
        "message": finding.message,
        "hint": finding.hint,
        "reference": finding.reference,
        "cell": finding.cell,
    }


def _together(findings: list[Finding]) -> list[tuple[Finding, list[str]]]:
    """Each finding once, with the cells that have it."""
    from msgspec.structs import replace

    cells: dict[Finding, list[str]] = {}
    for finding in findings:
        cells.setdefault(replace(finding, cell=""), []).append(finding.cell)
    return list(cells.items())


def _print_finding(finding: Finding, cells: list[str]) -> None:
    place = f"{finding.path}:{finding.line}" if finding.line else finding.path
    colour = {"error": "red", "warning": "yellow", "info": "cyan"}[finding.severity]
    named = [cell for cell in cells if cell]
    where = f"{named[0]}: " if len(named) == 1 else f"{len(named)} cells: " if named else ""
    click.echo(f"{where}{place}: {click.style(finding.severity, fg=colour)} {finding.rule}: {finding.message}")
    if finding.hint:
        click.echo(f"    {finding.hint}")
    if finding.reference:
        click.echo(f"    {finding.reference}")
