"""A start in the launcher's words: template, argv, environment, log.

    Template "web" + Worker web-0  ->  ["register", ...] once, ["spawn", [["worker/web-0", instance, ...]]]

The environment of a process is, in this order: PATH, HOME, USER, LOGNAME, SHELL; RECONCILER_* and PORT*; what the template
declares; for tasks what was submitted. Nothing of the daemon's own environment but PATH.
"""

from __future__ import annotations

import json
import re
import signal as signals
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from reconciler.backends.base import Account, Host
from reconciler.backends.secrets import SecretError
from reconciler.errors import Terminal
from reconciler.launcher import protocol
from reconciler.launcher.protocol import Message
from reconciler.resources.limits import Enforcement
from reconciler.resources.lock import TOKEN, token_variable
from reconciler.resources.pool import Template
from reconciler.resources.probe import Notify, Probes
from reconciler.resources.worker import Worker

_decode = json.JSONDecoder().decode

_BESIDE = "+beside"
"""Marks the template of commands that run beside a worker: no sockets, ended at once."""

_FIRST_PASSED = 3
"""Descriptors are passed from here on: sockets, then the one for a newline."""

_VARIABLE = re.compile(r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")


class StartError(Terminal):
    """A start that cannot be asked for: which step, with which errno."""

    reason = "StartFailed"

    def __init__(self, step: str, errno: int, text: str) -> None:
        super().__init__(text)
        self.step, self.errno = step, errno


def expand(text: str, variables: Mapping[str, str], secret: Collection[str] = ()) -> str:
    """Replaces $(NAME); $$ is a dollar. Raises StartError for a name that is not in the environment, or is a secret."""

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name is None:
            return "$"
        if name in secret:
            raise StartError(
                "secret", 0, f"$({name}) is a secret: command lines and names of files are open to everybody"
            )
        if name not in variables:
            raise StartError("expand", 0, f"$({name}) is no variable of the process's environment")
        return variables[name]

    return _VARIABLE.sub(value, text) if "$" in text else text


def worker_key(name: str) -> str:
    """How the launcher calls a worker's slot."""
    return f"worker/{name}"


def pre_stop_key(name: str) -> str:
    """How the launcher calls the command before a worker's stop signal."""
    return f"{protocol.PRE_STOP_KIND}/{name}"


def pre_stop_instance(instance: str) -> str:
    """That command's own instance: there is one for each instance of the worker, so asked twice it runs once."""
    return instance + protocol.PRE_STOP_MARK


def task_key(task_id: int) -> str:
    """How the launcher calls a task."""
    return f"task/{task_id}"


def worker_log(instance: str) -> str:
    """Where a worker's output goes, below the log directory: by uid, never by name; one directory for all, for making one
    for each would take longer than the start itself."""
    uid, _, start = instance.partition(".")
    return f"w/{uid}.{start}.log"


def task_log(task_id: int, attempt: int) -> str:
    """Where a try's output goes, below the log directory."""
    return f"t/{task_id // 1000}/{task_id}.{attempt}.log"


def socket_name(pool: str, name: str) -> str:
    """Under what name the launcher holds a socket of a pool."""
    return f"{pool}/{name}"


def _template_id(pool: str, template_hash: str) -> str:
    return f"{pool}@{template_hash}"


class Starts:
    """Makes the messages of starts; remembers which templates this launcher has been told."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._registered: dict[str, dict[str, Any]] = {}
        self._lanes: dict[str, tuple[int, str]] = {}

    def worker(
        self, pool: str, worker: Worker, instance: str, template_hash: str, template: Template, channel: bool = False
    ) -> list[Message]:
        """What to send for one start of a worker. Raises StartError. `channel`: it takes tasks over its stdin."""
        base, variables, secret = self._variables(pool, worker, instance, template)
        everything = base | variables
        argv = [expand(word, everything, secret) for word in template.command]
        id_, messages = self._register(pool, template, template_hash, base, None, channel)
        if self._temporary(template):
            try:
                self._host.make_temporary(instance)
            except OSError as error:
                raise StartError("sandbox", error.errno or 0, f"a temporary directory: {error}") from None
        key = worker_key(worker.name)
        messages.append(["spawn", [[key, instance, id_, argv, variables, worker_log(instance)]]])
        if template.stop.pre_stop is not None:
            argv = [expand(word, everything, secret) for word in template.stop.pre_stop.exec.command]
            id_, more = self._register(pool, _plain(template), template_hash + _BESIDE, base, None)
            own = {**variables, "RECONCILER_INSTANCE": pre_stop_instance(instance)}
            messages += [*more, ["preStop", key, instance, id_, argv, own]]
        return messages

    def beside(
        self,
        pool: str,
        worker: Worker,
        key: str,
        instance: str,
        template: Template,
        command: Sequence[str],
        log: str | None = None,
    ) -> list[Message]:
        """What to send for a command that runs as the worker does, under a key of its own. Raises StartError.

        Its RECONCILER_INSTANCE is its own, for by that the launcher finds what it leaves behind.
        """
        base, variables, secret = self._variables(pool, worker, worker.status.instance, template)
        everything = base | variables
        argv = [expand(word, everything, secret) for word in command]
        id_, messages = self._register(pool, _plain(template), worker.status.template_hash + _BESIDE, base, None)
        own = {**variables, "RECONCILER_INSTANCE": instance}
        messages.append(["spawn", [[key, instance, id_, argv, own, log]]])
        return messages

    def files(self, pool: str, worker: Worker, template: Template, files: Sequence[str]) -> list[str]:
        """Declared files of a worker with its variables in them. Raises StartError."""
        # nothing secret can be part of a name: what a secret's file holds by now does not matter
        open_ = template.changed(env_from=None)
        base, variables, secret = self._variables(pool, worker, worker.status.instance, open_, secrets=False)
        everything = base | variables
        return [expand(path, everything, secret) for path in files]

    def environment(self, pool: str, worker: Worker, template: Template) -> dict[str, str]:
        """What its latest start had in its environment, secrets as they are now. Raises StartError."""
        base, variables, _ = self._variables(pool, worker, worker.status.instance, template)
        return base | variables

    def _variables(
        self, pool: str, worker: Worker, instance: str, template: Template, secrets: bool = True
    ) -> tuple[dict[str, str], dict[str, str], set[str]]:
        """What all workers of the template have in their environment, what this one has, and which of it is secret."""
        base = self._environment(pool, template)
        variables = {
            "RECONCILER_ORDINAL": str(worker.spec.ordinal),
            "RECONCILER_WORKER": worker.name,
            "RECONCILER_INSTANCE": instance,
        }
        for index, (name, number) in enumerate(worker.spec.ports.items()):
            if index == 0:
                variables["PORT"] = str(number)
            variables[f"PORT_{name.upper().replace('-', '_')}"] = str(number)
        for index, (lock, token) in enumerate(worker.status.tokens.items()):
            if index == 0:
                variables[TOKEN] = str(token)
            variables[token_variable(lock)] = str(token)
        ways = template.probes.notify_ways
        if Notify.SYSTEMD in ways:
            variables["NOTIFY_SOCKET"] = self._host.notify_path
        if Notify.NEWLINE in ways:
            variables["NOTIFY_FD"] = str(_FIRST_PASSED + len(template.sockets))
        if self._temporary(template):
            variables["TMPDIR"] = f"{self._host.temporary}/{instance}"
        liveness = template.probes.liveness
        if liveness is not None and liveness.notify is not None:
            variables["WATCHDOG_USEC"] = str(round(liveness.period_s * 1_000_000))
        secret = self._declare(template, base, variables, secrets)
        return base, variables, secret

    def lane(self, pool: str, slots: int, template: Template, template_hash: str) -> list[Message]:
        """What to send so that the launcher knows a task pool's slots and template; nothing when it does. Raises StartError."""
        base = self._environment(pool, template)
        self._declare(template, base, base)
        id_, messages = self._register(pool, template, template_hash, base, pool)
        if self._lanes.get(pool) != (slots, id_):
            self._lanes[pool] = (slots, id_)
            messages.append(["lane", pool, slots])
        return messages

    def tasks(self, pool: str, starts: Sequence[tuple[int, int, str, str]]) -> list[Message]:
        """What to send for tasks given as (id, attempt, instance, spec as JSON), in order."""
        _, template = self._lanes[pool]
        items = []
        for task_id, attempt, instance, text in starts:
            spec = _decode(text)
            env = {
                **spec.get("env", {}),
                "RECONCILER_TASK": str(task_id),
                "RECONCILER_ATTEMPT": str(attempt),
                "RECONCILER_INSTANCE": instance,
            }
            if spec.get("payload") is not None:
                env["RECONCILER_PAYLOAD"] = json.dumps(spec["payload"], separators=(",", ":"))
            items.append([task_key(task_id), instance, template, spec["command"], env, task_log(task_id, attempt)])
        return [["spawn", items]]

    def forget(self, pool: str, template_hash: str) -> None:
        """The revision is gone: a later one of the same content is told, and its sockets are bound, anew."""
        self._registered.pop(_template_id(pool, template_hash), None)
        self._registered.pop(_template_id(pool, template_hash + _BESIDE), None)

    def knows_lane(self, pool: str) -> bool:
        """Whether the launcher has been told of the pool's slots."""
        return pool in self._lanes

    def _environment(self, pool: str, template: Template) -> dict[str, str]:
        try:
            account = self._host.account(template.user)
        except LookupError as error:
            raise StartError(
                "identity", 0, f"there is no account {template.user!r} on this machine ({error})"
            ) from None
        return {
            "PATH": self._host.path,
            "HOME": account.home,
            "USER": account.name,
            "LOGNAME": account.name,
            "SHELL": account.shell,
            "RECONCILER_POOL": pool,
        }

    def _temporary(self, template: Template) -> bool:
        return template.sandbox.private_tmp and bool(self._host.temporary)

    def _groups(self, template: Template, account: Account) -> tuple[int | None, list[int] | None]:
        """Its group and further groups; None: as they are, or as the account has them."""
        try:
            gid = account.gid if template.group is None else self._host.group(template.group)
            groups = account.groups if template.groups is None else [self._host.group(name) for name in template.groups]
        except LookupError as error:
            raise StartError("identity", 0, f"there is no such group on this machine ({error})") from None
        return gid, groups

    def _declare(
        self, template: Template, base: Mapping[str, str], into: dict[str, str], secrets: bool = True
    ) -> set[str]:
        """Adds the template's variables, each of which may use those before it; returns the names of what is secret.

        Without `secrets` those are left out. Raises StartError.
        """
        secret: set[str] = set()
        try:
            for source in template.env_from or ():
                found = self._host.secret_variables(source.file)
                reserved = next((name for name in found if name.startswith("RECONCILER_")), None)
                if reserved is not None:
                    raise StartError("secret", 0, f"{source.file} sets {reserved}, which the reconciler sets")
                into.update(found)
                secret.update(found)
            for variable in template.env:
                if variable.value_from is None:
                    text = variable.value or ""
                    if _refers(text, secret):
                        secret.add(variable.name)
                    if secrets or variable.name not in secret:
                        into[variable.name] = expand(text, {**base, **into})
                else:
                    secret.add(variable.name)
                    if secrets:
                        into[variable.name] = self._host.secret(variable.value_from)
        except SecretError as error:
            raise StartError("secret", error.errno, error.text) from None
        return secret

    def _register(
        self,
        pool: str,
        template: Template,
        template_hash: str,
        env: dict[str, str],
        lane: str | None,
        channel: bool = False,
    ) -> tuple[str, list[Message]]:
        id_ = _template_id(pool, template_hash)
        account = self._host.account(template.user)
        gid, groups = self._groups(template, account)
        limits = _limits(template, self._host.temporary if lane is None else "")
        sockets = [socket_name(pool, socket.name) for socket in template.sockets]
        fields = protocol.Template(
            id=id_,
            argv=[],
            env=env,
            cwd=template.working_dir,
            uid=account.uid,
            gid=gid,
            groups=groups,
            umask=int(template.umask or "0022", 8),
            sockets=sockets,
            notify=Notify.NEWLINE in template.probes.notify_ways,
            stop_signal=signals.Signals[template.stop.signal].value,
            grace_ms=round(template.stop.grace_period_s * 1000),
            lane=lane,
            contain=lane is None or bool(limits),
            limits=limits,
            channel=channel,
        )._asdict()
        if self._registered.get(id_) == fields:
            return id_, []
        self._registered[id_] = fields
        messages: list[Message] = [
            ["socket", socket_name(pool, socket.name), socket.listen] for socket in template.sockets
        ]
        messages.append(["register", id_, fields])
        return id_, messages


def _plain(template: Template) -> Template:
    """As what runs beside a worker has it: no sockets, and ended at once."""
    return template.changed(
        sockets=[], probes=Probes(), stop=template.stop.changed(signal="SIGKILL", grace_period_s=0.0)
    )


def _limits(template: Template, temporary: str) -> dict[str, Any]:
    """What is asked for, as the launcher's Limits; empty when nothing is, and then the start is a fast one.

    `temporary`: where directories stand in for a private /tmp, if they do.
    """
    resources, sandbox = template.resources, template.sandbox
    writable = sandbox.read_write_paths
    if writable is not None and sandbox.private_tmp and temporary:
        writable = [*writable, temporary]
    asked = protocol.Limits(
        nice=template.nice,
        rlimits=template.rlimits.numbers(),
        memory_bytes=resources.limits.memory_bytes,
        cpu_milli=resources.limits.cpu_milli,
        cpu_weight=resources.cpu_weight,
        pids=resources.limits.pids,
        required=resources.enforcement is Enforcement.REQUIRED,
        no_new_privileges=sandbox.no_new_privileges,
        read_write_paths=writable,
        private_tmp=sandbox.private_tmp and not temporary,
    )
    nothing = protocol.Limits(required=asked.required)
    return (
        {}
        if asked == nothing
        else {name: value for name, value in asked._asdict().items() if value != protocol.Limits._field_defaults[name]}
    )


def _refers(text: str, names: Collection[str]) -> bool:
    return any(found.group(1) in names for found in _VARIABLE.finditer(text))
