"""Dockerfiles and `update.sh`, in the layout of the article that the project started from.

`IMAGE/Dockerfile.TAG` for each tag and `IMAGE/update.sh [REGISTRY]`. Improved over hand-written ones: every download is checked
against a sha256 that stands in the file, su-exec is Alpine's package (no compiler comes and goes), the old tarballs'
group-writable directories are mended, and one file serves every architecture that the family names.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from sixsmith.catalog import overlay_files
from sixsmith.errors import UsageError
from sixsmith.model.digest import Digest, hex_of
from sixsmith.variant import FileSpec, Healthcheck, Variant

__all__ = ["DockerfileTree", "render_dockerfiles"]

OverlayDigest = Callable[[str, str], Digest]
"""(version, file name) → digest; fetches the file where nothing else knows."""

_HEADER = "# Written by `sixsmith export dockerfiles`; change sixsmith.yaml and export again.\n"
_OLD_DIRECTORIES = "/ /etc /usr /usr/bin /bin /sbin /libexec /var"


class DockerfileTree(msgspec.Struct, frozen=True):
    """Files by path below the export folder: text, or the path of a file to copy. `scripts` are to be executable."""

    texts: Mapping[str, str]
    copies: Mapping[str, str]
    scripts: frozenset[str]


def render_dockerfiles(
    cells: Sequence[Variant], *, registry: str | None, overlay_digest: OverlayDigest
) -> DockerfileTree:
    """The tree for these cells; the cells of one tag, one for each architecture, become one file.

    Raises UsageError for what a Dockerfile cannot say: a `packages` base, tags that need a solution, repositories in local folders.
    """
    files = _Files()
    scripts: set[str] = set()
    by_cell: dict[str, list[Variant]] = {}
    for cell in cells:
        by_cell.setdefault(cell.cell, []).append(cell)
    tag_of = {id_: _tag(group[0]) for id_, group in by_cell.items()}
    images: dict[str, list[str]] = {}
    for id_, group in by_cell.items():
        image = group[0].image
        beside = _Files(f"files/{tag_of[id_]}/")
        files.texts[f"{image}/Dockerfile.{tag_of[id_]}"] = _dockerfile(
            group, registry or "", tag_of, overlay_digest, beside
        )
        files.texts |= {f"{image}/{path}": text for path, text in beside.texts.items()}
        files.copies |= {f"{image}/{path}": source for path, source in beside.copies.items()}
        images.setdefault(image, []).append(tag_of[id_])
    for image, tags in images.items():
        platforms = sorted({str(cell.arch.platform) for cell in cells if cell.image == image})
        files.texts[f"{image}/update.sh"] = _update_script(image, tags, platforms, registry or "localhost:5000")
        scripts.add(f"{image}/update.sh")
    return DockerfileTree(files.texts, files.copies, frozenset(scripts))


class _Files(msgspec.Struct):
    """What goes beside a Dockerfile, by path: written from here, or copied from the family's folder."""

    folder: str = ""
    texts: dict[str, str] = msgspec.field(default_factory=dict)
    copies: dict[str, str] = msgspec.field(default_factory=dict)

    def name(self, label: str) -> str:
        """A path that no other file has."""
        return f"{self.folder}{len(self.texts) + len(self.copies)}-{label}"


def _tag(cell: Variant) -> str:
    tag = cell.tags[0]
    if "{version:" in tag:
        axes = "-".join(cell.axes.values())
        return (
            axes or "latest"
        )  # the version is known after a solution only; a Dockerfile's name must not depend on the day
    return tag


def _dockerfile(
    group: Sequence[Variant],
    registry: str,
    tag_of: Mapping[str, str],
    overlay_digest: OverlayDigest,
    beside: _Files,
) -> str:
    cell = group[0]
    if cell.services is not None:
        raise UsageError(
            f"{cell.id}: `services:` cannot be exported",
            place=cell.place,
            hint="put them into `files:` as they shall be in the image",
        )
    for other in group[1:]:
        if (other.packages, other.env, other.files) != (cell.packages, cell.env, cell.files):
            raise UsageError(
                f"{cell.cell}: differs between {cell.arch} and {other.arch}; one Dockerfile cannot say that",
                hint="export one architecture with --arch",
            )
    parts = [_HEADER]
    needs_overlay = cell.overlay is not None
    if needs_overlay:
        parts.append("ARG S6_OVERLAY_MIRROR=https://github.com/just-containers/s6-overlay/releases/download\n")
    parts.append("ARG ALPINE_MIRROR=https://dl-cdn.alpinelinux.org/alpine\n\n")
    parts.append(f"FROM {_from(cell, registry, tag_of)}\n")
    parts.append("ARG ALPINE_MIRROR\n")
    if needs_overlay:
        parts.append("ARG S6_OVERLAY_MIRROR\n")
    if cell.packages:
        parts.append("\n" + _keys(cell, beside) + _packages(cell))
    if needs_overlay:
        parts.append("\n" + _overlay(group, overlay_digest))
    accounts = _accounts(cell)
    if accounts:
        parts.append("\n" + accounts)
    parts += [_file(spec, beside) for spec in cell.files]
    parts.append(_settings(cell))
    return "".join(parts)


def _from(cell: Variant, registry: str, tag_of: Mapping[str, str]) -> str:
    if cell.parent is not None:
        parent = cell.parent.rpartition("/")[0]
        image = parent.partition(":")[0]
        return f"{registry + '/' if registry else ''}{image}:{tag_of.get(parent, parent.partition(':')[2])}"
    if cell.base == "minirootfs":
        return f"alpine:{cell.alpine_point or cell.alpine}"
    if cell.base in ("packages", "none"):
        raise UsageError(
            f"{cell.id}: a Dockerfile cannot start from `base: {cell.base}`", hint="use `base: minirootfs`"
        )
    return cell.base


def _keys(cell: Variant, beside: _Files) -> str:
    """The public keys of repositories that have one of their own: `apk add` asks for them."""
    lines = []
    for repository in cell.repositories:
        if repository.key is not None:
            name = beside.name(Path(repository.key).name)
            beside.copies[name] = repository.key
            lines.append(f"COPY {json.dumps([name, f'/etc/apk/keys/{Path(repository.key).name}'])}\n")
    return "".join(lines)


def _packages(cell: Variant) -> str:
    """`apk add` from exactly the cell's repositories, whatever the base image's own file says."""
    lines = []
    for repository in cell.repositories:
        if repository.url is None:
            branch = cell.alpine if cell.alpine == "edge" else f"v{cell.alpine}"
            url = f'"$ALPINE_MIRROR/{branch}/{repository.name}"'
        elif "://" in repository.url:
            url = shlex.quote(repository.url)
        else:
            raise UsageError(
                f"{cell.id}: repository '{repository.name}' is a local folder, which a Dockerfile cannot reach",
                hint="serve it over http and name its URL",
            )
        lines.append(f"-X {url}" if repository.pin is None else f'-X "@{repository.pin} {repository.url}"')
    packages = " ".join(shlex.quote(package) for package in cell.packages)
    options = " \\\n      ".join(["--no-cache --repositories-file /dev/null", *lines])
    return f"RUN apk add {options} \\\n      {packages}\n"


def _overlay(group: Sequence[Variant], overlay_digest: OverlayDigest) -> str:
    choice = group[0].overlay
    assert choice is not None
    cases = []
    for cell in group:
        pairs = []
        for name in overlay_files(choice.version, cell.arch, symlinks=choice.symlinks, syslogd=choice.syslogd):
            pairs.append(f"{name}:{hex_of(overlay_digest(choice.version, name))}")
        joined = " \\\n            ".join(pairs)
        cases.append(f"        {cell.arch.name}) set -- \\\n            {joined} ;; \\\n")
    flag = "-xJpf" if choice.major >= 3 else "-xzpf"
    mend = f" \\\n    && chmod g-w {_OLD_DIRECTORIES}" if choice.major < 3 else ""
    return (
        f"# s6-overlay {choice.version}: every file is checked before it is unpacked\n"
        "RUN set -eu; \\\n"
        '    case "$(apk --print-arch)" in \\\n'
        + "".join(cases)
        + f'        *) echo "no s6-overlay {choice.version} here for $(apk --print-arch)" >&2; exit 1 ;; \\\n'
        "    esac; \\\n"
        "    for file; do \\\n"
        '        name="${file%%:*}"; \\\n'
        f'        wget -O "/tmp/$name" "$S6_OVERLAY_MIRROR/v{choice.version}/$name"; \\\n'
        '        echo "${file#*:}  /tmp/$name" | sha256sum -c -; \\\n'
        f'        tar -C / {flag} "/tmp/$name"; \\\n'
        '        rm "/tmp/$name"; \\\n'
        f"    done{mend}\n"
    )


def _accounts(cell: Variant) -> str:
    """Groups, then users, as `build` adds them: what is there already stays, and a user's own group has its number."""
    commands = []
    for group in cell.accounts.groups:
        commands.append(_unless_there("group", group.name, _add_group(group.name, group.gid, system=group.system)))
    for user in cell.accounts.users:
        own_group = user.group or user.name
        if own_group == user.name and all(group.name != own_group for group in cell.accounts.groups):
            add = _add_group(own_group, user.uid, system=user.system)
            plain = "" if user.uid is None else " || " + _add_group(own_group, None, system=user.system)
            commands.append(_unless_there("group", own_group, add + plain))
        words = ["adduser", "-D"]
        words += ["-S"] if user.system else []
        words += ["-u", str(user.uid)] if user.uid is not None else []
        words += ["-G", own_group]
        words += ["-h", user.home] if user.home else ["-H"] if user.system else []
        words += ["-s", user.shell] if user.shell else []
        words += ["-g", user.gecos or user.name]
        commands.append(_unless_there("passwd", user.name, shlex.join([*words, user.name])))
        commands += [shlex.join(["addgroup", user.name, group_name]) for group_name in user.groups]
    for group in cell.accounts.groups:
        commands += [shlex.join(["addgroup", member, group.name]) for member in group.members]
    if not commands:
        return ""
    commands.append("rm -f /etc/passwd- /etc/group- /etc/shadow-")
    return "RUN " + " \\\n    && ".join(commands) + "\n"


def _add_group(name: str, gid: int | None, *, system: bool) -> str:
    return shlex.join(["addgroup", *(["-S"] if system else []), *(["-g", str(gid)] if gid is not None else []), name])


def _unless_there(file: str, name: str, command: str) -> str:
    return f"{{ grep -q {shlex.quote(f'^{name}:')} /etc/{file} || {command}; }}"


def _file(spec: FileSpec, beside: _Files) -> str:
    path = "/" + spec.path.strip("/")
    quoted = shlex.quote(path)
    owner = f"{spec.owner or 0}:{spec.group or spec.owner or 0}"
    if spec.type == "directory" and spec.source is None:
        return f"RUN mkdir -p {quoted} && chmod {spec.mode or 0o755:04o} {quoted} && chown {owner} {quoted}\n"
    if spec.type == "symlink":
        return (
            f"RUN mkdir -p {shlex.quote(str(Path(path).parent))} && ln -sfn {shlex.quote(spec.target or '')} {quoted}\n"
        )
    if spec.type == "absent":
        return f"RUN rm -rf {quoted}\n"
    name = beside.name(Path(path).name)
    if spec.source is not None:
        beside.copies[name] = spec.source
    else:
        beside.texts[name] = spec.content or ""
    mode = f" && chmod {spec.mode:04o} {quoted}" if spec.mode is not None else ""
    after = f"RUN chown -R {owner} {quoted}{mode}\n" if mode or spec.owner or spec.group else ""
    return f"COPY {json.dumps([name, path])}\n{after}"


def _settings(cell: Variant) -> str:
    lines = []
    for key, value in cell.env.items():
        lines.append(f"ENV {key}={_quote(value, f'{cell.id}: env {key}')}")
    if cell.overlay is not None and cell.overlay.major >= 3 and not cell.overlay.symlinks and "PATH" not in cell.env:
        lines.append("ENV PATH=/command:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    for key, value in cell.labels.items():
        where = f"{cell.id}: label {key}"
        lines.append(f"LABEL {_quote(key, where)}={_quote(value, where)}")
    lines += [f"EXPOSE {port}" for port in cell.ports]
    if cell.volumes:
        lines.append(f"VOLUME {json.dumps(list(cell.volumes))}")
    if cell.workdir:
        lines.append(f"WORKDIR {cell.workdir}")
    if cell.user:
        lines.append(f"USER {cell.user}")
    if cell.stop_signal:
        lines.append(f"STOPSIGNAL {cell.stop_signal}")
    if cell.healthcheck is not None:
        lines.append(_healthcheck(cell.healthcheck))
    entrypoint = cell.entrypoint if cell.entrypoint is not None else (("/init",) if cell.overlay else None)
    if entrypoint is not None:
        lines.append(f"ENTRYPOINT {json.dumps(list(entrypoint))}")
    if cell.cmd is not None:
        lines.append(f"CMD {json.dumps(list(cell.cmd))}")
    return "\n" + "\n".join(lines) + "\n" if lines else ""


def _healthcheck(check: Healthcheck) -> str:
    durations = {"interval": check.interval, "timeout": check.timeout, "start-period": check.start_period}
    flags = [f"--{name}={value / 1e9:g}s" for name, value in durations.items() if value is not None]
    flags += [f"--retries={check.retries}"] if check.retries is not None else []
    return " ".join(["HEALTHCHECK", *flags, f"CMD {json.dumps(list(check.command))}"])


def _quote(value: str, where: str) -> str:
    """A value in double quotes, taken literally. Raises UsageError for a line break, which a Dockerfile's words cannot hold."""
    if "\n" in value:
        raise UsageError(f"{where} has a line break, which a Dockerfile cannot say")
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
    return f'"{escaped}"'


def _update_script(image: str, tags: Sequence[str], platforms: Sequence[str], registry: str) -> str:
    listed = " ".join(shlex.quote(tag) for tag in tags)
    return f"""#!/bin/sh
{_HEADER}# usage: ./update.sh [REGISTRY]
# Builds every tag of {image} and pushes it. DOCKER names another client (podman, buildah); TAGS narrows the tags;
# PLATFORMS ({",".join(platforms)}) builds for several with `docker buildx`; BUILD_ARGS goes to the build as it is.
set -eu
cd "$(dirname "$0")"

registry="${{1:-{registry}}}"
docker="${{DOCKER:-docker}}"
failed=""

for tag in ${{TAGS:-{listed}}}; do
    name="$registry/{image}:$tag"
    echo "== $name"
    if [ -n "${{PLATFORMS:-}}" ]; then
        # shellcheck disable=SC2086  # BUILD_ARGS is a list of words
        "$docker" buildx build --platform "$PLATFORMS" --network host ${{BUILD_ARGS:-}} \\
            -f "Dockerfile.$tag" -t "$name" --push . || failed="$failed $tag"
    else
        # shellcheck disable=SC2086
        {{ "$docker" build --network host ${{BUILD_ARGS:-}} -f "Dockerfile.$tag" -t "$name" . \\
            && "$docker" push "$name"; }} || failed="$failed $tag"
    fi
done

if [ -n "$failed" ]; then
    echo "not built or not pushed:$failed" >&2
    exit 1
fi
"""
