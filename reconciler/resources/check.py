"""What an object's fields must be to each other, beyond their types: checks of one object by itself.

    replicas: 3, ports: [{port: 80}]     ->   port-clash at spec.template.ports[0].port

Reads: one object. Says: Findings, each with its field, so that whoever knows the file can point at it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from reconciler.resources import autoscale, limits, scheduling
from reconciler.resources import lock as locks
from reconciler.resources.autoscale import MAX_REPLICAS
from reconciler.resources.environment import MAX_ARGUMENT_BYTES, EnvVar
from reconciler.resources.lock import TOKEN, Lock, token_variable
from reconciler.resources.meta import Key, Model, Object
from reconciler.resources.pool import Mode, OnChange, Pool, Tasks, Template
from reconciler.resources.probe import WAYS, Kind, Notify, Probe
from reconciler.resources.restart import Backoff, Match, RestartPolicy, RestartPolicySpec, Rule
from reconciler.resources.scheduling import SchedulingPolicy, SchedulingPolicySpec
from reconciler.resources.units import format_duration, shown
from reconciler.resources.worker import Reason

LONGEST_POOL_NAME = 63 - len(f"-{MAX_REPLICAS - 1}")
"""A worker's name is its pool's and its ordinal, and a DNS label too."""

MAX_SOCKET_PATH_BYTES = 107
MAX_TOTAL_BYTES = (2 << 20) - (64 << 10)
"""Of argv and environment: a quarter of the usual stack, less what is set for every process."""

FieldPath = tuple[str | int, ...]

_TEMPLATE: FieldPath = ("spec", "template")
_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")
_OF_EVERY_PROCESS = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "RECONCILER_POOL"})
_OF_WORKERS = frozenset({"RECONCILER_ORDINAL", "RECONCILER_WORKER", "RECONCILER_INSTANCE"})
_RESERVED = _OF_WORKERS | {"RECONCILER_POOL", "RECONCILER_TASK", "RECONCILER_ATTEMPT", "RECONCILER_PAYLOAD"}
_PASSED_SOCKETS = frozenset({"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"})


class Finding(NamedTuple):
    """One thing that is wrong, the field as it is written in a manifest, and how to mend it."""

    rule: str
    path: FieldPath
    message: str
    help: str = ""


class Address(NamedTuple):
    """Where a socket listens: a host and port, or a path with port 0."""

    host: str
    port: int

    def meets(self, other: Address) -> bool:
        """Whether the kernel refuses to listen on both."""
        if self.port != other.port or (":" in self.host) != (":" in other.host):
            return False
        return self.host == other.host or (self.port > 0 and not {"0.0.0.0", "::"}.isdisjoint((self.host, other.host)))


def findings(obj: Object) -> list[Finding]:
    """All that is wrong with an object whose fields are of the right types."""
    match obj:
        case Pool():
            return list(_pool(obj))
        case RestartPolicy():
            return list(_restart(("spec",), obj.spec))
        case SchedulingPolicy():
            return list(_scheduling(("spec",), obj.spec))
        case Lock():
            return [
                Finding(rule, ("spec", field), message, help) for rule, field, message, help in locks.findings(obj.spec)
            ]
        case _:
            return []


def references(obj: Object) -> list[tuple[FieldPath, Key]]:
    """The objects that this one names, each with the field that names it."""
    if not isinstance(obj, Pool):
        return []
    found: list[tuple[FieldPath, Key]] = []
    if obj.spec.restart.ref is not None:
        found.append((("spec", "restart", "ref"), Key("RestartPolicy", obj.spec.restart.ref)))
    if obj.spec.tasks is not None and obj.spec.tasks.scheduling.ref is not None:
        key = Key("SchedulingPolicy", obj.spec.tasks.scheduling.ref)
        found.append((("spec", "tasks", "scheduling", "ref"), key))
    for index, dependency in enumerate(obj.spec.depends_on):
        found.append((("spec", "dependsOn", index, "name"), Key(dependency.kind, dependency.name)))
    for index, use in enumerate(obj.spec.locks):
        found.append((("spec", "locks", index, "name"), Key("Lock", use.name)))
    return found


def address(listen: str) -> Address:
    """Of HOST:PORT, [IPv6]:PORT or an absolute path. Raises ValueError, whose text says what is wrong."""
    if listen.startswith("/"):
        if len(listen.encode()) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
        return Address(listen, 0)
    host, colon, port = listen.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"expected HOST:PORT, [IPv6]:PORT or an absolute path, got {shown(listen)}")
    if not 1 <= int(port) <= 65535:
        raise ValueError(f"a port is 1 to 65535, got {port}")
    host = {"localhost": "127.0.0.1", "*": "0.0.0.0", "": "0.0.0.0"}.get(host, host)
    try:
        if host.startswith("[") and host.endswith("]"):
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        return Address(str(ipaddress.IPv4Address(host)), int(port))
    except ValueError:
        raise ValueError(f"{shown(host)} is no IP address: no name server is asked") from None


def _pool(pool: Pool) -> Iterator[Finding]:
    spec, template = pool.spec, pool.spec.template
    if len(pool.name) > LONGEST_POOL_NAME:
        message = f"a pool's name has at most {LONGEST_POOL_NAME} characters, got {len(pool.name)}"
        help = f"its workers are NAME-0 to NAME-{MAX_REPLICAS - 1}, and 63 is the most for those"
        yield Finding("name", ("metadata", "name"), message, help)
    yield from _commands(pool)
    if not template.working_dir.startswith("/"):
        message = f"expected an absolute path, got {shown(template.working_dir)}"
        yield Finding("working-dir", (*_TEMPLATE, "workingDir"), message, "begin it with /")
    texts = tuple(_all_strings(template))
    yield from _strings(template, texts)
    yield from _variables(pool, texts)
    yield from _ports(pool)
    yield from _sockets(template)
    yield from _cleanup(pool)
    for rule, field, message, help in limits.findings(template):
        yield Finding(rule, (*_TEMPLATE, *field), message, help)
    yield from _stop(pool)
    yield from _reload(template)
    yield from _probes(pool)
    yield from _dependencies(pool)
    yield from _autoscale(pool)
    yield from _locks(pool)
    beside = spec.restart.model_fields_set - {"ref"}
    if spec.restart.ref is not None and beside:
        message = f"ref names a RestartPolicy, so {_as_written(spec.restart, beside)} cannot stand beside it"
        yield Finding("union", ("spec", "restart"), message, "remove ref, or all the rest")
    yield from _restart(("spec", "restart"), spec.restart)
    if spec.tasks is not None:
        yield from _backoff(("spec", "tasks", "retry", "backoff"), spec.tasks.retry.backoff)
        for index, retry_rule in enumerate(spec.tasks.retry.rules):
            yield from _match(("spec", "tasks", "retry", "rules", index), retry_rule)
        yield from _scheduling(("spec", "tasks", "scheduling"), spec.tasks.scheduling)
    yield from _warm(pool)


def _autoscale(pool: Pool) -> Iterator[Finding]:
    bounds, tasks = pool.spec.autoscale, pool.spec.tasks
    if bounds is None:
        return
    mode = tasks.mode if tasks is not None else None
    for rule, field, message, help in autoscale.findings(bounds, mode is Mode.PER_TASK, mode is Mode.WARM):
        yield Finding(rule, ("spec", "autoscale", *field), message, help)
    if "replicas" in pool.spec.model_fields_set:
        message = "a pool has replicas or autoscale, not both"
        yield Finding("union", ("spec", "replicas"), message, "remove replicas, or autoscale")


def _as_written(model: Model, fields: Iterable[str]) -> str:
    return ", ".join(sorted(type(model).model_fields[name].alias or name for name in fields))


def _warm(pool: Pool) -> Iterator[Finding]:
    """What only workers that take tasks can have."""
    spec = pool.spec
    if spec.warm:
        return
    help = "write tasks: {mode: Warm}, or remove it"
    if spec.template.recycle is not None:
        yield Finding("warm", (*_TEMPLATE, "recycle"), "only warm workers are recycled", help)
    if spec.tasks is not None:
        shown = Tasks()  # what is shown of a pool has every field, and can be applied again
        for field in ("assignment", "depth"):
            if getattr(spec.tasks, field) != getattr(shown, field):
                message = f"{field} is about workers that take tasks, and a PerTask pool has none"
                yield Finding("warm", ("spec", "tasks", field), message, help)


def _backoff(path: FieldPath, backoff: Backoff) -> Iterator[Finding]:
    if backoff.max_s < backoff.initial_s:
        yield Finding("range", path, "max is less than initial", "raise max, or lower initial")


def _scheduling(path: FieldPath, spec: SchedulingPolicySpec) -> Iterator[Finding]:
    for rule, field, message, help in scheduling.findings(spec):
        yield Finding(rule, (*path, *field), message, help)


def _restart(path: FieldPath, spec: RestartPolicySpec) -> Iterator[Finding]:
    yield from _backoff((*path, "backoff"), spec.backoff)
    for index, rule in enumerate(spec.rules):
        yield from _rule((*path, "rules", index), rule)


def _rule(path: FieldPath, rule: Rule) -> Iterator[Finding]:
    yield from _match(path, rule)
    if rule.reason is Reason.STOPPED:
        message = "no rule sees a stop by the reconciler: what is wanted again is started again"
        yield Finding("value", (*path, "reason"), message, "remove the rule")
    if rule.reason in (Reason.DEADLINE_EXCEEDED, Reason.START_DEADLINE_EXCEEDED):
        yield Finding("value", (*path, "reason"), f"{rule.reason} is said of tasks only", "remove the rule")


def _match(path: FieldPath, rule: Match) -> Iterator[Finding]:
    chosen = [what for what in (rule.exit_codes, rule.signals, rule.reason) if what is not None]
    if len(chosen) != 1:
        message = f"a rule has exactly one of exitCodes, signals and reason, got {len(chosen) or 'none'}"
        yield Finding("union", path, message, "write one rule for each" if chosen else "add one of them")
    codes = rule.exit_codes
    if codes is not None and (codes.in_ is None) == (codes.not_in is None):
        got = "none" if codes.in_ is None else "both"
        yield Finding("union", (*path, "exitCodes"), f"exitCodes has exactly one of in and notIn, got {got}", "")


def _commands(pool: Pool) -> Iterator[Finding]:
    template = pool.spec.template
    path = (*_TEMPLATE, "command")
    if pool.spec.slots and template.command:
        message = "a PerTask pool takes no command: each task brings its own"
        yield Finding("command", path, message, "remove command, or remove tasks")
    if not pool.spec.slots and not template.command:
        message = "nothing to run"
        yield Finding("command", path, message, "add command: [PROGRAM, ARGUMENT], or tasks: {} for a pool of slots")
    yield from _program(path, template.command, template)


def _program(path: FieldPath, command: list[str], template: Template) -> Iterator[Finding]:
    if not command:
        return
    program = command[0]
    if not program:
        yield Finding("command", (*path, 0), "the program's name is empty", "name it, or give its path")
    elif "/" in program and program[0] not in "/$" and "working_dir" not in template.model_fields_set:
        message = f"the relative path {shown(program)} needs a workingDir"
        yield Finding("working-dir", (*path, 0), message, f"add workingDir, or write /.../{program.removeprefix('./')}")


def _strings(template: Template, texts: Sequence[tuple[FieldPath, str]]) -> Iterator[Finding]:
    """What the kernel cannot take: a NUL, an argument or a variable that is too long."""
    for path, text in texts:
        if "\0" in text:
            yield Finding("nul", path, "a NUL character cannot be handed to a process", "remove \\0")
        elif len(text) * 4 > MAX_ARGUMENT_BYTES and (size := len(text.encode())) > MAX_ARGUMENT_BYTES:
            message = f"{size} bytes; Linux takes at most {MAX_ARGUMENT_BYTES} in one argument"
            yield Finding("argument-too-long", path, message, "put it into a file")
    total = sum(len(word.encode()) + 9 for word in template.command)  # with a NUL and a pointer each
    total += sum(len(variable.name) + len((variable.value or "").encode()) + 10 for variable in template.env)
    if total > MAX_TOTAL_BYTES:
        message = f"command and env have {total} bytes together; Linux takes at most 2 MiB of both"
        yield Finding("argument-too-long", _TEMPLATE, message, "put some of it into a file")
    for index, variable in enumerate(template.env):
        value = variable.value or ""
        size = len(variable.name) + 1 + len(value.encode())
        if size > MAX_ARGUMENT_BYTES:
            message = f"NAME=VALUE of {size} bytes; Linux takes at most {MAX_ARGUMENT_BYTES} in one variable"
            yield Finding("argument-too-long", (*_TEMPLATE, "env", index, "value"), message, "put it into a file")
        if "\0" in value:
            path = (*_TEMPLATE, "env", index, "value")
            yield Finding("nul", path, "a NUL character cannot be handed to a process", "remove \\0")


def _all_strings(template: Template) -> Iterator[tuple[FieldPath, str]]:
    yield from _each((*_TEMPLATE, "command"), template.command)
    yield (*_TEMPLATE, "workingDir"), template.working_dir
    yield (*_TEMPLATE, "user"), template.user or ""
    yield from _each((*_TEMPLATE, "cleanup", "files"), template.cleanup.files)
    for kind, probe in template.probes.given():
        if probe.exec is not None:
            yield from _each((*_TEMPLATE, "probes", kind.value, "exec", "command"), probe.exec.command)
    if template.reload is not None and template.reload.exec is not None:
        yield from _each((*_TEMPLATE, "reload", "exec", "command"), template.reload.exec.command)
    if template.stop.pre_stop is not None:
        yield from _each((*_TEMPLATE, "stop", "preStop", "exec", "command"), template.stop.pre_stop.exec.command)
    for index, socket in enumerate(template.sockets):
        yield (*_TEMPLATE, "sockets", index, "listen"), socket.listen


def _each(path: FieldPath, texts: Iterable[str]) -> Iterator[tuple[FieldPath, str]]:
    return (((*path, index), text) for index, text in enumerate(texts))


def _variables(pool: Pool, texts: Sequence[tuple[FieldPath, str]]) -> Iterator[Finding]:
    """Variables that are declared twice or are not ours to set, and $(NAME) that will not be there."""
    template = pool.spec.template
    known = set(_OF_EVERY_PROCESS)
    if not pool.spec.slots:
        known |= _OF_WORKERS
        known |= {f"PORT_{port.name.upper().replace('-', '_')}" for port in template.ports}
        known |= {"PORT"} if template.ports else set()
        known |= {TOKEN} | {token_variable(use.name) for use in pool.spec.locks} if pool.spec.locks else set()
    declared: set[str] = set()
    secret: set[str] = set()
    for index, variable in enumerate(template.env):
        path = (*_TEMPLATE, "env", index)
        if variable.name in declared:
            yield Finding("duplicate-name", (*path, "name"), f"{variable.name} is declared twice", "remove one of them")
        if (
            variable.name in _RESERVED
            or variable.name.startswith(TOKEN)
            or (template.sockets and variable.name in _PASSED_SOCKETS)
        ):
            message = f"{variable.name} is set by the reconciler"
            yield Finding("reserved", (*path, "name"), message, "choose another name")
        yield from _one_value(path, variable)
        text = variable.value or ""
        if "$" in text and not template.env_from:  # which names those files have is seen at the start
            later = {item.name for item in template.env[index:]} - known
            yield from _unknown((*path, "value"), text, known, later)
        if variable.value_from is not None or _names(text) & secret:
            secret.add(variable.name)
        declared.add(variable.name)
        known.add(variable.name)
    for field, text in texts:
        if "$" in text and field[2] in ("command", "cleanup", "probes", "reload", "stop"):
            yield from _unknown(field, text, known, set())
            for name in sorted(_names(text) & secret):
                message = f"$({name}) is a secret, and command lines and names of files are open to everybody"
                yield Finding("secret", field, message, f"let the program read {name} from its environment")


def _one_value(path: FieldPath, variable: EnvVar) -> Iterator[Finding]:
    reference = variable.value_from
    if variable.value is None and reference is None:
        help = "write value: TEXT, or valueFrom: {file: /PATH}"
        yield Finding("missing-field", path, f"{variable.name} has no value", help)
    elif variable.value is not None and reference is not None:
        yield Finding("value", path, f"{variable.name} has value and valueFrom", "remove one of them")
    if reference is not None and len(reference.given) != 1:
        message = "a secret comes from exactly one of file, env and credential"
        yield Finding("value", (*path, "valueFrom"), message, "write valueFrom: {file: /PATH}")


def _names(text: str) -> set[str]:
    return {found.group(1) for found in _VARIABLE.finditer(text)} - {None} if "$" in text else set()


def _unknown(path: FieldPath, text: str, known: set[str], later: set[str]) -> Iterator[Finding]:
    for found in _VARIABLE.finditer(text):
        name = found.group(1)
        if name is None or name in known:
            continue
        if name in later:
            yield Finding("variable", path, f"$({name}) is declared only after this", "declare it before")
        else:
            message = f"$({name}) is no variable of the process"
            yield Finding("variable", path, message, f"declare {name} in env, or write $$({name}) for the text itself")


def _ports(pool: Pool) -> Iterator[Finding]:
    names: set[str] = set()
    replicas = pool.spec.most
    for index, port in enumerate(pool.spec.template.ports):
        path = (*_TEMPLATE, "ports", index)
        if port.name in names:
            yield Finding("duplicate-name", (*path, "name"), f"the port {port.name} is declared twice", "rename one")
        names.add(port.name)
        if port.base is not None and port.port is not None:
            yield Finding("value", path, "a port has base or port, not both", "remove one of them")
        elif port.base is not None and port.base + replicas - 1 > 65535:
            message = f"the last of {replicas} workers would have port {port.base + replicas - 1}; 65535 is the highest"
            yield Finding("port-clash", (*path, "base"), message, "lower base or replicas")
        elif port.port is not None and replicas > 1 and not pool.spec.template.sockets:
            message = f"{replicas} workers cannot all listen on port {port.port}"
            help = f"write base: {port.port}, or hold the port with sockets and pass it to all"
            yield Finding("port-clash", (*path, "port"), message, help)


def _sockets(template: Template) -> Iterator[Finding]:
    names: set[str] = set()
    addresses: list[Address] = []
    for index, socket in enumerate(template.sockets):
        path = (*_TEMPLATE, "sockets", index)
        if socket.name in names:
            message = f"the socket {socket.name} is declared twice"
            yield Finding("duplicate-name", (*path, "name"), message, "rename one")
        names.add(socket.name)
        try:
            here = address(socket.listen)
        except ValueError as error:
            yield Finding("socket", (*path, "listen"), str(error), "write 127.0.0.1:8080, [::1]:8080 or /run/web.sock")
            continue
        if any(here.meets(other) for other in addresses):
            yield Finding("socket", (*path, "listen"), f"{socket.listen} is held twice", "remove one of them")
        addresses.append(here)


def _stop(pool: Pool) -> Iterator[Finding]:
    template = pool.spec.template
    if template.stop.pre_stop is None:
        return
    path = (*_TEMPLATE, "stop", "preStop")
    yield from _program((*path, "exec", "command"), template.stop.pre_stop.exec.command, template)
    if pool.spec.slots:
        message = "a PerTask pool has no workers that are stopped: its tasks end by themselves"
        yield Finding(
            "pre-stop", path, message, "remove preStop, or let the task's own program finish on its stop signal"
        )
    elif template.stop.grace_period_s <= 0:
        yield Finding("pre-stop", path, "it would have no time: gracePeriod is 0", "write gracePeriod: 30s")


def _reload(template: Template) -> Iterator[Finding]:
    how = template.reload
    if how is not None and (how.signal is None) == (how.exec is None):
        message = "a reload is exactly one of signal and exec"
        yield Finding("value", (*_TEMPLATE, "reload"), message, "write reload: {signal: SIGHUP}")
    for index, watched in enumerate(template.watch_files):
        if watched.action is OnChange.RELOAD and how is None:
            path = (*_TEMPLATE, "watchFiles", index, "action")
            yield Finding("value", path, "the template has no reload", "add reload: {signal: SIGHUP}")


def _cleanup(pool: Pool) -> Iterator[Finding]:
    template, tasks = pool.spec.template, pool.spec.tasks
    if template.cleanup.files and tasks is not None and tasks.mode is Mode.PER_TASK:
        message = "a PerTask pool has no workers after which something could be removed"
        yield Finding("cleanup", (*_TEMPLATE, "cleanup"), message, "remove cleanup, and let each task tidy up itself")
        return
    for path, name in _each((*_TEMPLATE, "cleanup", "files"), template.cleanup.files):
        if not name.startswith(("/", "$(")):
            yield Finding("cleanup", path, f"expected an absolute path, got {shown(name)}", "begin it with /")
        elif name.endswith("/") or {".", ".."} & set(name.split("/")):
            message = f"{shown(name)} is a directory or climbs out of one"
            yield Finding("cleanup", path, message, "name one file or socket")
        elif {"*", "?", "["} & set(name):
            yield Finding("cleanup", path, f"{shown(name)} looks like a pattern", "name each file: there are no globs")


def _probes(pool: Pool) -> Iterator[Finding]:
    template = pool.spec.template
    for kind, probe in template.probes.given():
        path = (*_TEMPLATE, "probes", kind.value)
        if pool.spec.slots:
            message = "a PerTask pool has no workers that could be probed"
            yield Finding("probe", path, message, "remove probes, or give the tasks a timeout")
        yield from _probe(path, probe, template)
        if kind is Kind.LIVENESS and probe.notify is Notify.NEWLINE:
            message = "a newline is said once: it shows that a worker is ready, not that it is alive"
            yield Finding("probe", (*path, "notify"), message, "use notify: Systemd with WATCHDOG=1, or ask the worker")
        if kind is not Kind.READINESS and probe.success_threshold != 1:
            message = f"a {kind.value} probe counts from its first success"
            yield Finding("probe", (*path, "successThreshold"), message, "remove successThreshold")


def _probe(path: FieldPath, probe: Probe, template: Template) -> Iterator[Finding]:
    ways = [type(probe).model_fields[way].alias or way for way in WAYS if getattr(probe, way) is not None]
    if len(ways) != 1:
        message = f"a probe asks in one way, not in {len(ways)}: {', '.join(ways)}" if ways else "asks in no way"
        yield Finding("union", path, message, "write exactly one of httpGet, tcpSocket, exec and notify")
    if probe.period_s <= 0:
        yield Finding("range", (*path, "period"), "a period of nothing", "write period: 10s")
    elif probe.timeout_s <= 0:
        yield Finding("range", (*path, "timeout"), "no answer can be that fast", "write timeout: 1s")
    elif probe.timeout_s > probe.period_s and probe.notify is None:
        message = f"a timeout of {format_duration(probe.timeout_s)} is longer than the period, {format_duration(probe.period_s)}"
        field = "timeout" if "timeout_s" in probe.model_fields_set else "period"
        yield Finding("probe", (*path, field), message, "lower timeout, or raise period")
    names = {port.name for port in template.ports}
    for way, asked in (("httpGet", probe.http_get), ("tcpSocket", probe.tcp_socket)):
        if asked is not None and not asked.port.isdigit() and asked.port not in names:
            help = f"declared: {', '.join(sorted(names))}" if names else f"declare ports: [{{name: {asked.port}}}]"
            message = f"{shown(asked.port)} is none of the template's ports"
            yield Finding("reference", (*path, way, "port"), message, help)
    if probe.exec is not None:
        yield from _program((*path, "exec", "command"), probe.exec.command, template)


def _dependencies(pool: Pool) -> Iterator[Finding]:
    names: set[str] = set()
    for index, dependency in enumerate(pool.spec.depends_on):
        path = ("spec", "dependsOn", index, "name")
        if dependency.name in names:
            yield Finding("duplicate-name", path, f"pool/{dependency.name} is named twice", "remove one of them")
        names.add(dependency.name)


def _locks(pool: Pool) -> Iterator[Finding]:
    names: set[str] = set()
    for index, use in enumerate(pool.spec.locks):
        path = ("spec", "locks", index)
        if use.name in names:
            yield Finding("duplicate-name", (*path, "name"), f"lock/{use.name} is named twice", "remove one of them")
        names.add(use.name)
        if use.timeout_s is not None and use.timeout_s <= 0:
            yield Finding("range", (*path, "timeout"), "no lock is had in no time", "write timeout: 10m, or remove it")
    if pool.spec.locks and pool.spec.slots:
        message = "locks are held by workers, and a PerTask pool has none"
        yield Finding("value", ("spec", "locks"), message, "let the task's command be: reconciler lock run NAME -- CMD")
