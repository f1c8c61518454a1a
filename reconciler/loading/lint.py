"""What is valid and yet hardly what was meant: warnings, each with the field it is about.

    command: [gunicorn --workers 4]     ->   command-line      one word that is a whole command line
    ports: [{name: http, base: 40000}]  ->   ephemeral-port    the kernel hands those out to anybody

Reads a manifest's own words, not the model: `0` that was written is not a `0` that is a default.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from reconciler.loading.document import Document
from reconciler.loading.parse import SourceFile, resolve
from reconciler.loading.problem import Problem
from reconciler.resources.check import FieldPath, Finding

_EPHEMERAL = range(32_768, 61_000)
"""net.ipv4.ip_local_port_range as Linux has it."""
_SECRET_NAME = re.compile(r"(^|_)(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY)S?$", re.I)
_SECRET_OPTION = re.compile(r"--?(?:[a-z-]*-)?(password|passwd|secret|token|api-?key)=(?!\$\().+", re.I)
_URL_PASSWORD = re.compile(r"://[^/\s:@]*:(?!\$\()[^/\s@]+@")
_SHELLS = frozenset({"sh", "bash", "dash", "ash", "zsh", "ksh", "fish", "busybox"})
_SHELL_WORD = re.compile(r"\||\|\||&|&&|;|[12]?>>?|<|2>&1|&>|\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|~/.*")
_TO_BACKGROUND = frozenset({"--daemon", "--daemonize", "--background", "--detach", "--fork"})
_NEVER_ENDS = frozenset({"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT"})
_DECIMAL_SIZE = re.compile(r"([0-9]+)([kMGT])")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_HIDDEN = re.compile("[\u00ad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")


def of_file(file: SourceFile, lines: list[str]) -> Iterator[Problem]:
    """Characters that nobody sees, wherever they stand."""
    if file.data.isascii():
        return
    for number, line in enumerate(lines, 1):
        for found in _HIDDEN.finditer(line):
            at = found.start() + 1
            yield Problem(
                file.path, number, at, at + 1, "hidden-character", f"an invisible character, U+{ord(found.group()):04X}",
                help="remove it, or write it as an escape in double quotes", snippet=line if len(line) <= 1000 else "",
                severity="warning",
            )  # fmt: skip


_CONTAINERS = frozenset((dict, list))
_SIZED = ("size", "memory")


def of_document(document: Document) -> Iterator[Finding]:
    """Of an object that has no errors."""
    spec = document.value.get("spec")
    if not isinstance(spec, dict):
        return
    pending: list[tuple[FieldPath, Any]] = [(("spec",), spec)]
    while pending:  # every map below, in the order in which they stand
        path, node = pending.pop()
        if type(node) is list:
            below = [((*path, index), item) for index, item in enumerate(node) if type(item) in _CONTAINERS]
            pending += reversed(below)
            continue
        below = []
        for name, value in node.items():
            kind = type(value)
            if kind in _CONTAINERS:
                below.append(((*path, name), value))
            lint = _LINTS.get(name)
            if lint is not None:
                yield from lint((*path, name), value, node)
            elif kind is str:
                if _is_size(name):
                    yield from _size((*path, name), value)
            elif (
                kind is int
                and document.placed is None
                and _LEADING_ZERO.fullmatch(text := document.item_text(node, name))
            ):
                message = f"{text} is {value} here: octal numbers begin with 0o"
                yield Finding("leading-zero", (*path, name), message, f"write {value}, or 0o{text.lstrip('+-0') or 0}")
        pending += reversed(below)


@lru_cache(1000)
def _is_size(name: str) -> bool:
    return name.lower().endswith(_SIZED)


def flow_list(words: Sequence[str]) -> str:
    """How a list of words is written in one line: `[sleep, "10"]`."""
    plain = (re.fullmatch(r"[\w/.=+-][\w/.:=+-]*", word) and isinstance(resolve(word), str) for word in words)
    return f"[{', '.join(word if ok else json.dumps(word) for word, ok in zip(words, plain, strict=True))}]"


def _command(path: FieldPath, command: Any, around: dict[str, Any]) -> Iterator[Finding]:
    if not isinstance(command, list) or not command:
        return
    program = str(command[0])
    name = program.rpartition("/")[2]
    if " " in program.strip():
        words = flow_list([*program.split(), *map(str, command[1:])])
        yield Finding(
            "command-line", (*path, 0), "no shell takes this apart: it is one program's name", f"write {words}"
        )
    for index, word in enumerate(map(str, command[1:]), 1):
        if name not in _SHELLS and _SHELL_WORD.fullmatch(word):
            mend = f"write $({word.strip('${}')})" if word[0] == "$" else 'command: [sh, -c, "..."] has a shell'
            yield Finding("shell-word", (*path, index), f"{word} is handed over as it stands: no shell reads it", mend)
        if ("=" in word and _SECRET_OPTION.fullmatch(word)) or ("@" in word and _URL_PASSWORD.search(word)):
            message = "a secret that everybody on the machine can read in the list of processes"
            yield Finding("plain-secret", (*path, index), message, "hand it over in a variable or a file")
        if word in _TO_BACKGROUND:
            yield _leaves((*path, index), f"{word} sends the program into the background", f"leave {word} out")
    if name == "nginx" and "daemon off" not in " ".join(map(str, command)):
        yield _leaves((*path, 0), "nginx goes into the background", 'add -g and "daemon off;"')


def _leaves(path: FieldPath, message: str, help: str) -> Finding:
    return Finding("background", path, f"{message}, where it cannot be watched: its start looks like its end", help)


def _env(path: FieldPath, env: Any, around: dict[str, Any]) -> Iterator[Finding]:
    for index, variable in enumerate(env if isinstance(env, list) else ()):
        value = variable.get("value") if isinstance(variable, dict) else None
        if not isinstance(value, str) or not value or value.startswith(("/", "$(")):
            continue
        if _SECRET_NAME.search(str(variable.get("name"))) or ("@" in value and _URL_PASSWORD.search(value)):
            message = "a secret in a manifest is known to everybody who reads the repository"
            help = "keep it in a file: valueFrom: {file: PATH}"
            yield Finding("plain-secret", (*path, index, "value"), message, help)


def _stop(path: FieldPath, stop: Any, around: dict[str, Any]) -> Iterator[Finding]:
    signal = stop.get("signal") if isinstance(stop, dict) else None
    if signal == "SIGKILL":
        message = "SIGKILL leaves no time to finish anything, and gracePeriod has no effect"
        yield Finding("stop-signal", (*path, "signal"), message, "SIGTERM asks first; the kill follows anyway")
    elif signal in _NEVER_ENDS:
        message = f"{signal} ends no program: each one is killed after the grace period"
        yield Finding("stop-signal", (*path, "signal"), message, "take SIGTERM, SIGINT or SIGQUIT")


def _ports(path: FieldPath, ports: Any, around: dict[str, Any]) -> Iterator[Finding]:
    for index, port in enumerate(ports if isinstance(ports, list) else ()):
        for name in ("base", "port"):
            if isinstance(port, dict) and port.get(name) in _EPHEMERAL:
                yield _ephemeral((*path, index, name), port[name])


def _sockets(path: FieldPath, sockets: Any, around: dict[str, Any]) -> Iterator[Finding]:
    for index, socket in enumerate(sockets if isinstance(sockets, list) else ()):
        listen = str(socket.get("listen", "")) if isinstance(socket, dict) else ""
        port = listen.rpartition(":")[2]
        if port.isdecimal() and not listen.startswith("/") and int(port) in _EPHEMERAL:
            yield _ephemeral((*path, index, "listen"), int(port))


def _ephemeral(path: FieldPath, port: int) -> Finding:
    message = f"{port} is one of the ports that the kernel hands to outgoing connections (32768 to 60999)"
    return Finding("ephemeral-port", path, message, "take one below 32768, or it may be taken when it is needed")


def _restart(path: FieldPath, restart: Any, around: dict[str, Any]) -> Iterator[Finding]:
    if isinstance(restart, dict) and restart.get("policy") == "Never" and not restart.get("rules"):
        for name in ("backoff", "maxRestarts", "window"):
            if name in restart:
                yield _idle((*path, name), "policy: Never restarts nothing")


def _retry(path: FieldPath, retry: Any, around: dict[str, Any]) -> Iterator[Finding]:
    if isinstance(retry, dict) and retry.get("maxAttempts") == 1 and "backoff" in retry:
        yield _idle((*path, "backoff"), "with one attempt nothing is tried again")


def _tasks(path: FieldPath, tasks: Any, around: dict[str, Any]) -> Iterator[Finding]:
    """In a pool of slots for tasks nothing runs for long."""
    yield from _retry((*path, "retry"), tasks.get("retry") if isinstance(tasks, dict) else None, around)
    if not isinstance(tasks, dict) or tasks.get("mode", "PerTask") != "PerTask":
        return
    for name in ("restart", "strategy", "restartBudget"):
        if name in around:
            yield _idle((*path[:-1], name), "tasks have no workers to restart or replace")
    template = around.get("template")
    if isinstance(template, dict) and template.get("ports"):
        yield _idle((*path[:-1], "template", "ports"), "tasks get no ports")


def _idle(path: FieldPath, because: str) -> Finding:
    return Finding("no-effect", path, f"has no effect: {because}", "remove it")


def _size(path: FieldPath, value: str) -> Iterator[Finding]:
    found = _DECIMAL_SIZE.fullmatch(value)
    if found is not None:
        number, unit = found.groups()
        power = "kMGT".index(unit) + 1
        binary = f"{number}{'K' if unit == 'k' else unit}i"
        less = round(100 - 100 * (1000 / 1024) ** power)
        message = f"{value} is {number} x 10^{3 * power} bytes, {less} % less than {binary}"
        yield Finding("decimal-size", path, message, f"write {binary}")


_Lint = Callable[[FieldPath, Any, dict[str, Any]], Iterator[Finding]]
_LINTS: dict[str, _Lint] = {
    "command": _command,
    "env": _env,
    "stop": _stop,
    "ports": _ports,
    "sockets": _sockets,
    "restart": _restart,
    "tasks": _tasks,
}
"""By the name of the field, wherever it is: templates stand in several kinds."""
