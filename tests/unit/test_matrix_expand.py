"""What a family file expands to."""

from __future__ import annotations

import pickle
from pathlib import Path
from textwrap import dedent

import pytest

from sixsmith.errors import MatrixError
from sixsmith.matrix import Family, parse_family
from sixsmith.model.spelled import place_of
from sixsmith.variant import Group, User, Variant


def family(text: str, folder: Path = Path("/nowhere")) -> Family:
    return parse_family(dedent(text).encode(), file="sixsmith.yaml", folder=folder)


def problems(text: str, folder: Path = Path("/nowhere")) -> list[str]:
    with pytest.raises(MatrixError) as caught:
        family(text, folder)
    return [str(problem) for problem in caught.value.problems]


def only(text: str, folder: Path = Path("/nowhere")) -> Variant:
    (cell,) = family(text, folder).cells
    return cell


def test_axes_multiply_in_order_and_alpine_comes_first() -> None:
    cells = family(
        """
        images:
          base:
            matrix: {s6-overlay: [3.2.1.0, 3.2.3.0], alpine: [3.22, 3.23]}
        """
    ).cells
    assert [cell.id for cell in cells] == [
        "base:3.22-3.2.1.0/x86_64",
        "base:3.22-3.2.3.0/x86_64",
        "base:3.23-3.2.1.0/x86_64",
        "base:3.23-3.2.3.0/x86_64",
    ]
    assert cells[0].tags == ("3.22-3.2.1.0",) and cells[0].cell == "base:3.22-3.2.1.0"


def test_an_unquoted_release_is_not_a_number() -> None:
    cell = only("images: {base: {matrix: {alpine: 3.20}}}")
    assert cell.alpine == "3.20" and cell.axes == {"alpine": "3.20"} and cell.tags == ("3.20",)


def test_an_image_without_the_axis_has_no_overlay() -> None:
    assert only("images: {base: {matrix: {alpine: 3.20}}}").overlay is None


def test_a_leading_v_is_the_same_release() -> None:
    cell = only("images: {base: {matrix: {alpine: v3.12, s6-overlay: v2.0.0.1}, tag: '{alpine}-{s6-overlay}'}}")
    assert cell.alpine == "3.12" and cell.tags == ("3.12-2.0.0.1",)
    assert cell.overlay is not None and cell.overlay.version == "2.0.0.1" and cell.overlay.major == 2


def test_a_point_release_is_pinned() -> None:
    cell = only("images: {base: {matrix: {alpine: 3.20.3}}}")
    assert (cell.alpine, cell.alpine_point, cell.tags) == ("3.20", "3.20.3", ("3.20.3",))
    assert only("images: {base: {matrix: {alpine: 3.20}}}").alpine_point is None


def test_architectures_multiply_each_cell() -> None:
    cells = family(
        """
        defaults: {arch: [x86_64, aarch64]}
        images:
          base:
            matrix:
              alpine: [3.19, 3.22]
              include:
                - {alpine: 3.22, arch: [riscv64]}
        """
    ).cells
    assert [cell.id for cell in cells] == ["base:3.19/x86_64", "base:3.19/aarch64", "base:3.22/riscv64"]


def test_include_refines_the_cells_that_agree_and_adds_the_others() -> None:
    cells = family(
        """
        defaults: {packages: [bash]}
        images:
          base:
            packages: [shadow]
            tag: "{alpine}-{s6-overlay}"
            matrix:
              alpine: [3.8, 3.9]
              s6-overlay: [1.21.8.0, 2.0.0.1]
              include:
                - {alpine: 3.9, env: {NINE: "yes"}}
                - {alpine: 3.7, s6-overlay: 1.21.8.0, without: [shadow]}
                - {env: {ALL: "{alpine}"}}
        """
    ).cells
    assert [cell.tags[0] for cell in cells] == [
        "3.8-1.21.8.0",
        "3.8-2.0.0.1",
        "3.9-1.21.8.0",
        "3.9-2.0.0.1",
        "3.7-1.21.8.0",
    ]
    assert [cell.env for cell in cells] == [
        {"ALL": "3.8"},
        {"ALL": "3.8"},
        {"NINE": "yes", "ALL": "3.9"},
        {"NINE": "yes", "ALL": "3.9"},
        {"ALL": "3.7"},
    ]
    assert cells[0].packages == ("bash", "shadow") and cells[4].packages == ("bash",)


def test_include_with_several_values_stands_for_each() -> None:
    cells = family(
        "images: {base: {matrix: {include: [{alpine: [3.22, 3.23], s6-overlay: [3.2.1.0, 3.2.3.0]}]}}}"
    ).cells
    assert [cell.tags[0] for cell in cells] == ["3.22-3.2.1.0", "3.22-3.2.3.0", "3.23-3.2.1.0", "3.23-3.2.3.0"]


def test_a_later_include_refines_what_an_earlier_one_added() -> None:
    cells = family(
        """
        images:
          base:
            matrix:
              include:
                - {alpine: 3.22, s6-overlay: 3.2.3.0}
                - {alpine: 3.22, env: {A: b}}
        """
    ).cells
    assert len(cells) == 1 and cells[0].env == {"A": "b"}


def test_exclude_removes_cells_and_single_architectures() -> None:
    cells = family(
        """
        images:
          base:
            arch: [x86_64, riscv64]
            matrix:
              alpine: [3.19, 3.20, 3.22]
              s6-overlay: [3.2.1.0, 3.2.3.0]
              exclude:
                - {alpine: 3.22, s6-overlay: 3.2.1.0}
                - {alpine: 3.19, arch: riscv64}
        """
    ).cells
    assert [cell.id for cell in cells] == [
        "base:3.19-3.2.1.0/x86_64",
        "base:3.19-3.2.3.0/x86_64",
        "base:3.20-3.2.1.0/x86_64",
        "base:3.20-3.2.1.0/riscv64",
        "base:3.20-3.2.3.0/x86_64",
        "base:3.20-3.2.3.0/riscv64",
        "base:3.22-3.2.3.0/x86_64",
        "base:3.22-3.2.3.0/riscv64",
    ]


def test_custom_axes_fill_packages_env_and_tags() -> None:
    cells = family(
        """
        images:
          node:
            matrix: {alpine: 3.22, node: [20, 22]}
            packages: ["nodejs~{node}"]
            env: {NODE_MAJOR: "{node}", JSON: '{"a": {b}}', LITERAL: "{{node}}"}
            tags: ["{alpine}-{node}", "{node}-{version:nodejs}"]
        """
    ).cells
    assert [cell.packages for cell in cells] == [("nodejs~20",), ("nodejs~22",)]
    assert cells[1].env == {"NODE_MAJOR": "22", "JSON": '{"a": {b}}', "LITERAL": "{node}"}
    assert cells[0].tags == ("3.22-20", "20-{version:nodejs}")
    assert cells[0].axes == {"alpine": "3.22", "node": "20"}


FAMILY = """
    defaults: {arch: [x86_64, aarch64], packages: [bash], entrypoint: [/init], env: {A: defaults, B: defaults}}
    images:
      child:
        from: base
        packages: [nodejs]
        env: {A: child}
        matrix: {alpine: [3.23]}
      base:
        packages: [shadow]
        env: {B: base}
        labels: {l: base}
        annotations: {a: base}
        scripts: skip
        repositories: [main]
        matrix: {alpine: [3.22, 3.23], s6-overlay: 3.2.3.0}
      grandchild:
        from: child
        arch: [aarch64]
"""


def test_a_child_has_its_parents_cells_unless_narrowed() -> None:
    cells = family(FAMILY).cells
    assert [cell.id for cell in cells] == [
        "base:3.22-3.2.3.0/x86_64",
        "base:3.22-3.2.3.0/aarch64",
        "base:3.23-3.2.3.0/x86_64",
        "base:3.23-3.2.3.0/aarch64",
        "child:3.23-3.2.3.0/x86_64",
        "child:3.23-3.2.3.0/aarch64",
        "grandchild:3.23-3.2.3.0/aarch64",
    ]
    assert [cell.parent for cell in cells][4:] == [
        "base:3.23-3.2.3.0/x86_64",
        "base:3.23-3.2.3.0/aarch64",
        "child:3.23-3.2.3.0/aarch64",
    ]


def test_a_child_adds_to_its_parent_and_does_not_repeat_the_defaults() -> None:
    cell = family(FAMILY).cell("child:3.23-3.2.3.0/x86_64")
    assert cell.base == "parent" and cell.overlay is None and cell.axes["s6-overlay"] == "3.2.3.0"
    assert cell.packages == ("nodejs",) and cell.entrypoint is None
    assert cell.env == {"A": "child"}, "the defaults would undo what the parent says"
    assert cell.labels == {} and cell.annotations == {"a": "base"}
    assert cell.scripts == "skip" and [choice.name for choice in cell.repositories] == ["main"]


def test_a_child_may_have_axes_of_its_own_and_an_overlay() -> None:
    cells = family(
        """
        images:
          base: {matrix: {alpine: [3.9, 3.11]}}
          node:
            from: base
            packages: ["nodejs={node}"]
            tag: "{alpine}-{node}"
            matrix:
              alpine: [3.9]
              s6-overlay: 2.0.0.1
              include:
                - {alpine: 3.9, node: 10.14.2-r0}
                - {alpine: 3.9, node: 10.19.0-r0}
                - {alpine: 3.11, node: 12.15.0-r1}
        """
    ).cells
    children = [cell for cell in cells if cell.image == "node"]
    assert [(cell.tags[0], cell.parent, cell.overlay and cell.overlay.version) for cell in children] == [
        ("3.9-10.14.2-r0", "base:3.9/x86_64", "2.0.0.1"),
        ("3.9-10.19.0-r0", "base:3.9/x86_64", "2.0.0.1"),
        ("3.11-12.15.0-r1", "base:3.11/x86_64", None),
    ]
    assert children[1].packages == ("nodejs=10.19.0-r0",)


def test_defaults_meet_the_image() -> None:
    cell = only(
        """
        defaults:
          arch: [x86_64, aarch64]
          packages: [bash, curl]
          entrypoint: [/init]
          env: {A: "1", B: "1"}
          ports: [80]
          scripts: skip
          lint: {ignore: [{rule: R1, reason: known}]}
          accounts: {groups: [{name: one}]}
          files: [{path: /etc/motd, content: one}, {path: /etc/x, content: x}]
        images:
          base:
            matrix: {alpine: 3.22}
            arch: [x86_64]
            packages: [curl, shadow]
            entrypoint: [/bin/sh]
            env: {B: "2"}
            ports: [80/udp, 80]
            scripts: {busybox: sandbox}
            lint: {ignore: [{rule: R2, path: /etc, reason: known}]}
            accounts: {users: [{name: app, uid: 1000, group: one}]}
            files: [{path: /etc/motd, content: two}]
        """
    )
    assert cell.arch.name == "x86_64"
    assert cell.packages == ("bash", "curl", "shadow")
    assert cell.entrypoint == ("/bin/sh",)
    assert cell.env == {"A": "1", "B": "2"}
    assert cell.ports == ("80/tcp", "80/udp")
    assert cell.scripts == "skip" and cell.scripts_by_package == {"busybox": "sandbox"}
    assert [entry["rule"] for entry in cell.lint_ignore] == ["R1", "R2"]
    assert cell.accounts.groups == (Group("one"),) and cell.accounts.users == (User("app", 1000, "one"),)
    assert [(file.path, file.content) for file in cell.files] == [("/etc/x", "x"), ("/etc/motd", "two")]


def test_repositories_are_replaced_and_resolved(tmp_path: Path) -> None:
    (tmp_path / "apks").mkdir()
    (tmp_path / "apks" / "local.rsa.pub").write_text("key")
    cells = family(
        """
        repositories:
          - main
          - {name: local, url: ./apks, key: ./apks/local.rsa.pub}
          - {name: edge, url: "https://example.org/v{alpine}/main/", pin: edge}
        images:
          one: {matrix: {alpine: 3.22}, packages: [nodejs@edge]}
          two: {matrix: {alpine: 3.22}, repositories: [main]}
          three: {matrix: {alpine: edge}, repositories: [main, testing]}
        """,
        tmp_path,
    ).cells
    main, local, edge = cells[0].repositories
    assert main.name == "main" and main.url is None
    assert local.url == str(tmp_path / "apks") and local.key == str(tmp_path / "apks" / "local.rsa.pub")
    assert edge.url == "https://example.org/v3.22/main" and edge.pin == "edge"
    assert [choice.name for choice in cells[1].repositories] == ["main"]
    assert [choice.name for choice in cells[2].repositories] == ["main", "testing"]


def test_default_repositories_are_those_that_the_release_has() -> None:
    cells = family("images: {a: {base: packages, matrix: {alpine: [3.2, 3.3, edge]}}}").cells
    assert [[choice.name for choice in cell.repositories] for cell in cells] == [
        ["main"],
        ["main", "community"],
        ["main", "community"],
    ]


def test_every_key_reaches_the_variant(tmp_path: Path) -> None:
    (tmp_path / "default.conf").write_text("x")
    (tmp_path / "site").mkdir()
    cell = only(
        """
        images:
          web:
            matrix: {alpine: 3.22, s6-overlay: 3.2.3.0}
            s6-overlay-options: {symlinks: true, syslogd: true}
            cmd: [nginx, ""]
            user: app:1000
            workdir: /srv/
            volumes: [/var/lib/app]
            stop-signal: QUIT
            healthcheck: {command: curl -f localhost, interval: 1m30s, timeout: 500ms, start-period: 2s, retries: 3}
            labels: {org.example.x: "{alpine}"}
            accounts: {users: [{name: app, uid: 1000, groups: [www], system: true, shell: /bin/sh}]}
            files:
              - {path: /etc/nginx/http.d/default.conf, source: default.conf, mode: 0640, owner: app, group: 0}
              - {path: /srv/site, source: site}
              - {path: /var/lib/app, type: directory, owner: app, mode: "0750"}
              - {path: /etc/alias, target: motd}
              - {path: /etc/motd, type: absent}
            services:
              prepare: {type: oneshot, up: install -d /run/app}
              nginx: {run: "exec nginx", needs: [prepare], ready: {fd: 3}}
            layers: {strategy: shared, budget: 20}
            compression: zstd
            checks: [{run: [true], within: 5s}]
            budget: {size: 40M, layers: 20}
        """,
        tmp_path,
    )
    assert cell.overlay is not None and (cell.overlay.symlinks, cell.overlay.syslogd) == (True, True)
    assert (cell.cmd, cell.user, cell.workdir) == (("nginx", ""), "app:1000", "/srv")
    assert (cell.volumes, cell.stop_signal) == (("/var/lib/app",), "SIGQUIT")
    assert cell.healthcheck is not None
    assert cell.healthcheck.command == ("/bin/sh", "-c", "curl -f localhost")
    assert (cell.healthcheck.interval, cell.healthcheck.timeout) == (90_000_000_000, 500_000_000)
    assert (cell.healthcheck.start_period, cell.healthcheck.retries) == (2_000_000_000, 3)
    assert cell.labels == {"org.example.x": "3.22"}
    (user,) = cell.accounts.users
    assert (user.groups, user.system, user.shell) == (("www",), True, "/bin/sh")
    conf, site, var, alias, motd = cell.files
    assert (conf.type, conf.source, conf.mode, conf.owner, conf.group) == (
        "file",
        str(tmp_path / "default.conf"),
        0o640,
        "app",
        "0",
    )
    assert (site.type, site.source) == ("directory", str(tmp_path / "site"))
    assert (var.type, var.mode, alias.type, alias.target, motd.type) == (
        "directory",
        0o750,
        "symlink",
        "motd",
        "absent",
    )
    assert isinstance(cell.services, dict)
    assert cell.services["nginx"] == {"run": "exec nginx", "needs": ["prepare"], "ready": {"fd": "3"}}
    place = place_of(cell.services["nginx"]["needs"])
    assert place is not None and place.line == 22
    assert (cell.layers, cell.layer_budget, cell.compression) == ("shared", 20, "zstd")
    assert cell.checks == ({"run": ["true"], "within": 5_000_000_000},)
    assert cell.budget == {"size": "40M", "layers": "20"}


def test_a_folder_of_services_is_named_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "rootfs").mkdir()
    text = "images: {a: {matrix: {alpine: 3.22, s6-overlay: 3.2.3.0}, services: ./rootfs}}"
    assert only(text, tmp_path).services == str(tmp_path / "rootfs")


def test_a_base_may_be_any_image() -> None:
    cell = only("images: {a: {base: 'ghcr.io/x/alpine:{alpine}', matrix: {alpine: 3.22}}}")
    assert cell.base == "ghcr.io/x/alpine:3.22"
    assert only("images: {a: {base: none}}").id == "a:only/x86_64"


def test_anchors_and_merge_keys_work() -> None:
    cell = only(
        """
        x-common: &common {packages: [bash], user: app}
        images:
          base:
            <<: *common
            user: root
            matrix: {alpine: &release 3.22, include: [{alpine: *release, cmd: [sh]}]}
        """
    )
    assert (cell.packages, cell.user, cell.cmd) == (("bash",), "root", ("sh",))


def test_the_family_names_itself_after_its_first_image() -> None:
    text = "images: {b: {matrix: {alpine: 3.22}}, a: {matrix: {alpine: 3.22}}}"
    assert family(text).name == "b" and family(text).images == ("b", "a")
    assert family("name: fam\nregistry: host:5000/team\n" + text).registry == "host:5000/team"


def test_a_variant_travels_to_another_process() -> None:
    cell = only("images: {a: {matrix: {alpine: 3.22, s6-overlay: 3.2.3.0}, services: {x: {needs: [base], run: z}}}}")
    copy = pickle.loads(pickle.dumps(cell))
    assert copy == cell and hash(copy) == hash(cell)
    assert isinstance(copy.services, dict) and isinstance(cell.services, dict)
    assert place_of(copy.services["x"]) == place_of(cell.services["x"]) is not None


def test_values_of_a_variant_are_plain_text() -> None:
    cell = only("images: {a: {matrix: {alpine: 3.22}, packages: [bash], env: {A: b}, cmd: [sh], user: root}}")
    texts = [cell.alpine, cell.image, *cell.tags, *cell.packages, *cell.env, *cell.env.values(), *(cell.cmd or ())]
    assert {type(text) for text in [*texts, cell.user, *cell.axes.values()]} == {str}
