"""S6_* variables by release."""

from __future__ import annotations

import pytest

from sixsmith.s6.lint import VARIABLES, check_environment


def found(env: dict[str, str], version: str | None = "3.2.1.0") -> dict[str, str]:
    """Findings but V5's advice, `rule name` to hint."""
    return {
        f"{finding.rule} {finding.path.removeprefix('ENV ')}": finding.hint
        for finding in check_environment(env, version)
        if finding.rule != "V5"
    }


def test_misspelt_names_get_the_right_one() -> None:
    assert found({"S6_BEHAVIOR_IF_STAGE2_FAILS": "2"}) == {
        "V1 S6_BEHAVIOR_IF_STAGE2_FAILS": "did you mean 'S6_BEHAVIOUR_IF_STAGE2_FAILS'?"
    }
    assert "S6_CMD_WAIT_FOR_SERVICES" in found({"S6_CMD_WAIT_FOR_SERVICE": "1"})["V1 S6_CMD_WAIT_FOR_SERVICE"]
    assert "leave it out" in found({"S6_WHATEVER": "1"})["V1 S6_WHATEVER"]


@pytest.mark.parametrize(
    "name",
    ["S6_OVERLAY_VERSION", "S6_VERSION", "S6_ARCH", "S6_OVERLAY_ARCH", "S6_OVERLAY_SHA256", "TZ", "PATH", "S3_KEY"],
)
def test_variables_of_dockerfiles_are_left_alone(name: str) -> None:
    assert found({name: "x"}) == {}


@pytest.mark.parametrize(
    ("name", "too_old", "first"),
    [
        ("S6_RUNTIME_PROFILE", "1.11.0.0", "1.14.0.3"),
        ("S6_KEEP_ENV", "1.17.0.0", "1.18.0.0"),
        ("S6_CMD_ARG0", "1.17.0.0", "1.18.0.0"),
        ("S6_CMD_WAIT_FOR_SERVICES", "1.18.1.3", "1.18.1.5"),
        ("S6_READ_ONLY_ROOT", "1.20.0.0", "1.21.0.0"),
        ("S6_SYNC_DISKS", "1.21.8.0", "1.22.0.0"),
        ("S6_CATCHALL_USER", "2.2.0.3", "3.0.0.0"),
        ("S6_STAGE2_HOOK", "3.1.1.0", "3.1.1.1"),
        ("S6_VERBOSITY", "3.1.1.0", "3.1.1.1"),
        ("S6_CMD_RECEIVE_SIGNALS", "3.1.1.2", "3.1.2.0"),
        ("S6_SERVICES_READYTIME", "3.1.1.2", "3.1.2.0"),
        ("S6_CMD_USE_TERMINAL", "3.1.4.2", "3.1.5.0"),
        ("S6_YES_I_WANT_A_WORLD_WRITABLE_RUN_BECAUSE_KUBERNETES", "3.2.0.3", "3.2.1.0"),
        ("S6_WAIT_FOR_CLOSING_FD", "3.2.1.0", "3.2.2.0"),
        ("S6_RUNTIME_BUNDLEDIR", "3.2.3.0", "3.2.3.1"),
    ],
)
def test_the_first_release_that_knows_a_variable(name: str, too_old: str, first: str) -> None:
    value = "/x" if VARIABLES[name].kind == "path" else "1"
    assert f"V2 {name}" in found({name: value}, too_old)
    assert first in found({name: value}, too_old)[f"V2 {name}"]
    assert f"V2 {name}" not in found({name: value}, first)
    assert f"V2 {name}" not in found({name: value}, f"v{first}")


def test_global_path_came_and_went() -> None:
    for version, speaks in (("3.0.0.2", True), ("3.0.0.2-1", False), ("3.1.0.0", False), ("3.2.1.0", True)):
        assert ("V2 S6_GLOBAL_PATH" in found({"S6_GLOBAL_PATH": "/bin"}, version)) is speaks, version


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("S6_KEEP_ENV", "true", "write 1"),
        ("S6_READ_ONLY_ROOT", "no", "write 0 or 1"),
        ("S6_KILL_GRACETIME", "5s", "write 5000, milliseconds"),
        ("S6_CMD_WAIT_FOR_SERVICES_MAXTIME", "-1", "write a number of milliseconds; 0 is no limit"),
        ("S6_CMD_WAIT_FOR_SERVICES_MAXTIME", "300", "write 300000 for 300 seconds"),
        ("S6_LOGGING", "3", "it is one of 0, 1, 2"),
        ("S6_BEHAVIOUR_IF_STAGE2_FAILS", "stop", "write a number"),
        ("S6_SYNC_DISKS", "", "write 0 or 1"),
    ],
)
def test_values_of_the_wrong_kind(name: str, value: str, hint: str) -> None:
    assert found({name: value})[f"V3 {name}"] == hint


def test_dangerous_together() -> None:
    both = {"S6_BEHAVIOUR_IF_STAGE2_FAILS": "2", "S6_CMD_WAIT_FOR_SERVICES_MAXTIME": "5000"}
    assert "V6 S6_CMD_WAIT_FOR_SERVICES_MAXTIME" in found(both)
    assert "V6 S6_CMD_WAIT_FOR_SERVICES_MAXTIME" not in found({**both, "S6_CMD_WAIT_FOR_SERVICES_MAXTIME": "0"})
    old = found({"S6_BEHAVIOUR_IF_STAGE2_FAILS": "2"}, "3.1.6.2")
    assert {"V4 S6_CMD_WAIT_FOR_SERVICES_MAXTIME", "V6 S6_CMD_WAIT_FOR_SERVICES_MAXTIME"} <= set(old)


def test_what_needs_a_version_says_nothing_without_one() -> None:
    assert found({"S6_VERBOSITY": "1", "S6_OVERLAY_VERSION": "3.2.1.0"}, None) == {}


def test_no_version_is_refused() -> None:
    with pytest.raises(ValueError, match="latest"):
        check_environment({}, "latest")
