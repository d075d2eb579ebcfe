"""What a container's log means: messages of s6-overlay, its parts, and runtimes, with cause and fix.

A line is matched loosely, since versions differ in words and platforms put their own text before it (times, container
names, colours). The table goes from the particular to the general, and the first match explains the line. Sources: the
scripts of 1.21.4.0, 2.1.0.2, 3.1.6.2 and 3.2.1.0, the programs' messages, and the issues that each entry names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec
from msgspec.structs import replace

from sixsmith.s6.lint.rules import url_of

__all__ = ["Explanation", "explain", "explain_line", "explain_log"]

Weight = Literal["fatal", "trouble", "note"]
"""`fatal`: the container or the service does not start; `trouble`: something went wrong; `note`: good to know."""


class Explanation(msgspec.Struct, frozen=True):
    """What a line of a log means. `line` is its number (1-based; 0 for a line alone), `count` how often the same was said,
    `rules` are the lint rules that find it before the start."""

    text: str
    cause: str
    fix: str
    weight: Weight
    rules: tuple[str, ...] = ()
    reference: str = ""
    line: int = 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.cause}; {self.fix}" if self.fix else self.cause


class _Entry(msgspec.Struct, frozen=True):
    pattern: re.Pattern[str]
    cause: str
    fix: str
    weight: Weight
    rules: tuple[str, ...]
    reference: str


_ENTRIES: list[_Entry] = []


def _say(pattern: str, cause: str, fix: str, *, weight: Weight = "fatal", rules: str = "", reference: str = "") -> None:
    """Adds an entry; `{name}` in its texts is the pattern's group of that name."""
    _ENTRIES.append(_Entry(re.compile(pattern), cause, fix, weight, tuple(rules.split()), reference))


# ---- the first steps: /init, suexec, preinit

_say(
    r"s6-overlay-suexec: fatal: can only run as pid 1",
    "/init is not pid 1: another program stands before it, or the container shares its process namespace",
    'make ENTRYPOINT ["/init"] alone; take away `--init`, `init: true`, tini, `pid: host`, shareProcessNamespace; a Home Assistant add-on needs `init: false`',
    rules="I1 I2",
    reference="#552",
)
_say(
    r"s6-overlay-suexec: .*unable to gain root privileges|is the suid bit set\?",
    "s6-overlay-suexec has no suid bit, or the runtime takes its effect away (no-new-privileges, allowPrivilegeEscalation: false), and USER is not root",
    "unpack the tarball as root with `tar -p`; where privileges may not be gained, let USER own /run in the image",
    rules="I10 I8",
    reference="#552",
)
_say(
    r"s6-overlay-suexec: fatal: child (failed with exit code|crashed|was killed)",
    "preparing the container failed; the reason stands in the lines before",
    "look at the message of preinit above",
    rules="I8 I10 I11",
    reference="#600",
)
_say(
    r"/run belongs to uid (?P<owner>\d+) instead of (?P<user>\d+) - fixing it",
    "preinit gives /run to the container's user",
    "nothing to do",
    weight="note",
)
_say(
    r"/run belongs to uid (?P<owner>\d+) instead of (?P<user>\d+), but we can still work",
    "/run is another's, but its modes are enough",
    "nothing to do",
    weight="note",
)
_say(
    r"/run belongs to uid (?P<owner>\d+) instead of (?P<user>\d+).*is world writable",
    "everybody may write to /run, and S6_YES_I_WANT_A_WORLD_WRITABLE_RUN_BECAUSE_KUBERNETES accepts that",
    "better let uid {user} own /run",
    weight="trouble",
    rules="I8",
    reference="#600",
)
_say(
    r"/run belongs to uid (?P<owner>\d+) instead of (?P<user>\d+)",
    "the container runs as uid {user}, /run belongs to {owner}, and nobody may change that (no-new-privileges, or no suid bit)",
    "make /run in the image with owner {user}, mount a tmpfs there with uid={user}, or allow privilege escalation",
    rules="I8",
    reference="#600",
)
_say(
    r"wrong permissions on /run for a gid 0 setup",
    "the container runs with an arbitrary uid and gid 0, and group 0 may not write to /run",
    "`chgrp 0 /run && chmod g=u /run` in the image",
    rules="I8",
    reference="#427",
)
_say(
    r"preinit: (info|warning): .*noexec|pre-mounts run with\s+the incorrect noexec",
    "/run is mounted noexec, and the programs of the supervision tree are in it",
    "mount it with exec: `--tmpfs /run:exec,mode=755`",
    rules="I11",
    reference="#555",
)
_say(
    r"unable to find /run in /proc/mounts",
    "/run is no mount of its own on a read-only root",
    "mount a tmpfs on /run, with exec",
    weight="trouble",
    rules="I11",
    reference="#555",
)
_say(
    r"preinit: fatal: /run is missing or not a directory",
    "the image has no directory /run, and its root is read-only",
    "make /run in the image",
    rules="I11 I12",
    reference="#397",
)
_say(
    r"preinit: notice: /var/run is not a symlink to /run",
    "/var/run is a directory of its own; it is replaced at each boot",
    "make /var/run a link to /run in the image",
    weight="note",
    rules="I12",
    reference="#387",
)
_say(
    r"unable to (symlink|rmrf?|remove|mkdir|create|open|touch|chown|rename)[^:]*(/var/run|/run)\S*.*: Read-only file system|s6-(rmrf|mkdir|ln|chown|mount): .*: Read-only file system",
    "the root file system is read-only and s6-overlay was not told",
    "set S6_READ_ONLY_ROOT=1 and mount a tmpfs on /run with exec",
    rules="I11",
    reference="#555",
)
_say(
    r"s6-(chown|mkdir|rmrf|chmod): (fatal|warning): unable to \S+ (?P<path>/(var/)?run\S*): (Operation not permitted|Permission denied)",
    "the container's user may not change {path}",
    "let that user own /run in the image; before 2.1.0.0 s6-overlay works as root only",
    rules="I8 I7",
    reference="#427",
)
_say(
    r"s6-chown: fatal: .*UID not set",
    "suexec could not become root, so that nobody told who the user is",
    "see to the suid bit of s6-overlay-suexec, and to /run",
    rules="I10",
    reference="#552",
)
_say(
    r"s6-mount: .*(Operation not permitted|Permission denied)",
    "a tmpfs cannot be mounted from inside the container",
    "mount it from outside: `--tmpfs /run:exec,mode=755`",
    rules="I11",
    reference="#450",
)
_say(
    r"s6-svscan: fatal: .*pid 1|s6-svscan.*not (running )?as (pid|process) 1",
    "the supervisor must be pid 1",
    'make ENTRYPOINT ["/init"] alone',
    rules="I1",
    reference="#226",
)
_say(
    r"(exec |exec: |starting container.*?)\"?/init\"?:? ?.*(exec format error|Exec format error)",
    "/init, or the shell that reads it, is for another machine",
    "take the image and the tarball of this architecture",
    rules="M2",
    reference="#501",
)
_say(
    r"exec:? \"?/init\"?:? ?.*(no such file or directory|not found)",
    "there is no /init, or the interpreter in its first line is missing",
    "unpack the noarch tarball too; v3 needs /bin/sh",
    rules="M1 I14",
    reference="#475",
)
_say(
    r"exec:? \"?/init\"?:? ?.*[Pp]ermission denied",
    "/init is not executable, or its file system is mounted noexec",
    "keep the tarball's modes (`tar -p`)",
    rules="M1 M3",
    reference="#392",
)
_say(
    r"/init: .*s6-overlay-suexec: not found",
    "/init is there, the programs are not: the architecture's tarball is missing",
    "unpack s6-overlay-ARCH.tar.xz too, with xz installed",
    rules="M1",
    reference="#539",
)
_say(
    r"/package/admin/s6-overlay\S*/libexec/(preinit|stage0): .*not found",
    "the scripts of s6-overlay are missing or broken: the noarch tarball",
    "unpack s6-overlay-noarch.tar.xz of the same release",
    rules="M1",
    reference="#475",
)
_say(
    r"can't execute '?xz'?|xz: Cannot exec|tar: .*xz.*: No such file",
    "there is no xz to unpack the tarball with",
    "install xz before, or use ADD of a .tar.xz",
    rules="M3",
    reference="#576",
)

# ---- the compiler

_say(
    r"s6-rc-compile: fatal: invalid (?P<file>\S+/type)|(?P<other>\S+/type): must be oneshot, longrun,? or bundle",
    "a `type` file holds something else than one of the three words: a carriage return, white space, or nothing",
    "write exactly `longrun`, `oneshot` or `bundle` and one newline",
    rules="R1",
    reference="#474",
)
_say(
    r"s6-rc-compile: fatal: unable to read (?P<file>\S+/type)",
    "{file} is missing: every directory in s6-rc.d is a service",
    "write it, or remove the directory",
    rules="R1",
    reference="linuxserver/docker-babybuddy#23",
)
_say(
    r"s6-rc-compile: fatal: .*undefined service name (?P<name>\S+)",
    "something depends on, or lists, the service {name}, which is not defined",
    "correct the name (white space and carriage returns count), or define the service",
    rules="R4 R18",
    reference="khs1994-docker/lnmp#1253",
)
_say(
    r"s6-rc-compile: fatal: .*(cycle|reaching itself)",
    "services wait for each other in a circle",
    "take one of the dependencies away",
    rules="R5",
    reference="#602",
)
_say(
    r"s6-rc-compile: fatal: .*(already defined|defined (twice|more than once)|duplicate|multiple)",
    "one service is defined in two directories",
    "rename or remove one",
    rules="R3",
)
_say(
    r"s6-rc-compile: fatal: .*(reserved)",
    "the name starts with s6rc- or s6-rc-, which are s6-rc's own",
    "rename the service",
    rules="R2",
)
_say(
    r"s6-rc-compile: fatal: .*(parse|syntax|unmatched|unterminated).*",
    "`up` or `down` is not valid execline",
    "write one command line, braces and quotes in pairs; put scripts into files of their own",
    rules="R9 R10",
    reference="#432",
)
_say(
    r"s6-rc-compile: fatal: .*(producer|consumer|pipeline)",
    "the two ends of a pipeline do not name each other",
    "write producer-for in the one and consumer-for in the other",
    rules="R14 R15",
)
_say(
    r"s6-rc-compile: fatal: unable to (read|open|stat|opendir) (?P<file>[^:]+)",
    "{file} is missing or cannot be read",
    "add it; a longrun needs `run`, a oneshot `up`, a bundle `contents.d`",
    rules="R6 R7 R8 R32",
)
_say(
    r"s6-rc-compile: fatal: ",
    "the service definitions do not compile, so that nothing starts",
    "`sixsmith services check` says what is wrong, with file and line",
    rules="R1 R4 R9",
)
_say(
    r"s6-rc-compile: warning: ",
    "the compiler took something in another way than it was meant",
    "`sixsmith lint` says more",
    weight="trouble",
    rules="R17 R19 R22",
)
_say(
    r"s6-rc: fatal: unable to take locks: No such file",
    "there is no compiled database: the compiler failed before",
    "look for s6-rc-compile in the lines before",
    weight="trouble",
    reference="linuxserver/docker-babybuddy#23",
)
_say(
    r"s6-rc: fatal: unable to read .*(n\.b|resolve|db)|s6-rc-init: fatal: ",
    "the service database could not be set up",
    "look for s6-rc-compile in the lines before; leave /run empty in the image",
    rules="I12",
)

# ---- services starting

_say(
    r"s6-rc: fatal: timed out",
    "the services were not up within S6_CMD_WAIT_FOR_SERVICES_MAXTIME, 5 s by default before 3.2.0.0",
    "set S6_CMD_WAIT_FOR_SERVICES_MAXTIME=0, or see why a service never gets ready (notification-fd without a writer)",
    rules="V4 V6 R29",
    reference="#577",
)
_say(
    r"s6-sudoc: fatal: unable to get exit status from server: .*timed out",
    "a oneshot or cont-init script was cut off by the time limit",
    "set S6_CMD_WAIT_FOR_SERVICES_MAXTIME=0, or give the oneshot a timeout-up of its own",
    rules="V4",
    reference="#467",
)
_say(
    r"s6-sudoc: fatal: unable to get exit status from server",
    "a oneshot's script ended in a way that has no exit status: killed, or never started",
    "see that the script in `up` is there and executable",
    rules="R10 R11 R13",
    reference="#468",
)
_say(
    r"s6-rc: warning: unable to start service (?P<name>[^:\s]+): command exited 111",
    "the oneshot {name} was cut off by a time limit, or its runner went away",
    "set S6_CMD_WAIT_FOR_SERVICES_MAXTIME=0, or raise its timeout-up",
    rules="V4",
    reference="#467",
)
_say(
    r"s6-rc: warning: unable to start service (?P<name>[^:\s]+): command exited 127",
    "the oneshot {name}: a program in `up` was not found",
    "write whole paths; `up` is no shell script",
    rules="R10 R13 S5",
    reference="#432",
)
_say(
    r"s6-rc: warning: unable to start service (?P<name>[^:\s]+): command exited 126",
    "the oneshot {name}: a program in `up` could not be executed",
    "give the script its x-bit and a `#!` line",
    rules="R13 S1 S4",
    reference="home-assistant/addons#2496",
)
_say(
    r"s6-rc: warning: unable to start service (?P<name>[^:\s]+): command exited (?P<code>\d+)",
    "the oneshot {name} failed with exit code {code}",
    "its own messages stand before this line",
    rules="R10 R11",
    reference="#468",
)
_say(
    r"s6-rc: warning: unable to start service (?P<name>[^:\s]+): (?P<why>.*)",
    "{name} did not start: {why}",
    "its own messages stand before this line",
    rules="R29",
)
_say(
    r"s6-rc: warning: unable to stop service (?P<name>[^:\s]+)",
    "{name} did not stop in time, or its `down` failed",
    "give it a timeout-down, or another down-signal",
    weight="trouble",
    rules="S9 S19",
)
_say(
    r"s6-rc: fatal: unknown service( name)? (?P<name>\S+)",
    "there is no service {name} in the database",
    "correct the name; legacy services of services.d are not in it",
    rules="R4 R27",
)
_say(
    r"rc\.init: warning: s6-rc failed to properly bring all the services up",
    "at least one service did not start",
    "look for “unable to start service” before; S6_BEHAVIOUR_IF_STAGE2_FAILS says whether the container goes on",
    weight="trouble",
    rules="V5",
    reference="#599",
)
_say(
    r"(rc\.init|prog): fatal: stopping the container",
    "S6_BEHAVIOUR_IF_STAGE2_FAILS=2 stops the container because a service failed",
    "mend the service that failed; a short S6_CMD_WAIT_FOR_SERVICES_MAXTIME makes restart loops",
    rules="V6",
    reference="#599",
)
_say(
    r"rc\.init: (fatal|warning): hook (?P<hook>.+) exited (?P<code>\d+)",
    "S6_STAGE2_HOOK `{hook}` failed with {code}",
    "mend the hook; on a read-only root it cannot change /etc",
    weight="trouble",
    rules="I13 I7",
    reference="#555",
)
_say(
    r"rc\.init: .*(can't create|cannot create|unable to open).*s6-rc\.d/user",
    "3.2.3.2 wants to write to /etc because the image has s6-rc.d/user",
    "move the bundle to /etc/s6-overlay/user-bundles.d",
    rules="M5",
)
_say(
    r"cont-init: info: (running )?(?P<file>\S+) exited (?P<code>[1-9]\d*)",
    "{file} failed with exit code {code}",
    "126 is a missing x-bit, 127 a missing interpreter or program, else see its own messages",
    weight="trouble",
    rules="S1 S2 S4 S5",
    reference="#376",
)
_say(
    r"\[cont-init\.d\] (?P<file>\S+): exited (?P<code>[1-9]\d*)",
    "{file} failed with exit code {code}",
    "111 and 127 are a missing interpreter, 126 a missing x-bit, else see its own messages",
    weight="trouble",
    rules="S2 S4 S5",
    reference="#261",
)
_say(
    r"cont-init: warning: some scripts exited nonzero",
    "a script of cont-init.d failed",
    "look for “exited” with another number than 0 before",
    weight="trouble",
    reference="#376",
)
_say(
    r"services-up: warning: some legacy longruns failed to start",
    "a service of services.d did not come up in time",
    "raise S6_SERVICES_READYTIME, or give it a notification-fd",
    weight="trouble",
    rules="V7",
    reference="#460",
)
_say(
    r"fix-attrs: warning: fix-attrs is deprecated",
    "fix-attrs.d is deprecated in v3",
    "set owners and modes in the image",
    weight="note",
    rules="S22",
)
_say(
    r"init-stage2 failed",
    "v1 or v2 stopped while it set the container up",
    "the reason stands in the lines before",
    rules="V5",
)

# ---- the supervisor

_say(
    r"s6-supervise (?P<name>\S+)( \(child\))?: .*unable to (spawn|exec) (\./)?(run|finish).*: Exec format error",
    "the script of {name} has no `#!` line, or is a program for another machine",
    "begin it with `#!/bin/sh` or `#!/command/execlineb -P`",
    rules="S4 M2",
    reference="#515",
)
_say(
    r"s6-supervise (?P<name>bin|dev|etc|home|proc|sys|lib|usr|root|package|command|boot|opt|var|tmp|mnt|media|srv|sbin)(/log)?: (warning|fatal): unable to",
    "s6-svscan supervises the root directory: its scan directory is /",
    "leave WORKDIR and the scan directory alone; start /init, and not s6-svscan",
    rules="S17 I1",
    reference="#612",
)
_say(
    r"s6-supervise (?P<name>\S+)( \(child\))?: .*unable to (spawn|exec) (\./)?(run|finish).*: No such file or directory",
    "the script of {name} is missing, or the interpreter of its first line is: a shell that is not installed, a path that moved, or Windows line ends",
    "see that the program behind `#!` is in the image, and save the file with LF line ends",
    rules="S2 S5 S6 S7",
    reference="#279",
)
_say(
    r"s6-supervise (?P<name>\S+)( \(child\))?: .*unable to (spawn|exec) (\./)?(run|finish).*: Permission denied",
    "the script of {name} is not executable, or /run is mounted noexec",
    "give it mode 0755; mount /run with exec",
    rules="S1 I11",
    reference="#158",
)
_say(
    r"s6-supervise (?P<name>\S+)( \(child\))?: .*unable to (spawn|exec) (\./)?(run|finish)",
    "the script of {name} cannot be run",
    "see its mode, its first line and its line ends",
    rules="S1 S2 S4 S5",
)
_say(
    r"s6-supervise (?P<name>\S+): .*unable to (mkdir|open|create|lock)\S* (event|supervise|\S*lock)\S*: (?P<why>.*)",
    "the service directory of {name} cannot be written: {why}",
    "leave /run to s6-overlay: no volume, no read-only mount, no left-over files",
    rules="I12 I11",
    reference="#579",
)
_say(
    r"s6-supervise (?P<name>\S+): warning: .*finish.*(lasts|took) too long|s6-supervise (?P<other>\S+): warning: finish script .*killing",
    "the finish script takes longer than timeout-finish, 5 s by default",
    "make it shorter, or write a longer time into `timeout-finish`",
    weight="trouble",
)
_say(
    r"s6-svwait: fatal: (timed out|.*timed out)",
    "a service was not up, or not down, in time",
    "raise S6_CMD_WAIT_FOR_SERVICES_MAXTIME or S6_SERVICES_GRACETIME",
    weight="trouble",
    rules="V4 V7",
    reference="#460",
)
_say(
    r"s6-svscan: warning: unable to iopause: Operation not permitted|s6-linux-init-shutdownd: fatal: unable to iopause: Operation not permitted",
    "the container's seccomp filter is too old for the programs: an old libseccomp, runc or Docker on the host",
    "renew Docker and libseccomp2 on the host",
    reference="homebridge/docker-homebridge#434",
)
_say(
    r"s6-svscan: warning: .*executing into \.s6-svscan/crash|s6-svscan crashed",
    "the supervisor gave up",
    "the reason stands in the lines before",
    reference="homebridge/docker-homebridge#434",
)
_say(
    r"s6-linux-init-hpr: fatal: unable to (reboot|connect|open|write)",
    "the container was told to stop in a way that does not work here",
    "run /run/s6/basedir/bin/halt",
    weight="trouble",
    rules="S15",
    reference="#387",
)
_say(
    r"s6-svscanctl: fatal: unable to (control|open) (?P<path>\S+)",
    "there is no scan directory {path}",
    "v3 has /run/service, v1 and v2 /var/run/s6/services; to stop a v3 container run /run/s6/basedir/bin/halt",
    weight="trouble",
    rules="S15 S24",
    reference="#387",
)

# ---- programs in scripts

_say(
    r"(s6-setuidgid|s6-applyuidgid|s6-envuidgid): fatal: unable to set (supplementary )?(group list|groups|gid|uid)|(su-exec|gosu): set(groups|gid|uid).*: Operation not permitted|s6-applyuidgid: fatal: unable to \S+.*Operation not permitted",
    "a script wants to become another user and may not: USER is not root, or SETUID and SETGID are dropped",
    "leave the change of user out, or give back the capabilities SETUID and SETGID",
    rules="S20 I9 I7",
    reference="#428",
)
_say(
    r"(s6-setuidgid|s6-envuidgid): fatal: unknown user:? ?(?P<name>\S*)",
    "the image has no such user {name}",
    "add the account",
    rules="S20",
)
_say(
    r"s6-log: fatal: unable to (open|mkdir|chdir|lock|opendir)\S*( to)? (?P<path>[^:]+): (?P<why>.*)",
    "the logger cannot use {path}: {why}",
    "make the directory in the image and let nobody own it",
    rules="R31",
    reference="#291",
)
_say(
    r"logutil-newfifo: warning: this binary is deprecated",
    "logutil-newfifo is on its way out",
    "use s6-mkfifo and s6-chown",
    weight="note",
    rules="S15",
)
_say(
    r"(s6-fdholder\S*|s6-ipcserver\S*): fatal: unable to (bind|connect)",
    "the holder of pipes between services is not there",
    "leave /run to s6-overlay",
    rules="I12",
)
_say(
    r"s6-notifyoncheck: (fatal|warning): .*(not a number|Bad file descriptor|notification-fd|unable to read notification)",
    "s6-notifyoncheck does not know where to tell that the service is ready",
    "write `3` into a file notification-fd",
    rules="R29",
    reference="#444",
)
_say(
    r"s6-notifyoncheck.*unable to (spawn|exec) (\./)?data/check",
    "data/check is missing or not executable",
    "write it, with mode 0755",
    rules="R30",
    reference="#262",
)
_say(
    r"(backtick|importas|forbacktickx|foreground|if|ifelse|exec|emptyenv|with-contenv): fatal: unable to (spawn|exec) (?P<name>\S+): No such file or directory",
    "`{name}` was not found: it is not in PATH, it is not installed, or its interpreter is not there",
    "put /command into PATH, or write the whole path; after a usr-merge of the base the tarball of v1 or v2 needs the installer",
    rules="S5 S6 S18 I15 M9",
    reference="#362",
)
_say(
    r"(importas): fatal: (variable )?(?P<name>\S+) (is )?(not set|undefined)|importas: fatal: unable to substitute",
    "an execline script imports a variable that is not set",
    "use `importas -D default`, and with-contenv for the container's variables",
    rules="S16",
    reference="#358",
)
_say(
    r"execlineb: fatal: (syntax error|unable to parse|.*unmatched|.*unterminated)",
    "an execline script does not parse",
    "braces and quotes in pairs, white space around braces",
    rules="S23 R9",
    reference="#432",
)
_say(
    r"with-contenv: (not found|No such file)|/usr/bin/with-contenv.*(not found|[Nn]o such file)|/usr/bin/env: .?with-contenv",
    "there is no with-contenv where the script looks for it",
    "write `#!/command/with-contenv sh`, or lay the symlinks tarballs",
    rules="S6 S18",
    reference="#382",
)
_say(
    r"/bin/execlineb.*(not found|[Nn]o such file)|/usr/bin/execlineb.*(not found|[Nn]o such file)",
    "there is no execlineb where the script looks for it",
    "write `#!/command/execlineb -P`, or lay the symlinks tarballs",
    rules="S6",
    reference="#376",
)
_say(
    r"(?P<path>/etc/(cont-init|cont-finish|services)\.d/\S+?):? .*[Pp]ermission denied",
    "{path} is not executable, or its file system is mounted noexec",
    "give it mode 0755: v3 does not do it by itself",
    rules="S1 S12",
    reference="#376",
)
_say(
    r"(?P<path>/etc/(cont-init|cont-finish|services|s6-overlay)\S+?):? .*not found",
    "the interpreter in the first line of {path} is missing, or the file has Windows line ends",
    "see the first line; save it with LF line ends",
    rules="S2 S5 S6",
    reference="#226",
)
_say(
    r"(bad interpreter|env: .?(?P<name>\S+?)\r?.?: No such file|\\r|\^M)",
    "a script has Windows line ends, or names an interpreter that is not there",
    "save it with LF line ends; install the interpreter",
    rules="S2 S5",
    reference="#580",
)
_say(
    r"nginx: \[emerg\] .*(address already in use|bind\(\) to)|[Aa]ddress (already )?in use",
    "the port is taken: the same server runs twice, once in the background",
    "run it in the foreground and start it in one place only",
    weight="trouble",
    rules="S10 S14",
    reference="#589",
)
_say(
    r"[Ee]xec format error",
    "a file without a `#!` line, or a program for another machine",
    "begin scripts with `#!`; take the tarball of this architecture",
    rules="S4 M2",
    reference="#515",
)
_say(
    r"Illegal instruction|SIGILL|exit(ed)?( with)?( code)? 132\b",
    "a program for a newer processor: `arm` tarballs are ARMv7",
    "take the armhf tarball on ARMv6",
    rules="M2",
    reference="#271",
)
_say(
    r"qemu: (uncaught target signal|fatal)|qemu-\S+: ",
    "the image runs under QEMU, which does not do everything that s6 wants",
    "try it on the real architecture",
    weight="trouble",
    rules="M17",
    reference="#537",
)

# ---- runtimes

_say(
    r"crun: .*(controller|cgroup).*|runc.*cgroup.*(denied|not supported|no such)",
    "the runtime and the host's control groups do not fit",
    "take runc, or a host with cgroup v2",
    weight="trouble",
)
_say(
    r"OCI runtime (create|exec) failed.*exec(:| failed).*permission denied",
    "the entry point is not executable, or /run or / is mounted noexec",
    "keep the tarball's modes; mount /run with exec",
    rules="M1 I11",
    reference="#555",
)
_say(
    r"OCI runtime (create|exec) failed.*(executable file not found in \$PATH|no such file or directory)",
    "the program is not in the image, or not in its PATH",
    "write the whole path; put /command into PATH for s6-overlay's programs",
    rules="S18 I15 M1",
    reference="#524",
)
_say(
    r"(standard_init_linux|exec user process caused|exec /\S+).*(exec format error)",
    "the image is for another architecture",
    "pull or build it for this one",
    rules="M2",
    reference="#401",
)
_say(
    r"(standard_init_linux|exec user process caused|exec /\S+).*(no such file or directory)",
    "the entry point or its interpreter is missing; Windows line ends look like that too",
    "see that /init is there, with /bin/sh",
    rules="M1 I14 S2",
    reference="#475",
)
_say(
    r"no new privileges|no_new_privs",
    "privileges cannot be gained in this container",
    "let USER own /run in the image",
    weight="trouble",
    rules="I8",
    reference="#600",
)
_say(
    r"OOMKilled|[Oo]ut of memory: Kill|exit(ed)?( with)?( code)? 137\b",
    "the container was killed: too little memory, or it did not stop within the grace period",
    "give it memory, or see why it stops slowly (a shell without `exec`)",
    rules="I6 S9",
    reference="#331",
)


def explain_line(text: str) -> Explanation | None:
    """What one line of a log means, or None for a line that needs no explanation. Fast enough for every line of a log."""
    clean = _clean(text)
    if not _MAYBE.search(clean):
        return None
    for entry in _ENTRIES:
        match = entry.pattern.search(clean)
        if match is not None:
            return Explanation(
                clean,
                _filled(entry.cause, match),
                _filled(entry.fix, match),
                entry.weight,
                entry.rules,
                url_of(entry.reference) if entry.reference else "",
            )
    return None


def explain_log(text: str | Iterable[str]) -> list[Explanation]:
    """What the lines of a log mean, in their order; what is said again and again stands once, with its count."""
    found: dict[tuple[str, str], Explanation] = {}
    lines = text.splitlines() if isinstance(text, str) else text
    for number, line in enumerate(lines, 1):
        explanation = explain_line(line)
        if explanation is None:
            continue
        key = (explanation.cause, explanation.fix)
        first = found.get(key)
        found[key] = replace(explanation, line=number) if first is None else replace(first, count=first.count + 1)
    return list(found.values())


def explain(line: str) -> str | None:
    """One line's cause and fix as a sentence, or None."""
    found = explain_line(line)
    return str(found) if found is not None else None


_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_MAX_LINE = 4000
_MAYBE = re.compile(
    r"fatal|warning|notice|deprecated|exited|failed|[Ff]ail|denied|not permitted|not found|[Nn]o such|[Ee]xec |exec|Read-only|noexec"
    r"|belongs to uid|permissions on|cycle|must be|timed out|stopping the container|crash|[Ii]llegal|SIGILL|qemu|OOM|memory|in use"
    r"|cgroup|privileges|UID not set|interpreter|\\r|\^M|code|bind|/type|suid"
)
"""Words of which every explained line has one; most lines of a log have none, and cost nothing more."""


def _clean(text: str) -> str:
    return _COLOURS.sub("", text[:_MAX_LINE]).rstrip("\r\n")


def _filled(template: str, match: re.Match[str]) -> str:
    groups = {name: value or "?" for name, value in match.groupdict().items()}
    return re.sub(r"\{(\w+)\}", lambda found: groups.get(found[1], found[0]), template)
