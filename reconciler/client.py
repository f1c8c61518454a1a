"""Talks to the daemon: HTTP over its Unix socket. Small imports, because every command begins here.

    with Client("/run/reconciler/run/api.sock") as client:
        client.submit("batch", {"command": ["true"]})      ->  the Task, when it is durable
        client.get("pools", "web")                         ->  the Pool as JSON

    async with AsyncClient("/run/reconciler/run/api.sock") as client:
        await client.submit("batch", {"command": ["true"]})

Every refusal comes back as the error class it left the daemon as; no daemon at all is `Unreachable`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from reconciler.errors import Forbidden, Unreachable
from reconciler.wire import WentAway, Wire, error_of

if TYPE_CHECKING:
    from reconciler.coordination.session import HeldLock

T = TypeVar("T")

TIMEOUT_S = 60.0
"""How long an answer may keep us waiting; longer waits are made of several requests."""
_PATIENCE_S = 2.0
"""How long a daemon that is just starting may refuse connections, and a controller die over what is asked of it."""
_LONG_POLL_S = 20.0
_BATCH = 1000
_BATCH_BYTES = 4 << 20


class Client:
    """One connection to the daemon of a state directory, opened when needed and kept."""

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self.socket_path = os.path.abspath(socket_path)
        self._timeout_s = timeout_s
        self._wire: Wire | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; the next call opens another."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    # -- objects

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        return self._json("GET", _path(kind, name))

    def find(self, kind: str, limit: int | None = None, **query: str | None) -> dict[str, Any]:
        """All objects of a kind, page after page; of tasks those that `pool`, `state` and `since` choose."""
        given = {name: value for name, value in query.items() if value is not None}
        items: list[Any] = []
        after: str | None = None
        while True:
            page = {} if kind != "tasks" else {"limit": str(min(5000, limit - len(items) if limit else 5000))}
            found = self._json("GET", _path(kind), given | page | ({"continue": after} if after else {}))
            items += found["items"]
            after = found["metadata"].get("continue")
            if not after or (limit is not None and len(items) >= limit):
                return {**found, "items": items}

    def watch(self, kind: str, revision: str, name: str | None = None) -> Iterator[dict[str, Any]]:
        """Changes after that revision as {"type", "object"}, without end. Raises Gone when some are no longer kept."""
        query = {"watch": "true", "resourceVersion": revision} | ({"name": name} if name else {})
        rest = b""
        for block in self._stream(_path(kind), query, timeout_s=None):
            *whole, rest = (rest + block).split(b"\n\n")
            for item in whole:
                if item.startswith(b"data: "):
                    change = json.loads(item[6:])
                    if change["type"] == "ERROR":
                        raise error_of(410, change["object"])
                    yield change

    def usage(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The last hundred samples of a worker's present process, or of a pool: CPU, memory; oldest first."""
        samples: list[dict[str, Any]] = self._json("GET", _path(kind, name, "usage"))["samples"]
        return samples

    def create(self, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
        """A new object."""
        return self._json("POST", _path(kind), body=obj)

    def replace(self, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
        """Labels, annotations and spec anew; Conflict when it changed since its `metadata.resourceVersion`."""
        return self._json("PUT", _path(kind, obj["metadata"]["name"]), body=obj)

    def delete(self, kind: str, name: str) -> dict[str, Any]:
        """Asks for its deletion; it goes when nothing of it runs."""
        return self._json("DELETE", _path(kind, name))

    def delete_all(self, objects: Sequence[str]) -> list[dict[str, Any]]:
        """Asks for the deletion of KIND/NAME...: all or none, judged together."""
        found: list[dict[str, Any]] = self._json("POST", _path("delete"), body={"objects": list(objects)})["items"]
        return found

    def apply(
        self, files: Sequence[tuple[str, str]], prune: bool = False, rendering: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Manifests as (path, text), all or none; raises Invalid, whose `problems` say what is wrong where.

        `rendering`: what they are to become, by `roots`, `overlay`, `values` and `set`.
        """
        listed = [{"path": path, "text": text} for path, text in files]
        return self._json("POST", _path("apply"), body={**(rendering or {}), "files": listed, "prune": prune})

    def plan(
        self,
        files: Sequence[tuple[str, str]],
        source: str = "",
        prune: bool = False,
        manifests: bool = False,
        rendering: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What applying these would do; with `source` as that source would; with `manifests` both states of each object."""
        listed = [{"path": path, "text": text} for path, text in files]
        body = {**(rendering or {}), "files": listed, "source": source, "prune": prune, "manifests": manifests}
        return self._json("POST", _path("plan"), body=body)

    def scale(self, pool: str, replicas: int | None, override: str | None = None, reason: str = "") -> dict[str, Any]:
        """Another number of replicas; `override` over a source's word: "" until that changes, "1h" no longer than that.

        "0s", with no number, ends an override: what is declared holds again.
        """
        body = {"replicas": replicas, "override": override, "reason": reason}
        return self._json("POST", _path("pools", pool, "scale"), body=body)

    def stop(self, pool: str, override: str | None = None, reason: str = "") -> dict[str, Any]:
        """Keeps all of a pool stopped; `override` ("" until it is started, or "1h") over a source's word."""
        return self._json("POST", _path("pools", pool, "stop"), body={"override": override, "reason": reason})

    def start(self, pool: str, reason: str = "") -> dict[str, Any]:
        """Ends a stop, and the waiting of what has failed."""
        return self._json("POST", _path("pools", pool, "start"), body={"reason": reason})

    def signal(self, kind: str, name: str, signal: str, group: bool = False, reason: str = "") -> list[str]:
        """A signal to a worker, or to all of a pool; returns the workers that got it."""
        body = {"signal": signal, "group": group, "reason": reason}
        found: list[str] = self._json("POST", _path(kind, name, "signal"), body=body)["signalled"]
        return found

    def reload(self, kind: str, name: str, reason: str = "") -> dict[str, Any]:
        """Has a worker, or all of a pool, read its configuration anew: {"reloaded": [NAME], "failed": {NAME: why}}."""
        return self._json("POST", _path(kind, name, "reload"), body={"reason": reason})

    def restart(self, pool: str, reason: str = "") -> dict[str, Any]:
        """Has all workers of a pool started anew, one after another."""
        return self._json("POST", _path("pools", pool, "restart"), body={"reason": reason})

    def history(self, pool: str) -> list[dict[str, Any]]:
        """The templates a pool has had, the newest last: what changed, when, and because of whom."""
        found: list[dict[str, Any]] = self._json("GET", _path("pools", pool, "history"))["items"]
        return found

    def undo(
        self, pool: str, revision: int | None = None, override: str | None = None, reason: str = ""
    ) -> dict[str, Any]:
        """An earlier template again: the one before, or that of a revision; `override` as of `scale`."""
        body = {"revision": revision, "override": override, "reason": reason}
        return self._json("POST", _path("pools", pool, "undo"), body=body)

    def hold_rollout(self, pool: str, held: bool, reason: str = "") -> dict[str, Any]:
        """Has a pool's rollout stand where it is, or go on."""
        verb = "rollout-pause" if held else "rollout-resume"
        return self._json("POST", _path("pools", pool, verb), body={"reason": reason})

    # -- tasks

    def submit(self, pool: str, task: dict[str, Any]) -> dict[str, Any]:
        """One task; returns it when it is durable."""
        return self._json("POST", _path("pools", pool, "tasks"), body=task)

    def submit_many(self, pool: str, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tasks in one request: all or none."""
        sent = json.dumps(list(tasks), separators=(",", ":")).encode()
        found: list[dict[str, Any]] = json.loads(self._request("POST", _path("pools", pool, "tasks"), None, sent))
        return found

    def submit_all(self, pool: str, tasks: Iterable[Mapping[str, Any]]) -> Iterator[str]:
        """Any number of tasks, a thousand a request, each request all or none; yields their names as they are durable.

        An error says nothing against what has been yielded before it; of its own request and later ones nothing is taken.
        """
        encode = json.JSONEncoder(separators=(",", ":")).encode
        for _, answer in self.submit_lines(pool, (encode(task).encode() for task in tasks), names=True):
            yield from json.loads(answer)

    def submit_lines(self, pool: str, lines: Iterable[bytes], names: bool = False) -> Iterator[tuple[int, bytes]]:
        """JSON lines as they stand, in requests of at most a thousand; yields how many each has added, and the answer.

        With `names` that is a list of the tasks' names, which costs the daemon a tenth of the tasks themselves. Lines are
        taken one request ahead: while the daemon is at one, the next is made.
        """
        target = _path("pools", pool, "tasks") + ("?answer=names" if names else "")
        batches = _batches(lines)
        batch = next(batches, None)
        while batch is not None:
            count, body = batch
            wire = self._open()
            try:
                wire.send("POST", target, body, self._timeout_s)
                batch, fault = _ahead(batches)
                answer = b"".join(wire.answer())
            except BaseException:
                self.close()
                raise
            if wire.closing:
                self.close()
            yield count, answer
            if fault is not None:
                raise fault

    def cancel(self, task_id: str) -> dict[str, Any]:
        """Cancels what waits, ends what runs."""
        return self._json("POST", _path("tasks", task_id, "cancel"))

    def retry(self, task_id: str) -> dict[str, Any]:
        """A new task like one that has ended; asked twice, made once."""
        return self._json("POST", _path("tasks", task_id, "retry"))

    def retry_many(self, pool: str | None, state: str | None) -> int:
        """All that has ended without success in a pool, or in a state; returns how many new tasks that makes."""
        found: int = self._json("POST", _path("tasks", "retry"), body={"pool": pool, "state": state})["retried"]
        return found

    def hold(self, pool: str, verb: str, override: str | None = None, reason: str = "") -> dict[str, Any]:
        """`pause`, `drain` or `resume` of a pool's tasks; `override="1h"` ends it by itself after so long."""
        return self._json("POST", _path("pools", pool, verb), body={"override": override, "reason": reason})

    def cancel_many(self, pool: str | None, state: str | None) -> int:
        """All live tasks of a pool, in a state."""
        body = {"pool": pool, "state": state}
        found: int = self._json("POST", _path("tasks", "cancel"), body=body)["cancelled"]
        return found

    def wait(
        self, objects: Sequence[str], wanted: str, timeout_s: float | None = None, all_of: str | None = None
    ) -> dict[str, Any]:
        """Waits for a condition of all objects, or, with `all_of` (a pool, or "" for every one), until no task is left.

        Returns {"done", "left", "results"}; `done` is false when the time was up.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            left_s = _LONG_POLL_S if deadline_s is None else min(_LONG_POLL_S, max(0, deadline_s - time.monotonic()))
            query: list[tuple[str, str]] = [("for", wanted), ("timeout", f"{round(left_s * 1000)}ms")]
            if all_of is not None:
                query += [("all", "true")] + ([("pool", all_of)] if all_of else [])
            query += [("object", item) for item in objects]
            found = self._json("GET", _path("wait"), query)
            if found["done"] or (deadline_s is not None and time.monotonic() >= deadline_s):
                return found

    # -- locks

    def lock(self, name: str, timeout_s: float | None = None, holder: str = "") -> HeldLock:
        """Waits for a lock and holds it: a context manager with the `token`. Raises TimedOut, Deadlock.

        It is renewed over connections of its own, in a thread of its own.
        """
        from reconciler.coordination.session import HeldLock

        return HeldLock(name, lambda answer_s: Client(self.socket_path, answer_s), timeout_s, holder)

    def acquire_lock(self, name: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Asks for a lock, or goes on waiting for it; `lock` does this and all the rest."""
        return self._json("POST", _path("locks", name, "acquire"), body=asked)

    def renew_lock(self, name: str, session: str, token: int, sequence: int) -> None:
        """Its lease begins anew. Raises LockLost."""
        body = {"session": session, "token": token, "sequence": sequence}
        self._json("POST", _path("locks", name, "renew"), body=body)

    def release_lock(self, name: str, session: str, token: int | None) -> bool:
        """Gives it back; whether it was this session's to give."""
        body = {"session": session, "token": token}
        return bool(self._json("POST", _path("locks", name, "release"), body=body)["released"])

    # -- the rest

    def logs(
        self,
        kind: str,
        name: str,
        follow: bool = False,
        previous: bool = False,
        tail: int | None = None,
        since: str | None = None,
    ) -> Iterator[bytes]:
        """What a worker or a task wrote, as bytes."""
        query = {"follow": "true"} if follow else {}
        query |= {"previous": "true"} if previous else {}
        query |= {"tail": str(tail)} if tail is not None else {}
        query |= {"since": since} if since is not None else {}
        return self._stream(_path(kind, name, "logs"), query, timeout_s=None if follow else self._timeout_s)

    def follow(
        self, kind: str, name: str, previous: bool = False, tail: int | None = None, since: str | None = None
    ) -> Iterator[bytes]:
        """What comes, as bytes, over restarts of the controller."""
        received, instance = 0, self._instance(kind, name)
        while True:
            skip = received
            try:
                for block in self.logs(kind, name, True, previous, tail, since):
                    fresh = block[skip:]
                    skip = max(0, skip - len(block))
                    if fresh:
                        received += len(fresh)
                        yield fresh
                return
            except WentAway:
                if lock_holder(self.state_dir) is None:
                    raise
            if tail is not None or since is not None:
                received, tail = 0, 0  # where we were cannot be told by a count of bytes
            elif (now := self._instance(kind, name)) != instance:
                received, instance = 0, now  # another start: all of its output is new

    def _instance(self, kind: str, name: str) -> str:
        """The present start of a worker: a count of bytes holds for its output only."""
        return str(self.get(kind, name)["status"].get("instance", "")) if kind == "workers" else ""

    def why(self, kind: str, name: str) -> dict[str, Any]:
        """The decisions that brought an object here, and what happens next."""
        return self._json("GET", _path(kind, name, "why"))

    def events(self, object_: str | None = None) -> dict[str, Any]:
        """The newest events, of one object if given."""
        return self._json("GET", _path("events"), {"for": object_} if object_ else {})

    def status(self) -> dict[str, Any]:
        """How the daemon is."""
        return self._json("GET", _path("status"))

    def ready(self) -> None:
        """Returns when the daemon answers."""
        self._request("GET", "/readyz", {}, b"")

    def shutdown(self, keep_workers: bool = False, hurry: bool = False) -> None:
        """Begins to end the daemon."""
        self._json("POST", _path("shutdown"), body={"keepWorkers": keep_workers, "hurry": hurry})

    def sync_source(self, name: str, confirm: bool = False) -> dict[str, Any]:
        """Has one source looked at; how it is after that."""
        return self._json("POST", _path("sources", name, "sync"), body={"confirm": confirm})

    def suspend_source(self, name: str, reason: str = "") -> dict[str, Any]:
        """Nothing of it is applied or pruned until it is resumed."""
        return self._json("POST", _path("sources", name, "suspend"), body={"reason": reason})

    def resume_source(self, name: str) -> dict[str, Any]:
        """Keeps it applied again."""
        return self._json("POST", _path("sources", name, "resume"), body={})

    def rescan(self) -> None:
        """Has the sources looked at now."""
        self._json("POST", _path("rescan"), body={})

    # -- the wire

    def _json(self, method: str, path: str, query: Any = None, body: Any = None) -> dict[str, Any]:
        sent = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        found: dict[str, Any] = json.loads(self._request(method, path, query, sent))
        return found

    def _request(self, method: str, path: str, query: Any, body: bytes) -> bytes:
        """One exchange. What only reads is asked again when the controller dies over it and its launcher lives on."""
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._once(method, path, query, body)
            except WentAway:
                if method != "GET" or time.monotonic() > deadline_s or lock_holder(self.state_dir) is None:
                    raise

    def _once(self, method: str, path: str, query: Any, body: bytes) -> bytes:
        wire = self._open()
        try:
            answer = b"".join(wire.exchange(method, path + _query(query), body, self._timeout_s))
        except BaseException:
            self.close()
            raise
        if wire.closing:
            self.close()
        return answer

    def _stream(self, path: str, query: Any, timeout_s: float | None) -> Iterator[bytes]:
        wire = self._open(fresh=True)
        try:
            yield from wire.exchange("GET", path + _query(query), b"", timeout_s)
        finally:
            wire.close()

    def _open(self, fresh: bool = False) -> Wire:
        if self._wire is not None and not fresh and not self._wire.stale():
            return self._wire
        if not fresh:
            self.close()
        wire = Wire(self._connect())
        if not fresh:
            self._wire = wire
        return wire

    def _connect(self) -> socket.socket:
        deadline_s = time.monotonic() + _PATIENCE_S
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._timeout_s)
                sock.connect(self.socket_path)
                return sock
            except OSError as error:
                sock.close()
                if error.errno == errno.EACCES:
                    raise Forbidden(f"{self.socket_path} is not open to this user", "try it with sudo") from None
                if not self._starting(error) or time.monotonic() > deadline_s:
                    raise Unreachable(f"no daemon answers at {self.socket_path}", self._mend()) from None
            time.sleep(0.05)

    def _starting(self, error: OSError) -> bool:
        """Whether somebody holds the state directory and only the socket is not served yet."""
        return error.errno == errno.ECONNREFUSED and lock_holder(self.state_dir) is not None

    @property
    def state_dir(self) -> str:
        """The state directory that the socket lies in."""
        return os.path.dirname(os.path.dirname(self.socket_path))

    def _mend(self) -> str:
        if not self.socket_path.endswith("/run/api.sock"):
            return "the socket of a daemon is run/api.sock in its state directory: reconciler up --state DIR"
        return f"start it: reconciler up --state {self.state_dir}"


class AsyncClient:
    """The same for asyncio: what a Client does, each call in a thread and over a connection that no other call has then."""

    def __init__(self, socket_path: str, timeout_s: float = TIMEOUT_S) -> None:
        self.socket_path = os.path.abspath(socket_path)
        self._timeout_s = timeout_s
        self._idle: list[Client] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connections that nobody uses now."""
        while self._idle:
            self._idle.pop().close()

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        return await self._in_thread(lambda client: client.get(kind, name))

    async def find(self, kind: str, limit: int | None = None, **query: str | None) -> dict[str, Any]:
        """All objects of a kind; of tasks those that `pool`, `state` and `since` choose."""
        return await self._in_thread(lambda client: client.find(kind, limit, **query))

    async def watch(self, kind: str, revision: str, name: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Changes after that revision as {"type", "object"}, without end. Raises Gone when some are no longer kept.

        Who ends it while nothing changes leaves its thread waiting for the next change, or for the end of the daemon.
        """
        changes = Client(self.socket_path, self._timeout_s).watch(kind, revision, name)
        while (change := await _run(lambda: next(changes, None))) is not None:
            yield change

    async def submit(self, pool: str, task: dict[str, Any]) -> dict[str, Any]:
        """One task; returns it when it is durable."""
        return await self._in_thread(lambda client: client.submit(pool, task))

    async def submit_many(self, pool: str, tasks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Tasks in one request: all or none."""
        return await self._in_thread(lambda client: client.submit_many(pool, tasks))

    async def submit_all(self, pool: str, tasks: Iterable[Mapping[str, Any]]) -> list[str]:
        """Any number of tasks, a thousand a request, each request all or none; their names, when all are durable."""
        return await self._in_thread(lambda client: list(client.submit_all(pool, tasks)))

    async def wait(
        self, objects: Sequence[str], wanted: str = "finished", timeout_s: float | None = None
    ) -> dict[str, Any]:
        """Waits for a condition of all objects; returns {"done", "left", "results"}."""
        return await self._in_thread(lambda client: client.wait(objects, wanted, timeout_s))

    async def cancel(self, task_id: str) -> dict[str, Any]:
        """Cancels what waits, ends what runs."""
        return await self._in_thread(lambda client: client.cancel(task_id))

    async def _in_thread(self, call: Callable[[Client], T]) -> T:
        client = self._idle.pop() if self._idle else Client(self.socket_path, self._timeout_s)
        found = await _run(lambda: call(client))  # a call that is cancelled keeps its connection to itself
        self._idle.append(client)
        return found


async def _run(call: Callable[[], T]) -> T:
    import asyncio  # no command needs it

    return await asyncio.to_thread(call)


def lock_holder(state_dir: str) -> int | None:
    """The pid of the launcher that holds a state directory; None if nobody does."""
    try:
        fd = os.open(os.path.join(state_dir, "launcher.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(fd, 32).split()
        return int(pid[0]) if pid and pid[0].isdigit() else 0
    finally:
        os.close(fd)
    return None


def _batches(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lists of lines that a request can hold, and how many lines each has."""
    batch: list[bytes] = []
    size_bytes = 0
    for line in lines:
        batch.append(line)
        size_bytes += len(line)
        if len(batch) >= _BATCH or size_bytes >= _BATCH_BYTES:
            yield len(batch), b"[" + b",".join(batch) + b"]"
            batch, size_bytes = [], 0
    if batch:
        yield len(batch), b"[" + b",".join(batch) + b"]"


def _ahead(batches: Iterator[tuple[int, bytes]]) -> tuple[tuple[int, bytes] | None, Exception | None]:
    """The next of them, or why it could not be made: the answer to the one before is wanted all the same."""
    try:
        return next(batches, None), None
    except Exception as fault:
        return None, fault


def _path(*steps: str) -> str:
    return "/api/v1/" + "/".join(_quote(step) for step in steps)


def _query(query: Any) -> str:
    pairs = list(query.items() if isinstance(query, dict) else query or ())
    return "?" + "&".join(f"{_quote(name)}={_quote(value)}" for name, value in pairs) if pairs else ""


def _quote(text: str) -> str:
    """As urllib.parse.quote, which takes longer to import than a request takes."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~"
    return "".join(chr(byte) if byte in plain else f"%{byte:02X}" for byte in text.encode("utf-8", "surrogateescape"))
