"""Verdicts that no real overlay would let happen: made-up logs and states."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sixsmith.boot.boot import ALL_CHECKS
from sixsmith.boot.checks import Stop, check_oneshots, check_stop
from sixsmith.boot.container import LogLine
from sixsmith.boot.observation import Observation, Terms
from sixsmith.boot.supervision import Layout, Service
from sixsmith.boot.trials import shorter_terms


def seen(lines: list[str], needs: dict[str, tuple[str, ...]] | None = None, *, major: int = 3) -> Observation:
    """An observation of a container that wrote these lines, whose services need each other so."""
    container: Any = SimpleNamespace(lines=[LogLine(0.0, line) for line in lines], end=None, pump=lambda seconds: None)
    supervision: Any = SimpleNamespace(layout=Layout(major), dependencies=lambda name: (needs or {}).get(name, ()))
    machine: Any = SimpleNamespace(image=SimpleNamespace(stop_signal="SIGTERM"))
    services = {
        "prepare": Service("prepare", "oneshot", True),
        "web": Service("web", "longrun", True, None, 7),
    }
    return Observation(machine, container, supervision, Terms(), True, 1, services)


def started(*names: str) -> list[str]:
    return [f"s6-rc: info: service {name} successfully started" for name in names]


def stopped(*names: str) -> list[str]:
    return [f"s6-rc: info: service {name} successfully stopped" for name in names]


def test_what_starts_before_its_needs_is_noticed() -> None:
    needs = {"web": ("prepare",)}
    assert check_oneshots(seen(started("prepare", "web"), needs)).status == "passed"
    wrong = check_oneshots(seen(started("web", "prepare"), needs))
    assert (wrong.status, wrong.message) == ("failed", "web started before prepare, which it needs")


def test_scripts_of_cont_init_run_in_the_order_of_their_names() -> None:
    lines = ["cont-init: info: /etc/cont-init.d/20-b exited 0", "cont-init: info: /etc/cont-init.d/10-a exited 0"]
    assert "did not run in the order of their names" in check_oneshots(seen(lines)).message
    assert check_oneshots(seen(lines[::-1])).message == "3 ran, in order"
    old = ["[cont-init.d] 10-a: exited 0.", "[cont-init.d] 20-b: exited 9."]
    assert check_oneshots(seen(old, major=1)).message == "cont-init.d/20-b exited 9"


def test_what_stops_before_its_dependents_is_noticed() -> None:
    stop = Stop(100, (), (), {"web": ("prepare",)})
    assert check_stop(seen(stopped("web", "prepare")), stop).status == "passed"
    wrong = check_stop(seen(stopped("prepare", "web")), stop)
    assert (wrong.status, wrong.message) == ("failed", "prepare stopped before web, which needs it")


def test_what_is_cut_short_while_stopping_is_noticed() -> None:
    wrong = check_stop(seen(["s6-rc: fatal: timed out"]), Stop(100, (), (), {}))
    assert wrong.status == "failed" and "not everything stopped by itself" in wrong.message
    missed = check_stop(seen([]), Stop(100, ("web",), ("web", "db"), {}))
    assert missed.message == "the finish script of db was never run"


def test_a_trial_gets_a_multiple_of_what_the_first_boot_took() -> None:
    short = shorter_terms(Terms(), 200, 1000)
    assert (short.timeout, short.stop_time) == (5.0, 6.0)
    assert shorter_terms(Terms(timeout=2.0, stop_time=1.0), 5000, 5000) == Terms(timeout=2.0, stop_time=1.0)
    assert shorter_terms(Terms(), None, None) == Terms()
    # emulated programs took longer already
    assert shorter_terms(Terms(patience=10.0), 2000, None).timeout == 5.0


def test_every_built_in_check_has_a_name_of_its_own() -> None:
    assert len(set(ALL_CHECKS)) == len(ALL_CHECKS) == 16
