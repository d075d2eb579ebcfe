"""Each lint rule: its smallest failing and its smallest passing example, and the page that lists them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lint_world import EXAMPLES, Example, lint, longrun, small_image
from sixsmith.oci.image import ImageSettings
from sixsmith.s6.lint import LEFT_OUT, RULES, lint_image, render_rules

DECIDED_ELSEWHERE = {
    "I14": "sixsmith.overlay.check_base, tests/unit/test_overlay.py",
    "M4": "sixsmith.overlay.check_bundles",
    "M5": "sixsmith.overlay.check_bundles",
    "M6": "sixsmith.overlay.check_bundles",
    "M7": "sixsmith.overlay.check_bundles",
    "M8": "sixsmith.overlay.check_bundles",
    "M11": "sixsmith.overlay.lay_overlay",
    "M18": "sixsmith.overlay.lay_overlay",
    "R35": "wants thousands of services: tests/unit/test_s6_compile.py",
    "X1": "sixsmith.s6.render, tests/unit/test_s6_render.py",
    "X2": "sixsmith.s6.render, tests/unit/test_s6_render.py",
    "X3": "sixsmith.s6.render, tests/unit/test_s6_render.py",
    "L1": "tests/unit/test_lint_ignore.py",
    "L2": "tests/unit/test_lint_ignore.py",
}
"""Rules whose examples are somewhere else, and where."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_smallest_failing_example(example: Example) -> None:
    found = lint(example.version, example.bad, example.bad_settings)
    mine = [finding for finding in found if finding.rule == example.rule]
    assert mine, [str(finding) for finding in found]
    assert all(finding.message and finding.hint and finding.path for finding in mine)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_smallest_passing_example(example: Example) -> None:
    version = example.version if example.good_version == "" else example.good_version
    found = lint(version, example.good, example.good_settings, example.owners)
    assert not [str(finding) for finding in found if finding.rule == example.rule]


def test_every_rule_has_examples() -> None:
    assert set(RULES) == {example.rule for example in EXAMPLES} | set(DECIDED_ELSEWHERE)


def test_left_out_are_no_rules() -> None:
    assert not {left.id for left in LEFT_OUT} & set(RULES)


@pytest.mark.parametrize("version", ["3.2.1.0", "3.1.6.2", "2.1.0.2", "1.21.4.0"])
def test_a_plain_image_has_nothing_wrong(version: str) -> None:
    found = lint_image(small_image(version), ImageSettings(entrypoint=("/init",)))
    assert not [str(finding) for finding in found if finding.severity != "info" and finding.rule not in ("V9", "M15")]


def test_a_sound_service_has_nothing_wrong() -> None:
    found = lint("3.2.1.0", longrun(), {})
    assert not [str(finding) for finding in found if finding.severity != "info"]


def test_the_page_is_rendered_from_the_rules() -> None:
    page = Path(__file__).parents[2] / "docs/lint-rules.md"
    assert page.read_text() == render_rules(), "run `sixsmith lint --rules > docs/lint-rules.md`"
