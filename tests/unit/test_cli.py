"""The command line: help, JSON documents, what goes to stdout and what to stderr, settings from the environment."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from commandline import FAMILY, Outcome, Workplace, clean_environment, digests
from sixsmith import __version__, catalog
from sixsmith.cli import COMMANDS, group, run
from sixsmith.matrix import load_family, starter_files
from sixsmith.testing.registry import FakeRegistry, Ways
from sixsmith.testing.world import World, make_world

DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")


def all_commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and subcommand by its words."""
    context = click.Context(group)
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for sub in command.list_commands(context):
                found = command.get_command(context, sub)
                assert found is not None
                yield f"{name} {sub}", found


def test_help_shows_every_command_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, about in COMMANDS.items():
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
        assert about.split()[0] in shown
    assert "Exit codes: 0 done, 1 the answer is no" in shown


@pytest.mark.parametrize(("words", "command"), [pytest.param(*each, id=each[0]) for each in all_commands()])
def test_help_of_a_command(words: str, command: click.Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: sixsmith {words}" in shown
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{words} {parameter.name} says nothing"
            assert parameter.help.endswith((".", "]", ")")), parameter.help


@pytest.mark.parametrize(("words", "command"), [pytest.param(*each, id=each[0]) for each in all_commands()])
def test_every_command_has_json(words: str, command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    if isinstance(command, click.Group) or words == "vault serve":
        return
    assert "--json" in options


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


# ---- JSON documents: the keys that others rely on


def test_list_as_json(place: Workplace) -> None:
    place.write(FAMILY.replace("x86_64", "x86_64, aarch64").replace("3.22", "3.12, 3.22"))
    cells = place.run("list", *place.options(), "--json").document["cells"]
    assert [cell["id"] for cell in cells] == [
        f"one:{alpine}-3.2.3.0/{arch}" for alpine in ("3.12", "3.22") for arch in ("x86_64", "aarch64")
    ]
    first = cells[0]
    assert (
        first.items()
        >= {
            "image": "one",
            "tag": "3.12-3.2.3.0",
            "tags": ["3.12-3.2.3.0"],
            "alpine": "3.12",
            "s6_overlay": "3.2.3.0",
            "arch": "x86_64",
            "end_of_support": "2022-05-01",
        }.items()
    )
    assert any("out of support" in advice for advice in first["advisories"])


def test_plan_as_json(place: Workplace) -> None:
    outcome = place.run("plan", *place.options(), "--json")
    (plan,) = outcome.document["plans"]
    assert plan["id"] == "one:3.22-3.2.3.0/x86_64"
    assert DIGEST.match(plan["plan_id"])
    bash = next(package for package in plan["packages"] if package["name"] == "bash")
    assert bash.items() >= {"version": "5.22.16-r1", "repository": "main"}.items()
    assert [layer["kind"] for layer in plan["layers"]] == ["base", "overlay", "verbatim", "spliced", "top"]
    assert not place.dist.exists() and place.roots() == {}, "a plan builds nothing"
    built = place.build("--json").document["images"][0]
    assert built["plan_id"] == plan["plan_id"]
    (again,) = place.run("plan", *place.options(), "--json").document["plans"]
    assert [layer["digest"] for layer in again["layers"]] == [layer["digest"] for layer in built["layers"]]


def test_plan_says_why(place: Workplace) -> None:
    place.write(FAMILY.replace("x86_64", "x86_64, aarch64"))
    outcome = place.run("plan", *place.options(), "--why", "readline")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("readline") >= 2, "for both cells"
    assert "bash" in outcome.out
    missing = place.run("plan", *place.options(), "--why", "readlin")
    assert missing.code == 2 and "did you mean 'readline'?" in missing.err


def test_build_as_json(place: Workplace) -> None:
    outcome = place.build("--json", "--archive", "all.tar")
    (image,) = outcome.document["images"]
    assert (
        image.items()
        >= {"id": "one:3.22-3.2.3.0/x86_64", "reference": "one:3.22-3.2.3.0", "platform": "linux/amd64"}.items()
    )
    assert DIGEST.match(image["digest"])
    assert image["warnings"] == []
    for layer in image["layers"]:
        assert DIGEST.match(layer["digest"]) and DIGEST.match(layer["diff_id"])
        assert layer["size"] == (place.store / "blobs/sha256" / layer["digest"][7:]).stat().st_size
        assert layer["kind"] in ("base", "overlay", "verbatim", "spliced", "top")
    assert (place.folder / "all.tar").is_file()
    (tag,) = outcome.document["tags"]
    layout = json.loads((place.dist / "one/index.json").read_bytes())
    assert [entry["digest"] for entry in layout["manifests"]] == [tag["digest"]]


def test_push_as_json(place: Workplace) -> None:
    with FakeRegistry() as registry:
        (pushed,) = place.run("push", f"{registry.host}/smith", *place.options(), "--json").document["pushed"]
        assert pushed["reference"] == f"{registry.host}/smith/one:3.22-3.2.3.0"
        assert pushed["digest"] == registry.holds("smith/one", "3.22-3.2.3.0")
        assert pushed["uploaded_bytes"] > 400_000
        assert (pushed["mounted"], pushed["skipped"]) == (0, 0)
        (again,) = place.run("push", f"{registry.host}/smith", *place.options(), "--json").document["pushed"]
        assert again["uploaded_bytes"] == 0 and again["digest"] == pushed["digest"]


def test_the_registry_of_the_family_file_and_a_selection(place: Workplace) -> None:
    with FakeRegistry() as registry:
        place.write(f"registry: {registry.host}/mine\n{FAMILY.replace('3.22', '3.12, 3.22')}")
        outcome = place.run("push", "-", "one:3.12*", *place.options(), "--json")
        assert outcome.code == 0, outcome.err
        assert [item["reference"] for item in outcome.document["pushed"]] == [f"{registry.host}/mine/one:3.12-3.2.3.0"]


def test_solve_as_json(place: Workplace) -> None:
    options = [*place.options(), "--alpine", "3.22", "--json"]
    solved = place.run("solve", *options, "bash").document
    assert solved["ok"] is True
    assert solved["install"][-1] == ["bash", "5.22.16-r1"]
    refused = place.run("solve", *options, "bahs")
    assert refused.code == 1
    assert refused.document.items() >= {"ok": False, "subjects": ["bahs (no such package)"]}.items()
    assert "bahs" in refused.document["error"]


def test_solve_with_repositories_in_folders(place: Workplace) -> None:
    main = place.world.mirror / "v3.22/main"
    options = ["--store", place.store, "--keys", place.world.keys, "--json"]
    assert place.run("solve", *options, "--repository", main, "bash").document["ok"] is True
    pinned = place.run("solve", *options, "--repository", f"@edge {main}", "bash@edge")
    assert pinned.document["install"][-1] == ["bash", "5.22.16-r1"], pinned.err
    unpinned = place.run("solve", *options, "--repository", f"@edge {main}", "bash")
    assert unpinned.code == 1, "a pinned repository gives only to NAME@pin"
    nowhere = place.run("solve", *options, "--repository", place.folder / "nowhere", "bash")
    assert nowhere.code == 2 and "no such folder" in nowhere.document["error"]
    none = place.run("solve", "--store", place.store, "bash")
    assert none.code == 2 and "no repository named" in none.err


def test_install_leaves_a_directory_as_it_was_after_an_error(place: Workplace) -> None:
    options = [*place.options(), "--alpine", "3.22", "--json", "--root", place.folder / "root"]
    outcome = place.run("install", *options, "bahs")
    assert outcome.code == 1 and outcome.document["ok"] is False
    assert not (place.folder / "root").exists()


def test_export_as_json(place: Workplace) -> None:
    outcome = place.run("export", "dockerfiles", *place.options(), "--json", "-o", "docker")
    assert outcome.document["written"] == ["docker/one/Dockerfile.3.22-3.2.3.0", "docker/one/update.sh"]
    assert all((place.folder / name).is_file() for name in outcome.document["written"])


@pytest.mark.parametrize(
    "words",
    ["list", "plan", "build", "export dockerfiles", "store verify", "store du", "lock"],
)
def test_stdout_is_one_document_and_nothing_else(place: Workplace, words: str) -> None:
    where = ["--store", str(place.store)] if words.startswith("store") else place.options()
    outcome = place.run(*words.split(), *where, "--json")
    assert outcome.code == 0, outcome.err
    assert isinstance(outcome.document, dict)


# ---- what a person sees


def test_progress_goes_to_stderr_and_the_table_to_stdout(place: Workplace) -> None:
    outcome = place.build()
    assert outcome.out.splitlines()[0].split() == ["IMAGE", "PLATFORM", "SIZE", "LAYERS", "PACKAGES", "TIME"]
    assert outcome.out.splitlines()[1].split()[:2] == ["one:3.22-3.2.3.0", "linux/amd64"]
    assert "one:3.22-3.2.3.0/x86_64: started" in outcome.err
    assert "layer overlay" in outcome.err
    quiet = place.build("-q")
    assert quiet.err == ""
    assert "unchanged" in quiet.out


def test_a_warning_is_said_once_for_many_cells(place: Workplace) -> None:
    place.write(FAMILY.replace("3.22", "3.12").replace("x86_64", "x86_64, aarch64"))
    outcome = place.build("-q")
    assert outcome.err.count("Alpine 3.12 is out of support") == 1


def test_places_come_from_the_environment(place: Workplace) -> None:
    world = place.world
    environment = {
        "SIXSMITH_MIRROR": str(world.mirror),
        "SIXSMITH_OVERLAY_MIRROR": str(world.overlay_mirror),
        "SIXSMITH_STORE": str(place.folder / "elsewhere"),
        "SIXSMITH_KEYS": str(world.keys),
        "SIXSMITH_CHECKSUMS": str(world.checksums),
        "SIXSMITH_OFFLINE": "1",
    }
    outcome = place.run("build", "--json", environment=environment)
    assert outcome.code == 0, outcome.err
    assert digests(outcome) == digests(place.build("--json"))
    assert (place.folder / "elsewhere/oci-layout").is_file()


def test_the_store_is_in_the_users_cache_folder(place: Workplace) -> None:
    options = place.options()[2:]
    assert place.run("build", *options, "-q", environment={"XDG_CACHE_HOME": str(place.folder / "cache")}).code == 0
    assert (place.folder / "cache/sixsmith/oci-layout").is_file()
    assert place.run("build", *options, "-q").code == 0
    assert (place.folder / ".cache/sixsmith/oci-layout").is_file()


def test_offline_never_asks_a_server(place: Workplace) -> None:
    with place.served() as (server, options):
        outcome = place.run("build", *options, "--offline")
        assert outcome.code == 3
        assert "offline" in outcome.err
        assert server.requests == []
        place.nothing_was_made()
        assert place.run("build", *options, "-q").code == 0
        before = len(server.requests)
        assert place.run("build", *options, "-q").code == 0
        fetched = [request.path for request in server.requests[before:] if request.path.endswith((".apk", ".xz"))]
        assert fetched == [], "what the store has is not fetched again"


def test_a_selection_builds_only_that(place: Workplace) -> None:
    place.write(FAMILY.replace("3.22", "3.12, 3.22").replace("x86_64", "x86_64, aarch64"))
    built = place.build("--json", "one:3.1*", "--arch", "aarch64").document
    assert [image["id"] for image in built["images"]] == ["one:3.12-3.2.3.0/aarch64"]
    assert list(place.roots()) == ["one:3.12-3.2.3.0"]


def test_a_reader_that_goes_away_is_no_error_message(place: Workplace) -> None:
    command = f"{' '.join(place.program('list'))} -f {place.file} | true"
    done = subprocess.run(
        ["sh", "-c", command], env=clean_environment(place.folder, {}), capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


# ---- the first five minutes


@pytest.fixture(scope="module")
def today(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The sample world with the releases that `sixsmith init` names."""
    folder = tmp_path_factory.mktemp("today")
    folder_family = tmp_path_factory.mktemp("starter")
    for name, text in starter_files("starter").items():
        (folder_family / name).parent.mkdir(parents=True, exist_ok=True)
        (folder_family / name).write_text(text)
    cells = load_family(folder_family / "sixsmith.yaml").cells
    releases = sorted({cell.alpine for cell in cells})
    overlays = sorted({cell.overlay.version for cell in cells if cell.overlay})
    return make_world(folder, releases=releases, overlays=overlays)


def started(folder: Path, world: World) -> tuple[Workplace, Outcome]:
    place = Workplace(folder, world)
    place.file.unlink()
    return place, place.run("init")


def test_init_then_list_then_build(tmp_path: Path, today: World) -> None:
    place, outcome = started(tmp_path, today)
    assert outcome.code == 0, outcome.err
    assert "wrote sixsmith.yaml" in outcome.out and "`sixsmith list`, then `sixsmith build`" in outcome.out
    listed = place.run("list", "--json").document["cells"]
    newest = catalog.alpine_releases()[-2].name
    assert {cell["alpine"] for cell in listed} >= {newest}
    assert all(cell["supported"] for cell in listed)
    built = place.build("--json")
    assert built.code == 0, built.err
    assert {image["id"] for image in built.document["images"]} == {cell["id"] for cell in listed}
    assert sorted(path.name for path in place.dist.iterdir()) == sorted({cell["image"] for cell in listed})
    assert place.damages() == []


def test_init_overwrites_nothing(place: Workplace) -> None:
    before = place.file.read_text()
    outcome = place.run("init")
    assert outcome.code == 2
    assert "is there already; nothing was written" in outcome.err
    assert place.file.read_text() == before
    assert [path.name for path in place.folder.iterdir()] == ["sixsmith.yaml"]


def test_init_into_a_new_folder_as_json(place: Workplace) -> None:
    written = place.run("init", "new/family", "--json").document["written"]
    assert "new/family/sixsmith.yaml" in written
    assert (place.folder / "new/family/services/hello/run").stat().st_mode & 0o111


# ---- accounts


@pytest.mark.parametrize("tokens", [False, True], ids=["basic", "bearer"])
@pytest.mark.parametrize("where", [".docker/config.json", ".config/containers/auth.json"])
def test_push_with_the_account_of_docker_or_podman(place: Workplace, where: str, tokens: bool) -> None:
    with FakeRegistry(Ways(account=("smith", "hammer"), tokens=tokens)) as registry:
        file = place.folder / where  # the home folder of these tests is the place itself
        file.parent.mkdir(parents=True)
        account = base64.b64encode(b"smith:hammer").decode()
        file.write_text(json.dumps({"auths": {registry.host: {"auth": account}}}))
        outcome = place.run("push", registry.host, *place.options(), "--json")
        assert outcome.code == 0, outcome.err
        assert registry.holds("one", "3.22-3.2.3.0") == outcome.document["pushed"][0]["digest"]
        file.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"smith:anvil").decode()}}}))
        refused = place.run("push", registry.host, *place.options(), "--retries", "0")
        assert refused.code == 3 and "401" in refused.err
        assert "anvil" not in refused.err and "hammer" not in refused.err
