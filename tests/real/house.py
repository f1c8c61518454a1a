"""One daemon of the product with its own directory, as the tests of real processes see it: from outside.

    PATH/manifests/     what it is told          PATH/state/     what it keeps
    PATH/ledger         what really happened, written by the workers themselves (see tests/workers.py)

Everything that belongs to a house can be told from the rest of the machine: it has the house's path in its environment,
its arguments, its working directory or among its open files.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

WORKERS = Path(__file__).resolve().parents[1] / "workers.py"
ENDS = ("Succeeded", "Failed", "DeadLettered", "Cancelled", "Expired", "Unknown")


def eventually(condition: Callable[[], Any], deadline_s: float = 30.0, what: str = "") -> Any:
    """The first true value of `condition`; fails when there is none by the deadline.

    An AssertionError of the condition counts as not yet, and so does an OSError: nobody answers, or what it looked at in
    /proc or on disk has gone meanwhile. It is shown when it stays.
    """
    end = time.monotonic() + deadline_s
    while True:
        try:
            last: Any = condition()
            if last:
                return last
        except (AssertionError, OSError) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s} s: {what or 'condition'}; last seen: {last!r}")
        time.sleep(0.01)


class Converged(NamedTuple):
    """What `up` said when it had converged once."""

    adopted: int
    started: int
    unknown: int


class Line(NamedTuple):
    """One line of the ledger."""

    what: str
    slot: str
    instance: str
    pid: int
    at: float
    code: str = ""


class House:
    """Starts, asks, kills and cleans up one daemon."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = path / "state"
        self.manifests = path / "manifests"
        self.manifests.mkdir(parents=True)
        self.said = path / "up.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._said_from = 0
        self._cgroups: set[str] = set()

    # --- the daemon ---

    def up(
        self,
        *options: str,
        env: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        deadline_s: float = 30.0,
    ) -> Converged:
        """Starts `reconciler up` and returns when it has converged once."""
        self.start(*options, env=env, wrapper=wrapper)
        return self.converged(deadline_s)

    def start(self, *options: str, env: Mapping[str, str] | None = None, wrapper: Sequence[str] = ()) -> None:
        """Starts `reconciler up` and does not wait."""
        self._said_from = self.said.stat().st_size if self.said.exists() else 0
        command = [*wrapper, *_RECONCILER, "up", str(self.manifests), "--state", str(self.state), *options]
        with open(self.said, "ab") as said:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                cwd="/",
                env={**_environment(), **(env or {})},
            )
            _started.add(self.process.pid)

    def converged(self, deadline_s: float = 30.0) -> Converged:
        """Waits for the two lines of the latest `up`."""
        found = self.wait_said(r"adopted (\d+), started (\d+), unknown (\d+)", deadline_s)
        self.wait_said("ready: socket ", deadline_s)
        return Converged(*(int(number) for number in found.groups()))

    def wait_said(self, pattern: str, deadline_s: float = 30.0) -> re.Match[str]:
        """Waits until the latest `up` has printed something that matches."""

        def look() -> re.Match[str] | None:
            found = re.search(pattern, self.output())
            if found is None and self.process is not None and self.process.poll() is not None:
                raise RuntimeError(f"up ended with {self.process.returncode}:\n{self.output()}")
            return found

        try:
            return eventually(look, deadline_s, f"up to say {pattern!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\nit said:\n{self.output()}") from None

    def output(self) -> str:
        """What the latest `up` has printed, its controllers included."""
        with open(self.said, "rb") as said:
            said.seek(self._said_from)
            return said.read().decode(errors="replace")

    @property
    def launcher(self) -> int:
        """The pid of the launcher; `up` has become it."""
        assert self.process is not None
        return self.process.pid

    def controller(self, deadline_s: float = 30.0) -> int:
        """The pid of the controller, once there is one."""
        return eventually(lambda: controller_of(self.launcher), deadline_s, "a controller")

    def kill_controller(self, signo: int = signal.SIGKILL) -> int:
        """Kills it and returns its pid; the launcher starts the next."""
        pid = self.controller()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signo)
        return pid

    def kill_launcher(self) -> None:
        """Kills it and waits until its controller has seen that and gone too."""
        assert self.process is not None
        self._see_cgroups()
        controller = controller_of(self.launcher)
        pidfd = _pidfd(controller)
        self.process.kill()
        self.process.wait(30)
        if pidfd is not None:
            assert _ended(pidfd, 30.0), "the controller did not end with its launcher"

    def ended(self, deadline_s: float = 30.0) -> int:
        """Waits for the end of `up`; returns its exit code."""
        assert self.process is not None
        try:
            return self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"up did not end within {deadline_s} s; it said:\n{self.output()}") from None

    def signal(self, signo: int) -> None:
        """To the launcher, as a terminal or systemd would."""
        os.kill(self.launcher, signo)

    @property
    def running(self) -> bool:
        """Whether the latest `up` has not ended."""
        return self.process is not None and self.process.poll() is None

    def serving(self) -> bool:
        """Whether the API answers at this moment."""
        try:
            return self.api("GET", "/readyz")[0] == 200
        except OSError:
            return False

    # --- asking ---

    def cli(self, *args: str, timeout_s: float = 90.0, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a client command against this house."""
        return subprocess.run(
            [*_RECONCILER, *args],
            env={**_environment(), "RECONCILER_STATE": str(self.state)},
            cwd=self.path,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def follow(self, *args: str) -> subprocess.Popen[str]:
        """A client command that goes on; its output is read line by line."""
        env = {**_environment(), "RECONCILER_STATE": str(self.state)}
        return subprocess.Popen([*_RECONCILER, *args], env=env, cwd=self.path, stdout=subprocess.PIPE, text=True)

    def api(self, method: str, path: str, body: Any = None, timeout_s: float = 30.0) -> tuple[int, Any]:
        """One HTTP request over the Unix socket: status and decoded body."""
        connection = _Connection(self.state / "run" / "api.sock", timeout_s)
        try:
            content = None if body is None else json.dumps(body).encode()
            headers = {} if content is None else {"Content-Type": "application/json"}
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            text = answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from None
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text) if text else None
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def ask(self, kind: str, name: str | None = None, query: str = "") -> Any:
        """One object, or the items of a list; None when there is no such object. Raises OSError without a daemon."""
        status, body = self.api("GET", f"/api/v1/{kind}" + (f"/{name}" if name else "") + query)
        if status == 404:
            return None
        assert status == 200, (status, body)
        return body["items"] if name is None else body

    def get(self, kind: str, name: str | None = None, query: str = "") -> Any:
        """As `ask`, and waits while a controller restarts."""

        return eventually(lambda: (self.ask(kind, name, query),), what=f"an answer to get {kind} {name or ''}")[0]

    def workers(self, pool: str | None = None) -> dict[str, dict[str, Any]]:
        """The status of every worker, by name."""
        return {
            worker["metadata"]["name"]: worker["status"]
            for worker in self.get("workers")
            if pool is None or worker["spec"]["pool"] == pool
        }

    def worker(self, name: str) -> dict[str, Any]:
        """The status of one worker; empty when there is none."""
        found = self.get("workers", name)
        return {} if found is None else dict(found["status"])

    def pids(self, pool: str | None = None) -> dict[str, int]:
        """The pid of every running worker, as the product says."""
        return {name: status["pid"] for name, status in self.workers(pool).items() if status.get("pid")}

    def pool(self, name: str) -> dict[str, Any]:
        """The status of a pool; empty when there is none."""
        found = self.get("pools", name)
        return {} if found is None else dict(found["status"])

    def condition(self, pool: str, type_: str) -> dict[str, Any]:
        """A condition of a pool; empty when it has none of that type."""
        return next((c for c in self.pool(pool).get("conditions", ()) if c["type"] == type_), {})

    def events(self, object_: str) -> list[dict[str, Any]]:
        """The events of one object, oldest first."""
        return [event for event in self.get("events") if event["object"] == object_]

    # --- telling ---

    def manifest(self, name: str, command: Sequence[str] | None = None, **spec: Any) -> Path:
        """Writes the manifest of a pool, by rename as careful tools do; see `pool_manifest`."""
        return self.write(f"{name}.yaml", json.dumps(self.pool_manifest(name, command, **spec), indent=1))

    def write(self, name: str, text: str) -> Path:
        """Puts a file among the manifests, at once and whole."""
        path = self.manifests / name
        hidden = self.manifests / f".{name}.new"
        hidden.write_text(text)
        hidden.rename(path)
        return path

    def pool_manifest(
        self,
        name: str,
        command: Sequence[str] | None = None,
        *,
        replicas: int = 1,
        grace: str = "1s",
        env: Mapping[str, str] | None = None,
        template: Mapping[str, Any] | None = None,
        **spec: Any,
    ) -> dict[str, Any]:
        """A pool whose workers know the ledger. Without a command it takes tasks."""
        variables = {"LEDGER": str(self.path), **(env or {})}
        shape: dict[str, Any] = {
            "env": [{"name": key, "value": value} for key, value in variables.items()],
            "stop": {"gracePeriod": grace},
            **(template or {}),
        }
        if command is not None:
            shape["command"] = list(command)
        else:
            spec.setdefault("tasks", {"mode": "PerTask"})
        return {
            "apiVersion": "reconciler/v1",
            "kind": "Pool",
            "metadata": {"name": name},
            "spec": {"replicas": replicas, "template": shape, **spec},
        }

    def apply(self, name: str, command: Sequence[str] | None = None, **spec: Any) -> None:
        """Creates or changes a pool through the API."""
        wanted = self.pool_manifest(name, command, **spec)
        status, body = self.api("POST", "/api/v1/pools", wanted)
        if status == 409:
            status, body = self.api("PUT", f"/api/v1/pools/{name}", wanted)
        assert status in (200, 201), (status, body)

    def delete(self, pool: str, deadline_s: float = 30.0) -> None:
        """Deletes a pool and waits until nothing of it is left."""
        status, body = self.api("DELETE", f"/api/v1/pools/{pool}")
        assert status in (200, 202, 404), (status, body)
        eventually(lambda: self.get("pools", pool) is None, deadline_s, f"pool {pool} to be gone")

    def ready(self, pool: str, count: int, deadline_s: float = 30.0) -> dict[str, int]:
        """Waits until so many workers of a pool are ready and none is too many; returns their pids."""

        def look() -> dict[str, int] | None:
            found = self.workers(pool)
            if len(found) == count and all(status["state"] == "Ready" for status in found.values()):
                return {name: status["pid"] for name, status in found.items()}
            return None

        try:
            return eventually(look, deadline_s) if count else {}
        except AssertionError:
            raise AssertionError(f"{pool} has not {count} ready workers: {self.workers(pool)}") from None

    def living(self, pool: str, count: int, deadline_s: float = 30.0) -> dict[str, int]:
        """As `ready`, and each worker has written into the ledger that it began; a worker is ready once it is executed."""
        pids = self.ready(pool, count, deadline_s)
        eventually(lambda: {line.pid for line in self.ledger("start")} >= {*pids.values()}, what=f"{pids} to begin")
        return pids

    def failed_start(self, worker: str) -> str:
        """Waits until a start of that worker has failed; returns what it says of it."""

        def look() -> str | None:
            last = self.worker(worker).get("lastExit") or {}
            return str(last["message"]) if last.get("reason") == "StartFailed" else None

        return str(eventually(look, what=f"a failed start of {worker}"))

    def submit(self, pool: str, command: Sequence[str], **fields: Any) -> str:
        """Submits one task and returns its id."""
        status, body = self.api("POST", f"/api/v1/pools/{pool}/tasks", {"command": list(command), **fields})
        assert status == 201, (status, body)
        return str((body[0] if isinstance(body, list) else body)["metadata"]["name"])

    def task(self, id_: str) -> dict[str, Any]:
        """The status of a task."""
        found = self.get("tasks", id_)
        assert found is not None, f"task {id_} is lost"
        return dict(found["status"])

    def task_ended(self, id_: str, deadline_s: float = 30.0) -> dict[str, Any]:
        """Waits for the end of a task; returns its status."""

        def look() -> dict[str, Any] | None:
            status = self.task(id_)
            return status if status["state"] in ENDS else None

        return eventually(look, deadline_s, f"the end of task {id_}")

    # --- the truth ---

    def ledger(self, what: str | None = None, slot: str | None = None) -> list[Line]:
        """What the workers wrote themselves, in order."""
        path = self.path / "ledger"
        if not path.exists():
            return []
        lines = []
        for text in path.read_text().splitlines():
            words = text.split()
            if words[0].startswith("task-"):
                lines.append(Line(words[0], words[1], words[2], int(words[3]), float(words[4]), *words[5:6]))
            else:
                lines.append(Line(words[0], words[1], words[2], int(words[3]), float(words[4])))
        return [line for line in lines if what in (None, line.what) and slot in (None, line.slot)]

    def starts(self, slot: str, count: int, deadline_s: float = 30.0) -> list[Line]:
        """Waits until a slot has been started so often; the first `count` starts."""
        eventually(lambda: len(self.ledger("start", slot)) >= count, deadline_s, f"{count} starts of {slot}")
        return self.ledger("start", slot)[:count]

    def assert_single(self) -> None:
        """No slot ever had two holders, and no try of a task ran twice."""
        doubles = self.ledger("DOUBLE")
        assert not doubles, doubles
        tries = [(line.slot, line.instance) for line in self.ledger("task-start")]
        assert len(tries) == len(set(tries)), "a try of a task ran twice"

    def processes(self) -> dict[int, str]:
        """Every live process of this house by pid, with its command line; zombies are not alive."""
        self._see_cgroups()
        return processes_of(str(self.path))

    def children(self) -> dict[int, str]:
        """Live processes of this house beside launcher and controller."""
        own = {self.launcher, controller_of(self.launcher)} if self.running else set()
        return {pid: line for pid, line in self.processes().items() if pid not in own}

    def cgroup_leaves(self) -> list[str]:
        """The cgroups that the product has made for instances of this house."""
        self._see_cgroups()
        leaves = []
        for parent in self._parents():
            with contextlib.suppress(FileNotFoundError):  # it has just been removed
                leaves += [entry.path for entry in os.scandir(parent) if entry.is_dir()]
        return leaves

    def _parents(self) -> list[str]:
        parents = [f"{mount}{cgroup}" for cgroup in self._cgroups for mount in _CGROUP2]
        return [parent for parent in parents if os.path.isdir(parent)]

    def _see_cgroups(self) -> None:
        if self.running:
            for pid in children_of(self.launcher):
                with contextlib.suppress(OSError):
                    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
                        for part in line.partition("::")[2].split("/"):
                            if part.startswith("reconciler-"):
                                self._cgroups.add(line.partition("::")[2].partition(part)[0] + part)

    # --- the end ---

    def down(self, deadline_s: float = 30.0) -> None:
        """Stops everything gracefully by SIGTERM and expects exit 0."""
        self._see_cgroups()
        self.signal(signal.SIGTERM)
        code = self.ended(deadline_s)
        assert code == 0, f"up ended with {code}:\n{self.output()}"

    def close(self) -> None:
        """Ends whatever is left of the house; fails when there was something that should have been gone."""
        problems = []
        try:
            if self.running:
                with contextlib.suppress(OSError):
                    for pid in (self.launcher, controller_of(self.launcher)):
                        if pid:
                            os.kill(pid, signal.SIGCONT)
                self.down()
        except AssertionError as error:
            problems.append(str(error))
        left = self.processes()
        deadline = time.monotonic() + 30
        while self.processes() and time.monotonic() < deadline:
            for pid in self.processes():
                pidfd = _pidfd(pid)
                if pidfd is not None:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    _ended(pidfd, 1.0)
        if self.process is not None:
            self.process.wait(30)
        if left:
            problems.append(f"processes were left: {left}")
        with contextlib.suppress(AssertionError):
            eventually(lambda: not self.cgroup_leaves())
        if leaves := self.cgroup_leaves():
            problems.append(f"cgroups were left: {leaves}")
        for parent in self._parents():
            problems.append(f"a cgroup was left: {parent}")
            with contextlib.suppress(OSError):
                os.rmdir(parent)
        said = self.said.read_text(errors="replace") if self.said.exists() else ""
        if "Traceback" in said:
            problems.append(f"a traceback was shown:\n{said[-4000:]}")
        assert not problems, "\n".join(problems)


@contextlib.contextmanager
def new_house() -> Iterator[House]:
    """A house that is not up yet; ended and checked at the end."""
    path = Path(tempfile.mkdtemp(prefix="house-"))  # short: a socket's path has to fit into 107 bytes
    path.chmod(0o755)  # a worker of another user looks in
    house = House(path)
    try:
        yield house
    finally:
        try:
            house.close()
        finally:
            shutil.rmtree(path, ignore_errors=True)


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


_CGROUP2 = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
_RECONCILER = (sys.executable, "-m", "reconciler")


def worker(role: str, *args: object) -> list[str]:
    """The command line of a member of the cast."""
    return [sys.executable, "-I", "-S", str(WORKERS), role, *(str(arg) for arg in args)]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("RECONCILER_", "LISTEN_"))}


def processes_of(mark: str) -> dict[int, str]:
    """Live processes that carry `mark` in environment, arguments, working directory or open files."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                if _carries(f"/proc/{entry}", mark) and not _zombie(int(entry)):
                    line = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(entry)] = line.decode(errors="replace").strip()
    return found


def _carries(proc: str, mark: str) -> bool:
    if _state(proc) == "Z":  # its first thread has ended: another one knows
        proc = next(
            (task for thread in os.listdir(f"{proc}/task") if _state(task := f"{proc}/task/{thread}") != "Z"), proc
        )
    wanted = mark.encode()
    if wanted in Path(f"{proc}/environ").read_bytes() or wanted in Path(f"{proc}/cmdline").read_bytes():
        return True
    return any(link.startswith(mark) for link in _links(proc))


def _links(proc: str) -> Iterator[str]:
    yield os.readlink(f"{proc}/cwd")
    for fd in os.listdir(f"{proc}/fd"):
        with contextlib.suppress(OSError):
            yield os.readlink(f"{proc}/fd/{fd}")


def _zombie(pid: int) -> bool:
    """Whether every thread of it has ended."""
    return all(_state(f"/proc/{pid}/task/{thread}") in "ZX" for thread in os.listdir(f"/proc/{pid}/task"))


def _state(proc: str) -> str:
    return _stat(proc)[0]


def _stat(proc: str) -> list[str]:
    """The fields of a process from its state on: they begin with the third one of proc(5). Raises OSError."""
    return Path(f"{proc}/stat").read_text(errors="replace").rpartition(")")[2].split()


def children_of(pid: int) -> list[int]:
    """Direct children of a process, zombies included.

    Not by /proc/PID/task/PID/children: the kernel leaves others out of it while one of them is being reaped.
    """
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if int(_stat(f"/proc/{entry}")[1]) == pid:
                    found.append(int(entry))
    return found


def controller_of(launcher: int) -> int | None:
    """The child of a launcher that is a controller."""
    for pid in children_of(launcher):
        with contextlib.suppress(OSError):
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if b"reconciler.daemon" in line and b"__main__.py" not in line:
                return pid
    return None


def alive(pid: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return not _zombie(pid)
    except OSError:
        return False


def threads_state(pid: int) -> str:
    """The state letter of a process in /proc."""
    return _state(f"/proc/{pid}")


def made_at_s(pid: int) -> float:
    """When a process was made, in seconds since the machine was: what it says of itself comes later, the more there is to do."""
    return int(_stat(f"/proc/{pid}")[19]) / os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """Processor time that a process has used: unlike a time of day it does not tell how busy the machine is."""
    fields = _stat(f"/proc/{pid}")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def files_below(path: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file and what stands in it; those that are removed or moved while this looks are left out."""
    for directory, _, names in os.walk(path):
        for name in names:
            file = Path(directory, name)
            with contextlib.suppress(FileNotFoundError):
                if file.is_file():
                    yield file, file.read_bytes()


@contextlib.contextmanager
def orphans_come_here() -> Iterator[None]:
    """This process takes the place of pid 1 for orphans, so that a test decides when one is reaped."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@contextlib.contextmanager
def orphans_are_reaped() -> Iterator[None]:
    """This process takes the place of a pid 1 that does its duty: not each container has one."""
    done = threading.Event()

    def reap() -> None:
        while not done.wait(0.01):
            for pid in children_of(os.getpid()):
                with contextlib.suppress(OSError):
                    if pid not in _started and _zombie(pid):
                        os.waitpid(pid, 0)

    with orphans_come_here():
        reaper = threading.Thread(target=reap)
        reaper.start()
        try:
            yield
        finally:
            done.set()
            reaper.join()


_started: set[int] = set()
"""Launchers that this process is the parent of."""

_PR_SET_CHILD_SUBREAPER = 36


def _pidfd(pid: int | None) -> int | None:
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _ended(pidfd: int, deadline_s: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    ended = bool(poll.poll(deadline_s * 1000))
    os.close(pidfd)
    return ended
