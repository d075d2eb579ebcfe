"""Why not, and why: in sentences.

Both are searches for the shortest chain from the request down: who asks for what, who stands for it. `why` walks the
packages of a solution; `explain` walks the choices that did not fit, and adds who forbids them and what would help.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageRecord
from sixsmith.errors import nearest
from sixsmith.solver.complaint import Complaint, Need
from sixsmith.solver.selection import Selection
from sixsmith.solver.universe import Name, Package, SolverRepository

if TYPE_CHECKING:
    from sixsmith.solver import Solution

__all__ = ["explain", "explain_pins", "why"]

_MOST_NAMED = 6  # names in one sentence


# why not


def explain(found: Sequence[Complaint], selection: Selection) -> tuple[str, str | None]:
    """The message (a summary line, then one line for each complaint) and the hint, if anything is known to help."""
    explainer = _Explainer(selection)
    lines = ["no set of packages fulfils the request"]
    hints: list[str] = []
    told: set[str] = set()
    for complaint in found:
        for line in explainer.sentences(complaint):
            if line not in told:
                told.add(line)
                lines.append(f"  {line}")
        hint = explainer.hint(complaint)
        if hint and hint not in hints:
            hints.append(hint)
    if len(lines) == 1:
        lines.append("  the packages that were chosen contradict each other")
    return "\n".join(lines), "; ".join(hints) or None


def explain_pins(missing: Sequence[Dependency], repositories: Sequence[SolverRepository]) -> tuple[str, str | None]:
    """The same for pins that no repository has."""
    known = sorted({repository.pin for repository in repositories if repository.pin})
    first = missing[0]
    wanted = _listed([f"'{entry}'" for entry in missing])
    message = f"the request asks for {wanted}, but no repository has the pin @{first.pin}"
    return message, nearest(first.pin, known) or (f"known pins: {_listed(known)}" if known else None)


class _Explainer:
    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.universe = selection.universe
        self._above = self._find_chains()

    def _find_chains(self) -> dict[Package, Need]:
        """For each chosen package, who asks for it, by the shortest way from the request."""
        above: dict[Package, Need] = {}
        waiting: deque[Package] = deque()

        def ask(by: Package | None, needs: Iterable[tuple[Name, Dependency]]) -> None:
            for name, wanted in needs:
                package = name.chosen
                if package is not None and not wanted.conflict and package not in above:
                    above[package] = (by, wanted)
                    waiting.append(package)

        ask(None, self.selection.world)
        while waiting:
            package = waiting.popleft()
            ask(package, package.needs)
        return above

    # sentences

    def sentences(self, complaint: Complaint) -> list[str]:
        if complaint.name is not None:
            return [self._about_name(complaint, complaint.name)]
        assert complaint.package is not None  # a complaint has one or the other
        package = complaint.package
        lines = []
        if complaint.masked_in:
            pins = _listed([f"@{pin}" for pin in complaint.masked_in])
            lines.append(f"{package.record} is only in repositories pinned {pins}{self._reason(package)}")
        for other, name in complaint.clashes:
            lines.append(self._about_clash(package, other, name))
        for by, wanted in complaint.broken_for[:_MOST_NAMED]:
            lines.append(self._about_break(package, by, wanted, complaint.needed_by))
        return lines

    def _about_name(self, complaint: Complaint, name: Name) -> str:
        needs = [need for need in complaint.needed_by if need[0] is None] or complaint.needed_by
        asked = f"{_asker(needs[0])} {needs[0][1].wants}" if needs else f"something needs {name.text}"
        chain = self._reason(needs[0][0]) if needs else ""
        if not name.providers:
            return f"{asked}, which is in no repository{chain}"
        providers = list(dict.fromkeys(package.record.name for package, _ in name.providers))
        if len(providers) == 1:
            return f"{asked}, which only {providers[0]} provides, without a version, so it must be asked for by name{chain}"
        return f"{asked}, which {_listed(providers)} provide, and none of them is preferred{chain}"

    def _about_clash(self, package: Package, other: Package, name: Name) -> str:
        if other is package:
            return f"{package.record} provides {name.text} twice"
        pair = sorted((package, other), key=lambda one: str(one.record))
        reasons = "".join(self._reason(one, f"{one.record.name}: ") for one in pair)
        if package.name is other.name:
            return f"{pair[0].record} and {pair[1].record} cannot be installed together{reasons}"
        return f"{pair[0].record} and {pair[1].record} both stand for {name.text}, and only one may{reasons}"

    def _about_break(self, package: Package, by: Package | None, wanted: Dependency, needed_by: list[Need]) -> str:
        if wanted.conflict:
            forbids = f"the request excludes {wanted.wants}" if by is None else f"{by.record} excludes {wanted.wants}"
            wants = [need for need in needed_by if need[0] is not None or not need[1].conflict]
            asked = [need for need in wants if not need[1].conflict]
            if asked:
                first = asked[0]
                return f"{forbids}, but {_asker(first)} {first[1].wants}{self._reason(first[0])}{self._reason(by)}"
            return f"{forbids}, but {package.record} was chosen{self._reason(package)}{self._reason(by)}"
        return f"{_asker((by, wanted))} {wanted.wants}, but {package.record} is what was chosen{self._reason(by)}"

    def _reason(self, package: Package | None, label: str = "") -> str:
        """How the request comes to a package: ` (the request asks for a, a needs b)`; empty for the request itself."""
        links: list[str] = []
        while package is not None and package in self._above:
            by, wanted = self._above[package]
            links.append(f"{_asker((by, wanted))} {wanted.wants}")
            package = by
        return f" ({label}{', '.join(reversed(links))})" if links else ""

    # what would help

    def hint(self, complaint: Complaint) -> str | None:
        if complaint.name is not None:
            return self._hint_for_name(complaint.name)
        package = complaint.package
        assert package is not None  # a complaint has one or the other
        if complaint.masked_in:
            return f"write {package.record.name}@{complaint.masked_in[0]}"
        for by, wanted in complaint.broken_for:
            if by is None and not wanted.conflict:
                return self._hint_for_version(package, wanted)
            if by is None:
                return f"drop !{wanted.wants} from the request, or what needs it"
        if complaint.clashes:
            return f"ask for one of {_listed(sorted({package.record.name, complaint.clashes[0][0].record.name}))} only"
        return None

    def _hint_for_name(self, name: Name) -> str | None:
        if name.providers:
            return f"ask for {_listed(list(dict.fromkeys(p.record.name for p, _ in name.providers)), 'or')} by name"
        names: set[str] = set()
        for repository in self.universe.repositories:
            names.update(repository.index.offered_names() if ":" in name.text else repository.index.names())
        prefix = name.text.partition(":")[0] + ":" if ":" in name.text else ""
        return nearest(name.text, [one for one in names if one.startswith(prefix)])

    def _hint_for_version(self, package: Package, wanted: Dependency) -> str | None:
        name = self.universe.name(wanted.name)
        offered = list(dict.fromkeys(f"{one.record}" for one, _ in name.providers))
        fitting = [
            str(one.record) for one, version in name.providers if wanted.accepts_key(version, one.record.checksum)
        ]
        if fitting:
            return f"{_listed(fitting)} would fit, but something else stands in its way"
        return f"available: {_listed(offered)}"


def _asker(need: Need) -> str:
    return "the request asks for" if need[0] is None else f"{need[0].record} needs"


def _listed(words: Sequence[str], last: str = "and") -> str:
    shown = list(words[:_MOST_NAMED])
    if len(words) > _MOST_NAMED:
        shown.append(f"{len(words) - _MOST_NAMED} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}"


# why


def why(solution: Solution, package: str) -> list[str]:
    """How the request comes to a package: one sentence for each link of the shortest chain, the request first.

    Empty when the solution has no package of that name.
    """
    by_name = {record.name: record for record in solution.packages}
    if package not in by_name:
        return []
    links = _find_links(solution, by_name)
    chain: list[str] = []
    record: PackageRecord | None = by_name[package]
    met: set[str] = set()
    while record is not None and record.name not in met:
        met.add(record.name)
        if record.name not in links:
            chain.append(f"{record} was installed before")
            break
        record, sentence = links[record.name]
        chain.append(sentence)
    chain.reverse()
    return chain


def _find_links(solution: Solution, by_name: dict[str, PackageRecord]) -> dict[str, tuple[PackageRecord | None, str]]:
    """For each package that the request leads to: what leads to it directly, and the sentence that says so."""
    providers: dict[str, list[PackageRecord]] = {name: [record] for name, record in by_name.items()}
    for record in solution.packages:
        for offered, _ in record.offered:
            providers.setdefault(offered, []).append(record)
    links: dict[str, tuple[PackageRecord | None, str]] = {}
    waiting: deque[PackageRecord] = deque()

    def reach(record: PackageRecord, by: PackageRecord | None, sentence: str) -> None:
        if record.name not in links:
            links[record.name] = (by, sentence)
            waiting.append(record)

    def ask(by: PackageRecord | None, entries: Iterable[Dependency]) -> None:
        asker = "the request asks for" if by is None else f"{by} needs"
        for entry in entries:
            if entry.conflict:
                continue
            for record in providers.get(entry.name, ()):
                stands = "" if record.name == entry.name else f", which {record} provides"
                reach(record, by, f"{asker} {entry.wants}{stands}")

    ask(None, solution.world)
    while True:
        while waiting:
            record = waiting.popleft()
            ask(record, record.dependencies)
        triggered = _next_triggered(solution, links, providers)
        if triggered is None:
            return links
        record, last = triggered
        together = _listed([entry.wants for entry in record.triggered_by])
        reach(record, last, f"{record} comes along where {together} are installed")


def _next_triggered(
    solution: Solution,
    links: dict[str, tuple[PackageRecord | None, str]],
    providers: dict[str, list[PackageRecord]],
) -> tuple[PackageRecord, PackageRecord | None] | None:
    """A package that came by `install_if`, all of whose triggers are explained, with the last of them."""
    for record in solution.packages:
        if record.name in links or not record.install_if:
            continue
        last: PackageRecord | None = None
        for entry in record.triggered_by:
            if entry.conflict:
                continue
            last = next((one for one in providers.get(entry.name, ()) if one.name in links), None)
            if last is None:
                break
        else:
            return record, last
    return None
