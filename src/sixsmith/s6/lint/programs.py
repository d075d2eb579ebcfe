"""What is known of programs: how to see through the ones that start others, and which go into the background by themselves.

Sources: the manuals of the programs, of s6 and of execline.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["CHANGES_USER", "daemonises", "is_daemon", "unwrapped"]

_WRAPPERS: dict[str, tuple[str, int]] = {
    "exec": ("a", 0),
    "command": ("", 0),
    "env": ("uC", 0),
    "nice": ("n", 0),
    "ionice": ("cnp", 0),
    "nohup": ("", 0),
    "setsid": ("", 0),
    "stdbuf": ("ioe", 0),
    "chrt": ("", 1),
    "timeout": ("sk", 1),
    "time": ("", 0),
    "su-exec": ("", 1),
    "gosu": ("", 1),
    "chpst": ("ue/Unmdfcrplo", 0),
    "setuidgid": ("", 1),
    "with-contenv": ("", 0),
    "printcontenv": ("", 0),
    "s6-setuidgid": ("", 1),
    "s6-envuidgid": ("D", 1),
    "s6-applyuidgid": ("ugG", 0),
    "s6-envdir": ("", 1),
    "s6-env": ("", 0),
    "s6-softlimit": ("acdfhlmnoprst", 0),
    "s6-nice": ("n", 0),
    "s6-notifyoncheck": ("d3csntwT", 0),
    "s6-setlock": ("tdw", 1),
    "s6-setsid": ("", 0),
    "s6-fghack": ("", 0),
    "emptyenv": ("", 0),
    "fdmove": ("", 2),
    "fdclose": ("", 1),
    "redirfd": ("", 2),
    "cd": ("", 1),
    "umask": ("", 1),
    "export": ("", 2),
    "unexport": ("", 1),
    "importas": ("dD", 2),
    "tini": ("", 0),
    "dumb-init": ("", 0),
}
"""Programs that start others: options that take a value, and how many words stand before the next program."""

CHANGES_USER = frozenset({"su-exec", "gosu", "setuidgid", "s6-setuidgid", "s6-applyuidgid", "su", "runuser", "setpriv"})
"""Programs that become another user."""

_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*="


def unwrapped(words: Sequence[str], *, shell: bool = True) -> tuple[str, ...]:
    """The program behind all wrappers, with its arguments; empty when there is none. In a `shell`, `cd`, `export` and
    `umask` are commands of their own and wrap nothing."""
    rest = list(words)
    for _ in range(30):
        while rest and re.match(_ASSIGNMENT, rest[0]):
            rest.pop(0)
        name = rest[0].rpartition("/")[2] if rest else ""
        if name not in _WRAPPERS or (shell and name in ("cd", "export", "umask", "unexport", "wait")):
            break
        values, positionals = _WRAPPERS[name]
        rest.pop(0)
        while rest and rest[0].startswith("-") and rest[0] != "-":
            option = rest.pop(0)
            if option == "--":
                break
            if not option.startswith("--") and option[1:2] in tuple(values) and len(option) == 2 and rest:
                rest.pop(0)
        while rest and re.match(_ASSIGNMENT, rest[0]):
            rest.pop(0)
        del rest[:positionals]
    return tuple(rest)


_FOREGROUND: dict[str, str] = {
    "php-fpm": r"-F|--nodaemonize|-R?F|-FR",
    "crond": r"-[a-zA-Z]*[fnd].*",
    "cron": r"-[a-zA-Z]*f.*",
    "sshd": r"-[a-zA-Z0-9]*[Ddt].*",
    "apache2": r"-X|-?-?D?FOREGROUND|-DFOREGROUND|-DNO_DETACH|NO_DETACH",
    "httpd": r"-X|FOREGROUND|-DFOREGROUND|-DNO_DETACH|NO_DETACH|-[a-z]*f.*",
    "apachectl": r"-X|FOREGROUND|-DFOREGROUND|configtest|graceful.*|stop",
    "apache2ctl": r"-X|FOREGROUND|-DFOREGROUND|configtest|graceful.*|stop",
    "dropbear": r"-[a-zA-Z]*F.*",
    "dnsmasq": r"-[a-zA-Z]*[kd].*|--keep-in-foreground|--no-daemon|--test",
    "named": r"-[a-zA-Z0-9]*[fg].*",
    "lighttpd": r"-[a-zA-Z]*[Dt].*",
    "rsyslogd": r"-[a-zA-Z0-9]*n.*|-N.*",
    "syslogd": r"-[a-zA-Z0-9]*n.*",
    "klogd": r"-[a-zA-Z0-9]*n.*",
    "ntpd": r"-[a-zA-Z]*[ndq].*",
    "chronyd": r"-[a-zA-Z0-9]*[ndqQp].*",
    "supervisord": r"-n|--nodaemon",
    "squid": r"-[a-zA-Z]*[Nzk].*|--foreground",
    "smbd": r"-[a-zA-Z]*[Fi].*|--foreground|--interactive",
    "nmbd": r"-[a-zA-Z]*[Fi].*|--foreground|--interactive",
    "winbindd": r"-[a-zA-Z]*[Fi].*|--foreground|--interactive",
    "proftpd": r"-n|--nodaemon|-t",
    "transmission-daemon": r"-f|--foreground|-d|--dump-settings",
    "cupsd": r"-[fFt]",
    "inetd": r"-[a-zA-Z]*[fd].*",
    "xinetd": r"-dontfork|-d",
    "radiusd": r"-[a-zA-Z]*[fXC].*",
    "mosquitto": r".*",
    "fail2ban-server": r"-[a-zA-Z]*f.*|--foreground",
    "avahi-daemon": r".*",
}
"""Programs that become daemons unless an argument says otherwise; the pattern is that argument's."""

_BACKGROUND: dict[str, str] = {
    "redis-server": r"--daemonize=?(yes)?",
    "haproxy": r"-[a-zA-Z]*D",
    "memcached": r"-[a-zA-Z]*d",
    "gunicorn": r"-D|--daemon",
    "uwsgi": r"-d|--daemonize.*",
    "mongod": r"--fork",
    "caddy": r"start",
    "avahi-daemon": r"-[a-zA-Z]*D|--daemonize",
    "mosquitto": r"-d|--daemon",
    "postfix": r"start",
    "openvpn": r"--daemon",
    "aria2c": r"-D|--daemon(=true)?",
    "slapd": r"(?!)",
    "varnishd": r"(?!)",
    "dockerd": r"(?!)",
}
"""Programs that become daemons when an argument asks for it."""

_ONCE = r"-[tTvVhs]|--version|--help|--test|--initialize.*|--bootstrap|--init.*|configtest|check.*|validate|-version|version"
_STAYS = r"--?(no[-_]?(daemon.*|detach.*|fork.*)|foreground|fg)(=.*)?"
_GOES = r"--(daemon|daemonize|daemonise|background|detach)(=(true|yes|1|on))?"
_NGINX_OFF = rb"(?m)^\s*daemon\s+off\s*;"


def _known(name: str) -> str:
    """`php-fpm83` and `php-fpm8.2` are php-fpm."""
    return re.sub(r"^(php-fpm)[\d.]+$", r"\1", name)


def is_daemon(name: str) -> bool:
    """Whether this is a program that runs until it is stopped."""
    name = _known(name)
    servers = {"nginx", "mysqld", "mariadbd", "postgres", "slapd", "varnishd", "dockerd", "node_exporter"}
    return name in _FOREGROUND or name in _BACKGROUND or name in servers


def daemonises(words: Sequence[str], config: bytes = b"") -> str | None:
    """What to do about a program that would leave the foreground, or None for one that stays; `config` is the content
    of its usual configuration files."""
    if not words:
        return None
    name, arguments = _known(words[0].rpartition("/")[2]), list(words[1:])
    if any(re.fullmatch(_ONCE, argument) for argument in arguments) and name not in ("sshd", "gunicorn", "memcached"):
        return None
    if name == "nginx":
        joined = " ".join(arguments)
        if re.search(r"daemon\s+off", joined) or re.search(_NGINX_OFF, config):
            return None
        return 'add `-g "daemon off;"`'
    if name == "php-fpm" and re.search(rb"(?mi)^\s*daemonize\s*=\s*(no|off|0|false)", config):
        return None
    if name in _FOREGROUND and name not in _BACKGROUND:
        if any(re.fullmatch(_FOREGROUND[name], argument) for argument in arguments):
            return None
        return f"give `{name}` its option for the foreground"
    if any(re.fullmatch(_STAYS, argument) for argument in arguments):
        return None
    pattern = _BACKGROUND.get(name, r"(?!)")
    for index, argument in enumerate(arguments):
        follows = arguments[index + 1] if index + 1 < len(arguments) else ""
        if follows.lower() in ("no", "off", "0", "false") and argument.startswith("--"):
            continue
        if re.fullmatch(pattern, argument) or re.fullmatch(_GOES, argument):
            return f"leave `{argument}` out"
    return None
