"""Choosing and ordering, one sentence for each case; the answers are apk-tools 2.14's."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from sixsmith.apk.dependency import Dependency
from sixsmith.apk.index import PackageIndex, PackageRecord
from sixsmith.errors import FormatError, Unsatisfiable
from sixsmith.solver import Solution, SolverRepository, solve, why
from sixsmith.solver.universe import bucket_of

BUCKETS = [4750, 12779, 19360, 19487, 4535, 2905, 5189]


def package(spec: str, depends: str = "", provides: str = "", install_if: str = "", priority: int = 0) -> PackageRecord:
    name, _, version = spec.partition("=")
    checksum = "Q1" + b64encode(hashlib.sha1(repr((spec, depends, provides)).encode()).digest()).decode()
    return PackageRecord(
        name,
        version or "1",
        checksum=checksum,
        arch="x86_64",
        size=1,
        installed_size=1,
        depends=depends.split(),
        provides=provides.split(),
        install_if=install_if.split(),
        provider_priority=priority,
    )


def repository(*records: PackageRecord, pin: str | None = None, name: str = "") -> SolverRepository:
    return SolverRepository(PackageIndex.of(records), name, pin)


def ask(
    world: str, *repositories: SolverRepository, installed: tuple[PackageRecord, ...] = (), **options: bool
) -> Solution:
    return solve([Dependency.parse(word) for word in world.split()], repositories, installed=installed, **options)


def steps(solution: Solution) -> list[str]:
    return [f"{step.action} {step.record}" for step in solution.steps]


def subjects(world: str, *repositories: SolverRepository, installed: tuple[PackageRecord, ...] = ()) -> list[str]:
    with pytest.raises(Unsatisfiable) as caught:
        ask(world, *repositories, installed=installed)
    return list(caught.value.subjects)


def test_dependencies_come_first_in_the_order_in_which_they_are_listed() -> None:
    repo = repository(package("a", "c b"), package("b", "d"), package("c"), package("d"))
    assert steps(ask("a", repo)) == ["install c-1", "install d-1", "install b-1", "install a-1"]


def test_the_request_is_sorted_by_name_without_regard_to_case() -> None:
    repo = repository(package("Zed"), package("apple"), package("Bear"))
    assert steps(ask("Zed apple Bear", repo)) == ["install apple-1", "install Bear-1", "install Zed-1"]


def test_circles_are_no_obstacle() -> None:
    repo = repository(package("a", "b"), package("b", "c"), package("c", "a"))
    assert steps(ask("a", repo)) == ["install c-1", "install b-1", "install a-1"]


def test_the_newest_version_wins_wherever_it_is() -> None:
    assert steps(ask("a", repository(package("a=1")), repository(package("a=2")))) == ["install a-2"]


def test_the_first_repository_wins_a_tie() -> None:
    first, second = (
        repository(package("a", provides="v=1"), name="first"),
        repository(package("b", provides="v=1"), name="second"),
    )
    (step,) = ask("v", first, second).steps
    assert (step.record.name, step.repository) == ("a", first)


def test_one_package_in_two_repositories_is_one_package() -> None:
    record = package("a")
    (step,) = ask("a", repository(record, name="one"), repository(record, name="two")).steps
    assert step.repository is not None
    assert step.repository.name == "one"


def test_constraints_narrow_the_choice() -> None:
    repo = repository(package("a=1"), package("a=2"), package("a=3"), package("b", "a<3"))
    assert steps(ask("b", repo)) == ["install a-2", "install b-1"]
    assert steps(ask("a=1", repo)) == ["install a-1"]


def test_no_fallback_when_the_newest_is_broken() -> None:
    assert subjects("a", repository(package("a=2", "gone"), package("a=1"))) == ["gone (no such package)"]


def test_a_bare_virtual_is_never_chosen_silently() -> None:
    repo = repository(package("a", provides="v"), package("b", provides="v"))
    assert subjects("v", repo) == ["v (virtual)"]
    assert steps(ask("v b", repo)) == ["install b-1"]


def test_priority_makes_a_virtual_choosable() -> None:
    repo = repository(package("a", provides="v", priority=1), package("b", provides="v", priority=5))
    assert steps(ask("v", repo)) == ["install b-1"]


def test_an_unversioned_provide_satisfies_no_versioned_dependency() -> None:
    assert subjects("v>=1 a", repository(package("a", provides="v"))) == ["a-1"]


def test_versioned_provides_exclude_each_other() -> None:
    repo = repository(package("a", provides="v=1"), package("b", provides="v=2"))
    assert subjects("a b", repo) == ["a-1", "b-1"]


def test_install_if_comes_right_after_its_last_trigger_and_chains() -> None:
    repo = repository(
        package("a"),
        package("docs"),
        package("a-doc", install_if="a=1 docs"),
        package("a-doc-extra", install_if="a-doc"),
        package("z"),
    )
    assert steps(ask("a docs z", repo)) == [
        "install a-1",
        "install docs-1",
        "install a-doc-1",
        "install a-doc-extra-1",
        "install z-1",
    ]
    assert steps(ask("a docs !a-doc", repo)) == ["install a-1", "install docs-1"]
    assert steps(ask("a", repo)) == ["install a-1"]


def test_a_broken_install_if_breaks_everything() -> None:
    assert subjects("a", repository(package("a"), package("b", "gone", install_if="a"))) == ["gone (no such package)"]


def test_conflicts_of_request_and_packages() -> None:
    repo = repository(package("a", "b"), package("b"), package("c", "!b"))
    assert subjects("a !b", repo) == ["b-1"]
    assert subjects("a c", repo) == ["b-1"]
    assert steps(ask("!b", repo)) == []


def test_a_pinned_repository_serves_only_who_asks() -> None:
    main, edge = repository(package("a=1"), package("b=1")), repository(package("a=2", "b"), package("b=2"), pin="edge")
    assert steps(ask("a", main, edge)) == ["install a-1"]
    assert steps(ask("a@edge", main, edge)) == ["install b-1", "install a-2"]
    assert subjects("c", main, repository(package("c"), pin="edge")) == ["c-1"]


def test_an_unknown_pin_is_refused_before_choosing() -> None:
    with pytest.raises(Unsatisfiable, match="no repository has the pin @egde") as caught:
        ask("a@egde", repository(package("a")), repository(pin="edge"))
    assert caught.value.hint == "did you mean 'edge'?"


def test_installed_packages_stay_unless_something_wants_newer() -> None:
    old = package("a=1")
    repo = repository(package("a=2"), package("b", "a>1"), package("c"))
    assert steps(ask("a c", repo, installed=(old,))) == ["install c-1"]
    assert steps(ask("a b", repo, installed=(old,))) == ["upgrade a-2", "install b-1"]
    assert steps(ask("a", repo, installed=(old,), upgrade=True)) == ["upgrade a-2"]


def test_what_nothing_needs_any_more_goes() -> None:
    installed = (package("a", "lib"), package("lib"), package("b"))
    solution = ask("b", repository(package("b")), installed=installed)
    assert steps(solution) == ["remove a-1", "remove lib-1"]
    assert [str(record) for record in solution.packages] == ["b-1"]


def test_downgrade_and_replacement() -> None:
    assert steps(ask("a=1", repository(package("a=1")), installed=(package("a=2"),))) == ["downgrade a-1"]
    other = package("a", provides="x")
    assert steps(ask("a b", repository(other, package("b", "x")), installed=(package("a"),))) == [
        "replace a-1",
        "install b-1",
    ]


def test_packages_stand_in_database_order() -> None:
    installed = (package("z"), package("a=1"), package("m"))
    solution = ask("z a m n", repository(package("a=2"), package("n", "a>1")), installed=installed)
    assert [str(record) for record in solution.packages] == ["z-1", "m-1", "a-2", "n-1"]


def test_an_empty_request_is_an_empty_solution() -> None:
    assert ask("").steps == ()


def test_very_long_chains_do_not_exhaust_the_stack() -> None:
    count = 5000
    records = [package(f"p{number}", f"p{number + 1}" if number < count else "") for number in range(count + 1)]
    solution = ask("p0", repository(*records))
    assert [step.record.name for step in solution.steps[:2]] == [f"p{count}", f"p{count - 1}"]
    assert subjects("p0", repository(*records[:-1])) == [f"p{count} (no such package)"]


def test_a_malformed_record_is_reported_when_visited() -> None:
    index = PackageIndex.parse(b"C:Q1" + b"A" * 27 + b"=\nP:a\nV:1\nD:b=\n")
    with pytest.raises(FormatError, match="a-1: depends"):
        ask("a", SolverRepository(index))
    assert subjects("c", SolverRepository(index)) == ["c (no such package)"]


def test_table_order_is_that_of_a_hash_table_of_20000_buckets() -> None:
    # MurmurHash3_x86_32 with seed 5381, computed with another implementation
    assert [bucket_of(text) for text in ("", "a", "ab", "abc", "abcd", "musl", "so:libc.musl-x86_64.so.1")] == BUCKETS


# explanations


def message(world: str, *repositories: SolverRepository) -> tuple[str, str | None]:
    with pytest.raises(Unsatisfiable) as caught:
        ask(world, *repositories)
    return caught.value.message, caught.value.hint


def test_explains_a_missing_name_with_the_chain_and_the_nearest_name() -> None:
    repo = repository(package("a", "b"), package("b", "opensl"), package("openssl"))
    text, hint = message("a", repo)
    assert "b-1 needs opensl, which is in no repository (the request asks for a, a-1 needs b)" in text
    assert hint == "did you mean 'openssl'?"


def test_explains_a_virtual_with_its_providers() -> None:
    text, hint = message("v", repository(package("a", provides="v"), package("b", provides="v")))
    assert "the request asks for v, which a and b provide, and none of them is preferred" in text
    assert hint == "ask for a or b by name"


def test_explains_who_forbids_what() -> None:
    text, hint = message("a !b", repository(package("a", "b"), package("b")))
    assert "the request excludes b, but a-1 needs b (the request asks for a)" in text
    assert hint == "drop !b from the request, or what needs it"


def test_explains_a_version_with_what_is_available() -> None:
    text, hint = message("a>5", repository(package("a=1"), package("a=2")))
    assert "the request asks for a>5, but a-2 is what was chosen" in text
    assert hint == "available: a-1 and a-2"


def test_explains_a_clash() -> None:
    text, _ = message("a b", repository(package("a", provides="v=1"), package("b", provides="v=2")))
    assert (
        "a-1 and b-1 both stand for v, and only one may (a: the request asks for a) (b: the request asks for b)" in text
    )


def test_explains_a_pin() -> None:
    text, hint = message("a", repository(package("a"), pin="edge"))
    assert "a-1 is only in repositories pinned @edge (the request asks for a)" in text
    assert hint == "write a@edge"


def test_why_follows_the_shortest_chain() -> None:
    repo = repository(
        package("a", "b lib"), package("b", "lib"), package("l", provides="lib=1"), package("a-doc", install_if="a")
    )
    solution = ask("a", repo)
    assert why(solution, "l") == ["the request asks for a", "a-1 needs lib, which l-1 provides"]
    assert why(solution, "a-doc") == ["the request asks for a", "a-doc-1 comes along where a are installed"]
    assert why(solution, "gone") == []
