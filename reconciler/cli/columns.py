"""The columns of each kind's table. Pure but for the age, which is that of now."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any

from reconciler.cli.show import age, until

CRASH_LOOP_AT = 3
"""So many failures in a row are called a crash loop, as the daemon's events do."""


def rows(
    kind: str, items: Sequence[dict[str, Any]], wide: bool = False, named: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Headers and one row an object; `named` writes kind/name where kinds are mixed."""
    headers, more, row = _KINDS.get(kind, _OTHER)
    width = len(headers) + (len(more) if wide else 0)
    listed = [row(item)[:width] for item in items]
    if named:
        listed = [[f"{kind.lower()}/{line[0]}", *line[1:]] for line in listed]
    return [*headers, *more][:width], listed


def status_of_pool(pool: dict[str, Any]) -> str:
    """One word for a person: computed, never stored."""
    if "deletedAt" in pool["metadata"]:
        return "Deleting"
    conditions = {item["type"]: item for item in pool["status"].get("conditions", ())}
    degraded, ready = conditions.get("Degraded"), conditions.get("Ready")
    if degraded is not None and degraded["status"] == "True":
        return str(degraded["reason"])
    if ready is None:
        return "Pending"
    if ready["status"] != "True":
        return str(ready["reason"])
    if ready["reason"] == "Draining":
        tasks = pool["status"].get("tasks") or {}
        return "Draining" if tasks.get("running") or tasks.get("pending") else "Drained"
    progress = conditions.get("Progressing")
    return "RolloutPaused" if progress is not None and progress["reason"] == "RolloutPaused" else "Ready"


def command(words: Sequence[str], width: int = 60) -> str:
    """A command line as one would type it, cut where it gets long."""
    text = shlex.join(words)
    return text if len(text) <= width else text[: width - 3] + "..."


def _pool(pool: dict[str, Any]) -> list[str]:
    status, spec, metadata = pool["status"], pool["spec"], pool["metadata"]
    source = metadata.get("source")
    tasks = status.get("tasks")
    wanted = spec.get("replicas", status.get("desiredReplicas", 0))
    if spec.get("tasks") is not None:
        counts = tasks or {}
        ready, updated = f"{status.get('readyReplicas', 0)}/{wanted}", "-"
        doing = f"{counts.get('running', 0)} running, {counts.get('pending', 0)} pending"
    else:
        ready = f"{status.get('readyReplicas', 0)}/{wanted}"
        updated, doing = str(status.get("updatedReplicas", 0)), "-"
    return [
        metadata["name"],
        ready,
        updated,
        str(status.get("availableReplicas", 0)) if doing == "-" else "-",
        str(status.get("restarts", 0)),
        doing,
        status_of_pool(pool),
        age(metadata.get("createdAt")),
        command(spec.get("template", {}).get("command", ())) or "-",
        f"{source['path']}:{source['line']}" if source else "-",
    ]


def _worker(worker: dict[str, Any]) -> list[str]:
    status, metadata = worker["status"], worker["metadata"]
    last = status.get("lastExit")
    return [
        metadata["name"],
        "1/1" if status.get("ready") else "0/1",
        state_of_worker(status),
        str(status.get("restarts", 0)),
        age(metadata.get("createdAt")),
        str(status.get("pid", "-")),
        status.get("instance") or "-",
        age(status.get("startedAt")),
        ended(last) if last else "-",
    ]


def state_of_worker(status: dict[str, Any]) -> str:
    """Its state; of one that waits for its next start, how long still, and whether it is a crash loop.

    One that an operator keeps down waits for nothing but that operator: its message says so and its state does not.
    """
    if status["state"] in ("Pending", "Backoff") and status.get("message", "").startswith("stopped by "):
        return "Stopped"
    if status.get("stopped"):  # by a signal, or a debugger
        return "Stopped"
    if status["state"] != "Backoff" or "nextStartAt" not in status:
        return str(status["state"])
    word = "CrashLoop" if status.get("failures", 0) >= CRASH_LOOP_AT else "Backoff"
    return f"{word} ({until(status['nextStartAt'])})"


def ended(last: dict[str, Any]) -> str:
    """How something ended, in a few letters: 3, SIGKILL, StartFailed."""
    if "exitCode" in last or "code" in last:
        return str(last.get("exitCode", last.get("code")))
    return str(last.get("signal") or last.get("reason") or "-")


def _task(task: dict[str, Any]) -> list[str]:
    status, spec = task["status"], task["spec"]
    return [
        task["metadata"]["name"],
        spec["pool"],
        status["state"],
        str(spec.get("priority", "-")),
        f"{status['attempts']}/{spec['maxAttempts']}" if "maxAttempts" in spec else str(status["attempts"]),
        ended(status) if {"exitCode", "signal", "reason"} & status.keys() else "-",
        age(status["submittedAt"]),
        status.get("worker", "-"),
        status.get("reason", "-"),
        spec.get("tenant", "-"),
        spec.get("key", "-"),
        until(spec["deadline"]) if "deadline" in spec and "finishedAt" not in status else spec.get("deadline", "-"),
        command(spec["command"]) if spec.get("command") else command([json.dumps(spec.get("payload"))]),
    ]


def _revision(revision: dict[str, Any]) -> list[str]:
    spec, metadata = revision["spec"], revision["metadata"]
    return [metadata["name"], spec["pool"], str(spec["number"]), age(metadata.get("createdAt"))]


def _restartpolicy(policy: dict[str, Any]) -> list[str]:
    spec, metadata = policy["spec"], policy["metadata"]
    source = metadata.get("source")
    return [
        metadata["name"],
        spec["policy"],
        f"{spec['maxRestarts']} in {spec['window']}" if "maxRestarts" in spec else "-",
        f"{spec['backoff']['initial']}..{spec['backoff']['max']}",
        str(len(spec["rules"])),
        age(metadata.get("createdAt")),
        f"{source['path']}:{source['line']}" if source else "-",
    ]


def _schedulingpolicy(policy: dict[str, Any]) -> list[str]:
    spec, metadata = policy["spec"], policy["metadata"]
    source = metadata.get("source")
    options = {name: value for name, value in spec.items() if name != "type" and value not in ({}, [])}
    return [
        metadata["name"],
        spec["type"],
        age(metadata.get("createdAt")),
        json.dumps(options, ensure_ascii=False).replace('"', "").strip("{}") or "-",
        f"{source['path']}:{source['line']}" if source else "-",
    ]


def _lock(lock: dict[str, Any]) -> list[str]:
    spec, status, metadata = lock["spec"], lock["status"], lock["metadata"]
    holders, source = status.get("holders", []), metadata.get("source")
    return [
        metadata["name"],
        f"{len(holders)}/{spec['maxHolders']}",
        str(len(status.get("waiting", []))),
        str(status.get("token", 0)),
        ", ".join(one["name"] for one in holders[:2]) or "-",
        age(metadata.get("createdAt")),
        spec["leaseDuration"],
        f"{source['path']}:{source['line']}" if source else "-",
    ]


def _source(source: dict[str, Any]) -> list[str]:
    spec, status, metadata = source["spec"], source["status"], source["metadata"]
    state = "Suspended" if spec["suspended"] else "Failed" if status["error"] else "Applied"
    return [metadata["name"], state, age(status.get("lastAppliedAt")), spec["path"], status["error"] or "-"]


def _event(event: dict[str, Any]) -> list[str]:
    cause = event.get("cause", {})
    count = f" (x{event['count']})" if event.get("count", 1) > 1 else ""
    message, actor = event["message"] + count, cause.get("actor", "")
    return [age(event["at"]), event["type"], event["reason"], event["object"], actor, message]


def _other(item: dict[str, Any]) -> list[str]:
    return [item["metadata"]["name"], age(item["metadata"].get("createdAt"))]


_OTHER: tuple[list[str], list[str], Any] = (["NAME", "AGE"], [], _other)
_KINDS: dict[str, tuple[list[str], list[str], Any]] = {
    "Pool": (
        ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "RESTARTS", "TASKS", "STATUS", "AGE"],
        ["COMMAND", "SOURCE"],
        _pool,
    ),
    "Worker": (
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "PID"],
        ["INSTANCE", "UP", "LAST EXIT"],
        _worker,
    ),
    "Task": (
        ["NAME", "POOL", "STATE", "PRIORITY", "ATTEMPTS", "EXIT", "AGE"],
        ["WORKER", "REASON", "TENANT", "KEY", "DEADLINE", "COMMAND"],
        _task,
    ),
    "RestartPolicy": (
        ["NAME", "POLICY", "MAX RESTARTS", "BACKOFF", "RULES", "AGE"],
        ["SOURCE"],
        _restartpolicy,
    ),
    "SchedulingPolicy": (["NAME", "TYPE", "AGE"], ["OPTIONS", "SOURCE"], _schedulingpolicy),
    "Lock": (["NAME", "HELD", "WAITING", "TOKEN", "HOLDER", "AGE"], ["LEASE", "SOURCE"], _lock),
    "Revision": (["NAME", "POOL", "NUMBER", "AGE"], [], _revision),
    "Source": (["NAME", "STATE", "APPLIED", "PATH"], ["ERROR"], _source),
    "Event": (["LAST SEEN", "TYPE", "REASON", "OBJECT", "ACTOR", "MESSAGE"], [], _event),
}
