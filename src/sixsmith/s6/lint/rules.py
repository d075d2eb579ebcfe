"""The rules as data: what each one is for, how bad it is, what helps, and who met it first.

A rule's `reason` is true of every finding; the finding's own message says what it is here. The table in
docs/lint-rules.md is rendered from these values (`render_rules`), and a test compares them.

References are short: `#376` is an issue of s6-overlay, `owner/repo#1` one of another project on GitHub, anything else names
a document. `url_of` makes addresses of them.
"""

from __future__ import annotations

import re

import msgspec

from sixsmith.s6.finding import Severity

__all__ = ["LEFT_OUT", "RULES", "SECTIONS", "LeftOut", "Rule", "render_rules", "url_of"]

SECTIONS = {
    "R": "Service definitions (s6-rc source directories)",
    "S": "Scripts",
    "I": "Image settings",
    "V": "Variables that s6-overlay reads",
    "M": "How s6-overlay got into the image",
    "X": "Services of the family file",
    "L": "Suppressions",
}
"""What the letter of a rule's id stands for."""


class Rule(msgspec.Struct, frozen=True):
    """One rule. `layouts` are the major versions of s6-overlay that it speaks for; `mended` rules have a safe `--fix`."""

    id: str
    severity: Severity
    reason: str
    fix: str
    references: tuple[str, ...] = ()
    layouts: tuple[int, ...] = (1, 2, 3)
    mended: bool = False

    @property
    def hint(self) -> str:
        """The fix as findings say it: part of a sentence."""
        text = self.fix.removesuffix(".")
        return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text

    @property
    def reference(self) -> str:
        """The address of the first reference, or "" for a rule that has none."""
        return url_of(self.references[0]) if self.references else ""


class LeftOut(msgspec.Struct, frozen=True):
    """A known kind of trouble that is not a rule here, and why."""

    id: str
    about: str
    why: str


def url_of(reference: str) -> str:
    """The address of a short reference; what is no issue is returned as it is."""
    match = re.fullmatch(r"(?:([\w.-]+/[\w.-]+))?#(\d+)", reference)
    if match is None:
        return reference
    return f"https://github.com/{match[1] or 'just-containers/s6-overlay'}/issues/{match[2]}"


_COMPILE = "https://skarnet.org/software/s6-rc/s6-rc-compile.html"
_README = "https://github.com/just-containers/s6-overlay#usage"
_CHANGES = "https://github.com/just-containers/s6-overlay/blob/master/CHANGELOG.md"
_RC_INIT = "rc.init of 3.2.3.2"
_V3 = (3,)
_OLD = (1, 2)

_SERVICES = (
    Rule("R1", "error", "`type` must be exactly oneshot, longrun or bundle and at most one newline.", "Write the word and one newline.", ("#474", _COMPILE), _V3, True),
    Rule("R2", "error", "Names that start with s6rc- or s6-rc- are reserved, and no name may hold a newline.", "Rename the service.", (_COMPILE,), _V3),
    Rule("R3", "error", "A service may be defined once in all source directories together.", "Rename or remove one.", (_COMPILE,), _V3),
    Rule("R4", "error", "Every dependency and every member of a bundle must be defined.", "Correct the name, or define the service.", ("khs1994-docker/lnmp#1253", _COMPILE), _V3),
    Rule("R5", "error", "Dependencies, and bundles in bundles, must not go round in a circle.", "Take one of the arrows away.", ("#602",), _V3),
    Rule("R6", "error", "A bundle needs `contents.d` or `contents`.", "Make the directory `contents.d`.", (_COMPILE,), _V3),
    Rule("R7", "error", "A oneshot needs `up`.", "Write `up`, or make the type longrun.", ("#384",), _V3),
    Rule("R8", "error", "A longrun needs a regular file `run`.", "Write `run`, or make the type oneshot.", (_COMPILE,), _V3),
    Rule("R9", "error", "`up` and `down` must be valid execline: braces and quotes in pairs.", "Close what is open.", ("#400", "#415", "#432"), _V3),
    Rule("R10", "warning", "`up` and `down` are one execline command line: shell syntax and a shebang mean nothing there.", "Put the script into a file of its own and write its path here.", ("#400", "#384", "#415", "#432", "#468", "#470"), _V3),
    Rule("R11", "warning", "`up` and `down` are one command line: words on later lines are arguments of the first program.", "Use `foreground { … }`, or a script.", ("#432", "#468"), _V3),
    Rule("R12", "warning", "A oneshot's `run` is never used unless `up` calls it.", "Write its path into `up`, or make the type longrun.", ("#384",), _V3),
    Rule("R13", "error", "A script that `up` or `down` names must be there and executable.", "Add the file with mode 0755, or correct the path.", ("home-assistant/addons#2496",), _V3, True),
    Rule("R14", "error", "`producer-for` names exactly one longrun, which has `consumer-for` for it.", "Write both files.", (_COMPILE,), _V3),
    Rule("R15", "error", "`pipeline-name` stands in the last consumer, is one name, and is nobody else's.", "Move or rename it.", (_COMPILE,), _V3),
    Rule("R16", "error", "`timeout-up` and `timeout-down` are whole numbers of milliseconds.", "Write one number.", (_COMPILE,), _V3),
    Rule("R17", "error", "`notification-fd` and `lock-fd` are different whole numbers above 2.", "Write 3.", (_COMPILE,), _V3),
    Rule("R18", "warning", "White space or a carriage return at the end of a line becomes part of the name.", "Remove it.", (_COMPILE,), _V3, True),
    Rule("R19", "warning", "Where there is a `.d` directory, the list file beside it is ignored.", "Keep one of the two.", (_COMPILE,), _V3),
    Rule("R20", "warning", "A `log` directory inside an s6-rc longrun is ignored.", "Make the logger a longrun, and join both with producer-for and consumer-for.", ("#479",), _V3),
    Rule("R21", "warning", "`down` in an s6-rc longrun does not keep it from starting.", "Take the service out of its bundle.", ("#486", "#408"), _V3),
    Rule("R22", "warning", "Only known files are copied to where the service runs.", "Move others into `data/`, or call them by their whole path.", (_COMPILE,), _V3),
    Rule("R24", "error", "A service that no bundle of `user`, `user2` or `top` holds never starts.", "Add an empty file to `user/contents.d`.", ("#596", "#579"), _V3),
    Rule("R25", "warning", "A misspelt file or directory name is silently ignored.", "Rename it.", ("#596", "#400", "#479")),
    Rule("R26", "warning", "A service that does not wait for `base` races with the container's initialisation.", "Add an empty file `dependencies.d/base`.", ("#438", "#59"), _V3),
    Rule("R27", "warning", "Legacy services start after the bundle `user`: what needs them belongs into `user2`.", "List it in `user2`, or migrate the legacy service.", ("#59", _README), _V3),
    Rule("R28", "warning", "Plain files and hidden directories in a source directory define nothing.", "Remove or rename them.", (_COMPILE,), _V3),
    Rule("R29", "warning", "Readiness needs both a `notification-fd` and somebody who writes to it.", "Give both, or neither.", ("#444", "#482", "#538", "#597"), _V3),
    Rule("R30", "warning", "`s6-notifyoncheck` without -c runs `data/check`, which must be there and executable.", "Write it, with mode 0755.", ("#262",), _V3, True),
    Rule("R31", "warning", "`logutil-service` gives its privileges up by itself, writes as nobody, and tells its readiness on descriptor 3.", "Let nobody own the log directory.", ("#291",), _V3),
    Rule("R32", "error", "What the compiler opens must be a regular file that can be read.", "Replace it.", (_COMPILE,), _V3),
    Rule("R33", "error", "`data` and `env` must be directories.", "Make them directories.", (_COMPILE,), _V3),
    Rule("R34", "error", "A source directory must be there and readable.", "Make the directory.", (_COMPILE,), _V3),
    Rule("R35", "error", "Dependencies that are too deep overflow the compiler's stack.", "Use bundles instead of a long chain.", (_COMPILE,), _V3),
    Rule("R36", "error", "s6-overlay before v3 never looks at s6-rc source directories: nothing in them starts.", "Use services.d and cont-init.d, or take s6-overlay v3.", (_CHANGES,), _OLD),
)  # fmt: skip

_SCRIPTS = (
    Rule("S1", "error", "v3 does not make scripts executable: one without x-bit fails with “permission denied”.", "Give it mode 0755 (`COPY --chmod=755`, `git update-index --chmod=+x`).", ("#376", "#571", "#158", "home-assistant/addons#2496"), mended=True),
    Rule("S2", "error", "With Windows line ends the kernel looks for an interpreter whose name ends in a carriage return.", "Save it with LF line ends (`.gitattributes`: `* text eol=lf`).", ("#226", "#261", "#339", "#580", "#613"), mended=True),
    Rule("S3", "error", "A byte order mark before `#!` hides the interpreter from the kernel.", "Save it as UTF-8 without BOM.", ("#226",), mended=True),
    Rule("S4", "error", "Without a `#!` line the kernel answers “Exec format error”.", "Begin it with `#!/bin/sh` or `#!/command/with-contenv sh`.", ("#515",)),
    Rule("S5", "error", "The interpreter that the `#!` line names is not in the image.", "Install it, or name one that is there.", ("#279",)),
    Rule("S6", "error", "v3 has its programs in /command; the paths in /usr/bin and /bin need the symlinks tarballs.", "Write `#!/command/…`, or lay the symlinks tarballs.", ("#376", "#382", "#393"), _V3, True),
    Rule("S7", "error", "Only s6-overlay's own v3 tarballs have /command; v1, v2 and Alpine's package do not.", "Write `#!/usr/bin/with-contenv`, or take the v3 tarballs.", ("#449",), mended=True),
    Rule("S8", "warning", "Linux hands all words behind the interpreter over as one argument, and `with-contenv` works in the `#!` line or before a program only.", "Write `#!/command/with-contenv sh` and `set` the options in the script.", ("#285",)),
    Rule("S9", "warning", "A shell that waits for the program gets its signals, and the program is killed at the end.", "Begin the last command with `exec`.", ("#331", "#483", "#572")),
    Rule("S10", "warning", "A program that goes into the background looks dead to its supervisor, which starts it again and again.", "Run it in the foreground.", ("#241", "#258")),
    Rule("S11", "warning", "execline has no operators: `|`, `&&` and `||` are arguments.", "Use `pipeline`, `if`, `ifelse`, or a shell.", ("#567",)),
    Rule("S12", "error", "Everything in cont-init.d is executed, and a directory cannot be.", "Move it out of cont-init.d.", ("#571",)),
    Rule("S13", "warning", "Everything in cont-init.d that is not hidden is executed, backups and notes too.", "Remove it.", ("#571",)),
    Rule("S14", "warning", "The same daemon runs twice: once from the initialisation, once supervised.", "Start it as a service only.", ("#589",)),
    Rule("S15", "warning", "Paths and programs of v1 and v2 are gone in v3.", "Use /run/s6/basedir/bin/halt, /run/service, and /run/s6-linux-init-container-results/exitcode.", ("#387", "#101", "#320"), _V3),
    Rule("S16", "warning", "Scripts do not see the container's environment unless they ask for it.", "Begin the script with `#!/command/with-contenv sh` (v1, v2: /usr/bin/with-contenv).", ("#358", "#523")),
    Rule("S17", "warning", "Services start in their own service directory, not in WORKDIR.", "Write the whole path, or `cd` first.", ("#612",)),
    Rule("S18", "warning", "A health check and `docker exec` have the image's own PATH, which lacks s6-overlay's programs.", "Put /command into the image's PATH.", ("#524", "#547"), _V3),
    Rule("S19", "warning", "This program does not stop at SIGTERM as one expects.", "Write the signal's name into `down-signal`.", ("#421", "#584")),
    Rule("S20", "warning", "Who is not root cannot become somebody else.", "Drop the change of user, or the image's USER.", ("NousResearch/hermes-agent#34837",)),
    Rule("S21", "info", "Changing the owner of a whole volume at each start takes longer with every file.", "Do it once, or only when the owner of the top is wrong.", ("linuxserver/docker-grocy#21", "linuxserver/docker-bookstack#60")),
    Rule("S22", "info", "fix-attrs.d is deprecated, and fails when the container is not root.", "Set owners and modes in the image, or in a oneshot.", (_README,), _V3),
    Rule("S23", "error", "A script for execlineb must be valid execline, or it stops before its first program.", "Close what is open.", ("#432",)),
    Rule("S24", "warning", "Paths of v3 do not exist in v1 and v2.", "Use s6-svscanctl -t /var/run/s6/services and /var/run/s6/services.", (_CHANGES,), _OLD),
    Rule("S25", "warning", "v3 lists cont-init.d and cont-finish.d with a shell that splits names at white space.", "Rename the file.", ("scripts/cont-init of 3.2.1.0",), _V3),
)  # fmt: skip

_SETTINGS = (
    Rule("I1", "error", "/init must be pid 1: nothing may stand before it.", 'Say ENTRYPOINT ["/init"].', ("#226", "#475", "#552")),
    Rule("I4", "warning", "The container stops when its CMD ends.", "Leave CMD out, or name the main program.", ("#448",)),
    Rule("I5", "warning", "/init takes SIGTERM for “stop”; another signal, often inherited from a base, means something else.", "Say STOPSIGNAL SIGTERM.", (_README,)),
    Rule("I6", "warning", "The times for stopping add up to more than the 10 s that Docker waits.", "Lower them, or raise stop_grace_period.", ("#331", "#534", "#586")),
    Rule("I7", "warning", "This needs root, and the image's USER is another.", "Leave USER out and change user in the services, or do it in the image.", ("#428", "#604")),
    Rule("I8", "warning", "With no-new-privileges (Kubernetes: allowPrivilegeEscalation: false) nobody can hand /run to USER at boot.", "Let USER own /run in the image.", ("#427", "#526", "#574", "#578", "#600"), _V3),
    Rule("I10", "error", "s6-overlay-suexec without its suid bit cannot prepare /run for a USER that is not root.", "Unpack the tarball as root with `tar -p`, and do not `chmod -R` over it.", ("#392", "#552"), _V3),
    Rule("I12", "error", "/run must be an empty directory of the image itself, and /var/run a link to it.", "Make it so.", ("#379", "#321", "#387")),
    Rule("I13", "warning", "On a read-only root S6_STAGE2_HOOK cannot change /etc.", "Make the changes in the image.", ("#555",), _V3),
    Rule("I14", "error", "v3's /init is a shell script: there must be a /bin/sh.", "Install busybox.", ("#484",), _V3),
    Rule("I15", "warning", "PATH must hold absolute folders, separated by colons, those of the system among them.", "Correct PATH.", ("#388", "#393", "#395", "#423")),
    Rule("I16", "warning", "A secret in ENV can be read in the image by everybody, and in /run/s6/container_environment.", "Give it at run time, best as a file.", ("linuxserver/docker-mastodon#31",)),
    Rule("I17", "warning", "Empty variables and names that are no names get lost between the container and the services.", "Give it a value, or another name.", ("#205", "#627", "#466")),
    Rule("I18", "warning", "3.0.0.2 breaks values of several lines when S6_KEEP_ENV is set.", "Take another release.", ("#398",), _V3),
)  # fmt: skip

_VARIABLES = (
    Rule("V1", "warning", "s6-overlay knows no such variable and ignores it.", "Correct the name.", (_README,)),
    Rule("V2", "warning", "This release does not know the variable yet, or no longer.", "Take a release that knows it, or leave it out.", (_CHANGES,)),
    Rule("V3", "warning", "Numbers are digits only, switches 0 or 1, times milliseconds: anything else means the default.", "Write a number.", ("scripts of 3.2.1.0",)),
    Rule("V4", "warning", "Before 3.2.0.0 services that need more than 5 s to start make the boot fail.", "Set S6_CMD_WAIT_FOR_SERVICES_MAXTIME=0.", ("#378", "#452", "#467", "#577", "#619")),
    Rule("V5", "info", "When a service or script fails at boot, the container goes on as if nothing had happened.", "Set S6_BEHAVIOUR_IF_STAGE2_FAILS=2.", ("#599", "#601")),
    Rule("V6", "warning", "A short time limit and S6_BEHAVIOUR_IF_STAGE2_FAILS=2 together restart a slow container for ever.", "Raise S6_CMD_WAIT_FOR_SERVICES_MAXTIME, or set it to 0.", ("#599", "#601")),
    Rule("V7", "warning", "Waiting for services without readiness races with their start: 48 of 500 failed with 5 ms, none with 50 ms.", "Set S6_SERVICES_READYTIME=50, or give the services a notification-fd.", ("#460",), _V3),
    Rule("V8", "info", "With S6_KEEP_ENV `with-contenv` does nothing.", "Leave one of the two out.", (_README,)),
    Rule("V9", "warning", "`sync` waits for every disk of the host.", "Take 1.22.0.0 or later, and leave S6_SYNC_DISKS out.", (_CHANGES,)),
    Rule("V10", "info", "0 hides errors, 3 and more are for finding faults.", "Leave S6_VERBOSITY out, or use 1 or 2.", (_README,)),
    Rule("V11", "warning", "The image says another version of s6-overlay than it has.", "Correct the one or the other.", (_CHANGES,)),
)  # fmt: skip

_INSTALLED = (
    Rule("M1", "error", "s6-overlay has two parts, scripts and programs; one alone cannot start.", "Unpack noarch and the architecture's tarball.", ("#475", "#539", "#633")),
    Rule("M2", "error", "Programs are for another machine than the image.", "Take the tarball of this architecture.", ("#271", "#401", "#501", "#512", "#537", "#617")),
    Rule("M3", "warning", "The suid bit of s6-overlay-suexec got lost: unpacked without -p, not as root, or changed later.", "Unpack as root with `tar -p`.", ("#392", "#576"), _V3),
    Rule("M4", "error", "3.2.3.2 ignores user-bundles.d when the syslogd tarball brings s6-rc.d/user.", "Leave the syslogd tarball out.", (_RC_INIT,), _V3),
    Rule("M5", "warning", "3.2.3.2 writes to /etc at boot when s6-rc.d/user is there.", "Move the bundle to user-bundles.d.", (_RC_INIT,), _V3),
    Rule("M6", "error", "3.2.3.1 stops at boot when s6-rc.d/user is there.", "Move the bundle to user-bundles.d, or take 3.2.3.2.", ("hotio/base#28",), _V3),
    Rule("M7", "error", "Releases before 3.2.3.1 do not read user-bundles.d.", "Declare services in s6-rc.d/user/contents.d.", ("hotio/base#29",), _V3),
    Rule("M8", "warning", "Of s6-rc.d/user and user-bundles.d one is ignored.", "Keep one of the two.", (_RC_INIT,), _V3),
    Rule("M9", "error", "The tarball's ./bin replaced the link /bin of a usr-merged base: the system's programs are gone from it.", "Use the installer, or unpack ./bin apart with `--exclude`.", ("#125", "#144", "#239", "#288"), _OLD),
    Rule("M10", "warning", "The tarballs of 1.21.8.0 to 2.0.0.0 make /etc and /usr/bin writable by the group.", "`chmod g-w`, or take 2.0.0.1.", ("#274",), _OLD),
    Rule("M11", "warning", "Files that were there before the overlay was laid are replaced by it.", "Copy your files after the overlay.", (_README,)),
    Rule("M12", "warning", "A tarball that is left in the image is dead weight.", "Unpack it in one step, or remove it in the step that fetched it.", ("hassio-addons/base-alpine#35",)),
    Rule("M15", "warning", "This release is known to be bad.", "Take the one that is named.", ("the catalogue",)),
    Rule("M16", "warning", "Programs that s6-overlay needs are missing or lead nowhere, as after a slimming tool.", "Keep /command and /package whole.", ("slimtoolkit/slim#161",)),
    Rule("M18", "warning", "Two overlays of different layouts are in one image.", "Take a base without an overlay.", (_README,)),
)  # fmt: skip

_DESCRIBED = (
    Rule("X1", "error", "This release has no way to do what the family file asks of a service.", "Do what the finding says, or take s6-overlay v3.", ("init-stage2 of 2.1.0.2",), _OLD),
    Rule("X2", "error", "A service or its log runs as a user that the image does not have: it would end at once, again and again.", "Add it under `accounts`, or name another.", ("https://skarnet.org/software/s6/s6-setuidgid.html",)),
    Rule("X3", "info", "What a service asks for holds less than with v3.", "Do what the finding says where it matters.", ("init-stage2 of 2.1.0.2",), _OLD),
)  # fmt: skip

_SUPPRESSIONS = (
    Rule("L1", "warning", "A suppression that suppresses nothing hides the next real finding.", "Remove it."),
    Rule("L2", "warning", "A suppression needs a rule that exists and a reason.", "Write `rule:` and `reason:`."),
)

RULES: dict[str, Rule] = {
    rule.id: rule for rule in (*_SERVICES, *_SCRIPTS, *_SETTINGS, *_VARIABLES, *_INSTALLED, *_DESCRIBED, *_SUPPRESSIONS)
}
"""Every rule by its id."""

LEFT_OUT = (
    LeftOut("R23", "x-bit of `run` in s6-rc.d", "It is not needed: the compiler writes its copies with 0755. Checks that ask for it are wrong."),
    LeftOut("I2", "`init: true`, `--init`, shared pid namespaces", "Said when a container is started, not in the image. `explain` knows the message."),
    LeftOut("I3", "Podman's `--systemd` mode", "Old versions took any program called `init` for systemd: it would be said of every image."),
    LeftOut("I9", "`cap_drop: ALL`", "Said when a container is started, not in the image."),
    LeftOut("I11", "read-only root, noexec /run", "Said when a container is started, not in the image. `explain` knows the messages."),
    LeftOut("M13", "downloads without checksum", "An image does not tell how it was made. Tarballs that sixsmith fetches are pinned by sha256."),
    LeftOut("M14", "no tarball for this architecture", "An image that has one had one; for a family it is an error of the plan."),
    LeftOut("M17", "hanging under QEMU", "A property of the machine that tests the image."),
)  # fmt: skip
"""Known trouble that an image does not show."""


def render_rules() -> str:
    """The reference page in Markdown: a table for each section, and what is left out."""
    lines = [_HEAD]
    for letter, title in SECTIONS.items():
        lines += [f"\n## {title}\n", "| rule | severity | s6-overlay | what is wrong | what helps | met in |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [_row(rule) for rule in RULES.values() if rule.id.startswith(letter)]
    lines += ["\n## Left out\n", "| | about | why |", "|---|---|---|"]
    lines += [f"| {left.id} | {left.about} | {left.why} |" for left in LEFT_OUT]
    return "\n".join(lines) + "\n"


def _row(rule: Rule) -> str:
    versions = "all" if rule.layouts == (1, 2, 3) else ", ".join(f"v{major}" for major in rule.layouts)
    met = ", ".join(_link(reference) for reference in rule.references)
    mended = " `--fix`" if rule.mended else ""
    cells = [rule.id, rule.severity, versions, rule.reason, rule.fix + mended, met]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _link(reference: str) -> str:
    url = url_of(reference)
    if url == reference:
        name = {_COMPILE: "s6-rc-compile", _README: "README", _CHANGES: "CHANGELOG"}.get(reference)
        return f"[{name}]({url})" if name else reference
    return f"[{reference}]({url})"


_HEAD = """\
# Lint rules

<!-- Rendered from src/sixsmith/s6/lint/rules.py by `sixsmith lint --rules`; a test compares the two. -->

`sixsmith lint` says these of a family, a folder, a layout, an archive or an image in a registry; a build stops at errors and
shows warnings. **error**: the image will not boot, or a service never starts. **warning**: likely trouble. **info**: advice.
Where a rule has `--fix`, `sixsmith lint --fix` mends it in folders.

A suppression stands in the family file, with its reason; one that suppresses nothing is a warning of its own:

```yaml
lint:
  ignore:
    - {rule: S9, path: /etc/services.d/legacy/run, reason: the wrapper forwards signals itself}
```"""
