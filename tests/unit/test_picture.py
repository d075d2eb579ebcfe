"""Charts hold the start order; pictures show it, the same everywhere."""

from __future__ import annotations

import shutil
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from service_trees import EXAMPLES, example, services_of, sources_of
from sixsmith.errors import UsageError
from sixsmith.s6.chart import Chart, Mark, chart_of_definitions, chart_of_services
from sixsmith.s6.compile import check_sources
from sixsmith.s6.picture import render_dot, render_text, shown_time
from sixsmith.s6.picture_layout import lay_out
from sixsmith.s6.picture_svg import render_svg
from sixsmith.s6.render import render_services

FORTY = "\n".join(
    [
        "dirs: {up: x}\nusers: {up: x, needs: [dirs]}",
        *(f"{db}-init: {{up: x, needs: [users]}}" for db in ("sql", "cache", "files")),
        *(f"{db}: {{run: x, needs: [{db}-init], timeout: {{up: 30s}}}}" for db in ("sql", "cache", "files")),
        "stores: {contents: [sql, cache, files]}\nmigrate: {up: x, needs: [sql]}",
        *(f"worker-{n}: {{run: x, needs: [migrate, cache]}}" for n in range(8)),
        *(f"job-{n}: {{up: x, needs: [worker-{n}]}}" for n in range(8)),
        *(f"app-{n}: {{run: x, needs: [stores]}}" for n in range(8)),
        "proxy: {run: x, needs: [app-0, app-1, dirs], on-exit: stop-container}\nfilter: {run: x, needs: [users]}",
        "access: {type: pipeline, contents: [proxy, filter]}",
        *(f"tail-{n}: {{run: x, needs: [proxy]}}" for n in range(5)),
    ]
)


def chart(text: str) -> Chart:
    return chart_of_services(services_of(text))


# --- charts


def test_levels_and_arrows_without_what_is_implied() -> None:
    found = chart("a: {up: x}\nb: {run: x, needs: [a]}\nc: {run: x, needs: [b, a]}\nd: {run: x}")
    assert found.levels == {"a": 1, "b": 2, "c": 3, "d": 1}
    assert found.order == ("a", "d", "b", "c")
    assert found.arrows == (("a", "b"), ("b", "c"))


def test_bundles_stand_for_their_members() -> None:
    found = chart("a: {up: x}\nb: {up: x}\ng: {contents: [a, h]}\nh: {contents: [b]}\nc: {run: x, needs: [g]}")
    assert found.marks["c"].waits == ("a", "b")
    assert found.bundles == {"g": ("a", "b"), "h": ("b",)}


def test_a_producer_waits_for_its_consumer() -> None:
    found = chart("a: {run: x, needs: [z]}\nb: {run: y, needs: [z]}\nz: {up: x}\np: {type: pipeline, contents: [a, b]}")
    assert found.levels == {"a": 3, "b": 2, "z": 1}
    assert found.marks["b"].reads == ("a",)
    assert ("b", "a") in found.arrows
    assert found.pipelines == {"p": ("a", "b")}


def test_the_critical_path_goes_by_time_then_by_count() -> None:
    slow = chart(
        "a: {up: x, timeout: {up: 1m}}\nb: {up: x, needs: [a]}\nc: {up: x}\nd: {up: x, needs: [c]}\ne: {up: x, needs: [d]}"
    )
    assert slow.critical_path == ("a", "b")
    assert slow.critical_time is None
    plain = chart("a: {up: x}\nb: {up: x, needs: [a]}\nc: {up: x}")
    assert plain.critical_path == ("a", "b")
    limited = chart("a: {up: x, timeout: {up: 1s}}\nb: {up: x, needs: [a], timeout: {up: 500ms}}")
    assert limited.critical_time == 1500
    assert Chart({}).critical_path == ()


def test_circles_have_no_start_order() -> None:
    circle = Chart({"a": Mark("a", "longrun", ("b",)), "b": Mark("b", "longrun", ("a",))})
    with pytest.raises(UsageError, match="a → b → a wait for each other"):
        render_text(circle)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_rendered_is_drawn_alike(name: str) -> None:
    services = example(name)
    before = chart_of_services(services)
    after = chart_of_definitions(check_sources(sources_of(render_services(services, "3.2.1.0").files)).definitions)
    assert {mark.name: set(mark.waits) for mark in after.marks.values()} == {
        mark.name: set(mark.waits) for mark in before.marks.values()
    }
    for mark in after.marks.values():
        other = before.marks[mark.name]
        assert (mark.kind, mark.ready, mark.timeout, mark.stops) == (
            other.kind,
            other.ready,
            other.timeout,
            other.stops,
        )
        assert bool(mark.log) == bool(other.log)
    assert after.critical_path == before.critical_path


def test_loggers_are_services_when_asked_for() -> None:
    definitions = check_sources(
        sources_of(render_services(services_of("a: {run: x, log: /l}"), "3.2.1.0").files)
    ).definitions
    assert set(chart_of_definitions(definitions).marks) == {"a"}
    whole = chart_of_definitions(definitions, whole=True)
    assert whole.levels == {"a": 3, "a-log": 2, "a-log-prepare": 1}


# --- text and DOT


def test_text() -> None:
    text = render_text(
        chart(
            "a: {up: x, timeout: {up: 90s}}\nb: {run: x, needs: [a], ready: {fd: 3}}\nc: {run: x}\ng: {contents: [b]}"
        )
    )
    assert text.splitlines() == [
        "  1 ○*a  oneshot, ≤ 1m 30s",
        "    ● c  longrun",
        "  2 ●*b  longrun, ready: fd 3  ← a",
        "",
        "bundle g: b",
        "",
        "critical path (2 steps): a → b",
    ]


def test_text_names_a_bundle_for_its_members() -> None:
    text = render_text(chart("a: {up: x}\nb: {up: x}\ng: {contents: [a, b]}\nc: {run: x, needs: [g]}"))
    assert "● c  longrun  ← g" in text.replace("●*", "● ")


def test_times() -> None:
    assert [shown_time(value) for value in (200, 2500, 60_000, 90_000)] == ["200ms", "2.5s", "1m", "1m 30s"]


def test_dot_is_valid_and_quoted() -> None:
    odd = Chart({'a "b"\\': Mark('a "b"\\', "longrun"), "c": Mark("c", "oneshot", ('a "b"\\',))})
    text = render_dot(odd)
    assert '"a \\"b\\"\\\\" -> "c"' in text
    if shutil.which("dot"):
        for drawing in (text, render_dot(chart(FORTY))):
            subprocess.run(["dot", "-Tplain"], input=drawing.encode(), check=True, capture_output=True, timeout=20)


# --- SVG


def test_svg_is_well_formed_and_the_same_each_time() -> None:
    first = render_svg(chart(FORTY))
    assert first == render_svg(chart(FORTY))
    root = ElementTree.fromstring(first)
    boxes = root.findall(".//{*}rect[@class='box longrun']") + root.findall(".//{*}rect[@class='box oneshot']")
    assert len(boxes) == len(chart(FORTY).marks) == 40
    names = {text.text for text in root.findall(".//{*}text[@class='name']")}
    assert names == set(chart(FORTY).marks)


def test_svg_escapes_names() -> None:
    ElementTree.fromstring(render_svg(Chart({"<a&b>": Mark("<a&b>", "longrun", log="<x>")})))
    ElementTree.fromstring(render_svg(Chart({})))


def test_boxes_and_lines_keep_apart() -> None:
    layout = lay_out(chart(FORTY), box=38, bend=4, gap=12)
    for column in layout.columns:
        for upper, lower in pairwise(column):
            assert lower.y - upper.y >= (upper.height + lower.height) / 2 + 12 - 0.2
    for (first, later), way in layout.ways.items():
        assert [spot.column for spot in way] == list(range(way[0].column, way[-1].column + 1))
        assert (way[0].name, way[-1].name) == (first, later)


def test_lines_do_not_cross_where_they_need_not() -> None:
    pairs = "\n".join(f"a{n}: {{up: x}}" for n in range(9)) + "\n"
    pairs += "\n".join(f"b{n}: {{up: x, needs: [a{(n * 4) % 9}]}}" for n in range(9))
    layout = lay_out(chart(pairs), box=38, bend=4, gap=12)
    for spot in layout.columns[0]:
        assert [other.y for other in spot.right] == [spot.y]


def test_thousands_of_services_take_seconds() -> None:
    marks = {f"s{n}": Mark(f"s{n}", "longrun", (f"s{n - 1}",) if n % 50 else ()) for n in range(5000)}
    start = time.perf_counter()
    render_svg(Chart(marks))
    render_text(Chart(marks))
    assert time.perf_counter() - start < 20


# --- the command


def test_the_command_draws_folders(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from sixsmith.cli.services_ import command
    from sixsmith.s6.folder import write_folder

    write_folder(tmp_path / "root", render_services(example("web"), "3.2.1.0").files)
    done = CliRunner().invoke(
        command, ["graph", str(tmp_path / "root"), "--format", "svg", "-o", str(tmp_path / "x.svg")]
    )
    assert done.exit_code == 0, done.output
    assert ElementTree.parse(tmp_path / "x.svg").getroot().tag.endswith("svg")
    done = CliRunner().invoke(command, ["graph", str(tmp_path / "root")])
    assert (
        "critical path (3 steps, at most" in done.output
        or "critical path (3 steps): folders → worker → web" in done.output
    )
