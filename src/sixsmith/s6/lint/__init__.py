"""What is wrong with an image, before it starts: services, scripts, settings, variables, and how the overlay got there.

`lint_image` is a pure function of a tree and settings. The rules are data (`RULES`) and small functions by subject:
`runnable` and `habits` (scripts), `settings`, `environment`, `install`; service definitions are `sixsmith.s6.compile`'s and
`lint_sources`'. Experience of ten years of s6-overlay's issues went into them; each names its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec.structs import replace

from sixsmith.rootfs.tree import OVERLAY, Tree
from sixsmith.s6.compile import OVERLAY_SERVICES, check_sources
from sixsmith.s6.finding import Finding, in_order
from sixsmith.s6.found import FoundOverlay, find_overlay, overlay_of_version
from sixsmith.s6.lint.environment import VARIABLES, check_environment
from sixsmith.s6.lint.habits import check_habits
from sixsmith.s6.lint.ignore import suppressed
from sixsmith.s6.lint.image import Image, Settings
from sixsmith.s6.lint.install import check_install
from sixsmith.s6.lint.rules import LEFT_OUT, RULES, LeftOut, Rule, render_rules, url_of
from sixsmith.s6.lint.runnable import check_runnable
from sixsmith.s6.lint.settings import check_settings
from sixsmith.s6.lint_sources import lint_sources
from sixsmith.s6.sources import SourceDirectory, make_source, sources_from_tree

_LEGACY_PLACES = ("etc/services.d", "etc/cont-init.d", "etc/cont-finish.d", "etc/s6-overlay")

__all__ = [
    "LEFT_OUT",
    "RULES",
    "VARIABLES",
    "FoundOverlay",
    "Image",
    "LeftOut",
    "Rule",
    "Settings",
    "check_environment",
    "find_overlay",
    "lint_image",
    "open_image",
    "render_rules",
    "suppressed",
]


def lint_image(
    tree: Tree,
    settings: Settings | None,
    *,
    overlay_version: str | None = None,
    ignore: Sequence[Mapping[str, str]] = (),
    also: Sequence[Finding] = (),
) -> tuple[Finding, ...]:
    """Everything that is wrong with an image, in order of its places.

    `tree` is the finished image and `settings` its whole config, what it inherits included; None for a folder that has
    none, about which the rules on settings and variables say nothing. `overlay_version` (`v` or not) is found out when it
    is not told. `ignore` are suppressions of the family file; they hold for `also` too, findings that others made of the
    same image (`sixsmith.overlay`'s checks).
    """
    image = open_image(tree, settings, overlay_version=overlay_version)
    also = [replace(finding, reference=url_of(finding.reference)) for finding in also]
    findings = [*also, *_findings(image)]
    return in_order(suppressed(dict.fromkeys(findings), ignore))


def open_image(tree: Tree, settings: Settings | None, *, overlay_version: str | None = None) -> Image:
    """The image as the rules see it. A folder of files that will be copied onto an image is taken to be for v3 unless
    something tells otherwise, and to get the bundles that the overlay brings."""
    overlay = overlay_of_version(overlay_version) if overlay_version else find_overlay(tree)
    image = Image(tree, settings, overlay)
    if not image.partial:
        return image
    if overlay is None and any(place in tree for place in _LEGACY_PLACES):
        overlay = FoundOverlay(3, ())
    user = [f"etc/s6-overlay/{place}/{name}" for place in ("s6-rc.d", "user-bundles.d") for name in ("user", "user2")]
    lacking = [path for path in user if path in tree and f"{path}/type" not in tree]
    if lacking:
        tree = tree.copy()
        for path in lacking:
            tree.write(f"{path}/type", b"bundle\n")
    return Image(tree, settings, overlay)


def _findings(image: Image) -> Iterator[Finding]:
    yield from check_install(image)
    if image.overlay is None:
        return
    yield from _services(image)
    yield from check_runnable(image)
    yield from check_habits(image)
    yield from check_settings(image)
    if image.settings is not None:
        yield from check_environment(image.env, image.overlay, starts_something=image.starts_something)
        yield from _legacy_readiness(image)


def _services(image: Image) -> Iterator[Finding]:
    """C1: the source directories of v3, as its rc.init compiles them."""
    base = f"{image.etc}/s6-overlay"
    if image.major != 3:
        yield from lint_sources((), tree=image.tree)
        if image.source_services:
            yield image.found(
                "R36", f"/{base}/s6-rc.d", f"{len(image.source_services)} services are defined here for s6-overlay v3"
            )
        return
    paths = [f"{base}/s6-rc.d"]
    bundles = f"{base}/user-bundles.d"
    if bundles in image.tree and f"{base}/s6-rc.d/user" not in image.tree:
        paths.append(bundles)
    own = _own_sources(image)
    if own is not None:
        paths.append(own)
    elif not image.partial:
        return  # M1 has said that the overlay is not whole
    elif paths[0] not in image.tree:
        yield from lint_sources((), tree=image.tree)
        return
    if not image.source_services and _is_untouched(image, paths):
        yield from lint_sources((), tree=image.tree)
        return
    sources = sources_from_tree(image.tree, paths)
    if own is None:
        sources = (*sources, _stand_in(sources))
    report = check_sources(sources)
    yield from report.findings
    for finding in lint_sources(sources, report=report, tree=image.tree):
        if not image.partial or not _may_be_below(finding, sources):
            yield finding


def _stand_in(sources: Sequence[SourceDirectory]) -> SourceDirectory:
    """The overlay's own services, for a folder that will be copied onto an image which has them."""
    there = {name for source in sources for name in source.entries}
    files = {
        name: {b"type": b"bundle\n", b"contents.d": None} for name in OVERLAY_SERVICES - there - {b"user", b"user2"}
    }
    return make_source("package/admin/s6-overlay/etc/s6-rc/sources", files)


def _may_be_below(finding: Finding, sources: Sequence[SourceDirectory]) -> bool:
    """Whether a file that is missed may come with the image that this folder is copied onto."""
    if finding.rule == "R24":
        return not any(b"user" in source.entries for source in sources)
    if finding.rule == "R31":
        return "is not in the image" in finding.message
    return (
        finding.rule == "R13"
        and finding.message.startswith("there is no ")
        and not finding.message.startswith("there is no /etc/s6-overlay/")
    )


def _own_sources(image: Image) -> str | None:
    for name in image.names("package/admin"):
        path = f"package/admin/{name}/etc/s6-rc/sources"
        if name.startswith("s6-overlay-") and path in image.tree:
            return path
    return None


def _is_untouched(image: Image, paths: Sequence[str]) -> bool:
    """Whether all that lies in the source directories came with the overlay, so that nothing needs to be read."""
    inside = tuple(f"{path}/" for path in paths)
    nodes = [node for path, node in image.tree.nodes.items() if path.startswith(inside)]
    return bool(nodes) and all(node.origin == OVERLAY for node in nodes)


def _legacy_readiness(image: Image) -> Iterator[Finding]:
    """V7 for an image that has legacy services without readiness, on a release with the short default."""
    waits = image.env.get("S6_CMD_WAIT_FOR_SERVICES", "0").strip("0") != ""
    if image.major != 3 or not waits or "S6_SERVICES_READYTIME" in image.env or image.overlay is None:
        return
    if not image.overlay.before(3, 1, 2, 1):
        return
    for service in image.legacy_services:
        if image.find(f"{image.etc}/services.d/{service}/notification-fd") is None:
            message = "waited for without readiness: its start may be missed"
            yield image.found("V7", f"/{image.etc}/services.d/{service}", message)
