"""The peers beside ours in the situations of the figures M1 to M3: two services each, in the configuration their manuals show.

    with at_work(side, services) as (peer, directory):     all workers of web and api run
        peer.change(services)     the same services with another value, applied as the manual says
        peer.stop("web")          begins to stop one service; returns before it has ended
        peer.answers()            what a person is shown about them
    pids(service)                 its workers as /proc shows them

A worker is a `sleep` of a number of seconds that only its service has: that tells whose it is.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import machine
from fetched import Missing
from figure import OURS, Board, Values
from peers import BIN, PM2, need_pm2, need_venv
from product import COMMAND, importable, pool

SECRET = "c4n4ry-0f-the-s3cret"
DEADLINE_S = 60.0


class Service(NamedTuple):
    """So many workers of one kind."""

    name: str
    seconds: int
    """What it sleeps, which marks its workers."""
    workers: int = 4
    grace_s: int = 5
    deaf: bool = False
    """It ignores the stop signal."""

    @property
    def command(self) -> list[str]:
        sleep = f"exec {machine.which('sleep')} {self.seconds}"
        return ["/bin/sh", "-c", f"trap '' TERM INT; {sleep}" if self.deaf else sleep]


class Peer(Protocol):
    """A supervisor at work in a directory of its own; SHOP_SECRET is in its environment and in that of its workers."""

    def change(self, services: Sequence[Service]) -> None: ...
    def stop(self, service: str) -> None: ...
    def answers(self) -> list[str]: ...


class _Commanded:
    """What they have in common: a process that was started, and a command that talks to it."""

    def __init__(self, directory: Path, environment: Mapping[str, str], *daemon: str) -> None:
        self._directory = directory
        self._environment = {**os.environ, **environment}
        with (directory / "output").open("ab") as output:
            secret = {**self._environment, "SHOP_SECRET": SECRET}
            subprocess.Popen(daemon, cwd=directory, env=secret, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def ask(self, *argv: str) -> str:
        """What a command prints. Raises RuntimeError when it fails."""
        done = subprocess.run(
            argv, env=self._environment, cwd=self._directory, capture_output=True, text=True, timeout=DEADLINE_S
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def begin(self, *argv: str) -> None:
        """A command that may wait for its effect: it is not waited for."""
        quiet = subprocess.DEVNULL
        subprocess.Popen(argv, env=self._environment, cwd=self._directory, stdout=quiet, stderr=quiet)


class Supervisord(_Commanded):
    """One group of two programs."""

    def __init__(self, directory: Path, services: Sequence[Service]) -> None:
        self._config = directory / "supervisord.conf"
        (directory / "logs").mkdir()
        self._write(directory, services)
        super().__init__(directory, {}, str(BIN / "supervisord"), "-c", str(self._config))

    def change(self, services: Sequence[Service]) -> None:
        self._write(self._directory, services)
        self._control("update")

    def stop(self, service: str) -> None:
        self.begin(str(BIN / "supervisorctl"), "-c", str(self._config), "stop", f"shop:{service}_*")

    def answers(self) -> list[str]:
        return [self._control("status"), self._control("avail")]

    def _control(self, *words: str) -> str:
        return self.ask(str(BIN / "supervisorctl"), "-c", str(self._config), *words)

    def _write(self, directory: Path, services: Sequence[Service]) -> None:
        programs = "".join(
            f"""[program:{service.name}]
command={" ".join(service.command[:2])} "{service.command[2]}"
numprocs={service.workers}
process_name=%(program_name)s_%(process_num)d
stopwaitsecs={service.grace_s}
environment=KEY="%(ENV_SHOP_SECRET)s"
"""
            for service in services
        )
        self._config.write_text(
            f"""[unix_http_server]
file={directory}/socket
[supervisord]
nodaemon=true
logfile={directory}/log
pidfile={directory}/pid
childlogdir={directory}/logs
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{directory}/socket
[group:shop]
programs={",".join(service.name for service in services)}
{programs}"""
        )


class Circus(_Commanded):
    """Two watchers."""

    def __init__(self, directory: Path, services: Sequence[Service]) -> None:
        self._config, self._endpoint = directory / "circus.ini", f"ipc://{directory}/control"
        self._write(directory, services)
        super().__init__(directory, {}, str(BIN / "circusd"), str(self._config))

    def change(self, services: Sequence[Service]) -> None:
        self._write(self._directory, services)
        self._control("reloadconfig")

    def stop(self, service: str) -> None:
        self.begin(str(BIN / "circusctl"), "--endpoint", self._endpoint, "stop", service)

    def answers(self) -> list[str]:
        return [self._control("status"), self._control("options", "web"), self._control("get", "web", "env")]

    def _control(self, *words: str) -> str:
        return self.ask(str(BIN / "circusctl"), "--endpoint", self._endpoint, *words)

    def _write(self, directory: Path, services: Sequence[Service]) -> None:
        watchers = "".join(
            f"""[watcher:{service.name}]
cmd = {" ".join(service.command[:2])} "{service.command[2]}"
numprocesses = {service.workers}
graceful_timeout = {service.grace_s}
copy_env = true
"""
            for service in services
        )
        self._config.write_text(
            f"[circus]\nendpoint = {self._endpoint}\npubsub_endpoint = ipc://{directory}/pubsub\n{watchers}"
        )


class Pm2(_Commanded):
    """Two apps of an ecosystem file, remembered for the next boot by `pm2 save`."""

    def __init__(self, directory: Path, services: Sequence[Service]) -> None:
        self._pm2 = str(PM2)
        self._config = directory / "ecosystem.config.json"
        self._write(services)
        home = {"PM2_HOME": str(directory / "home"), "NO_UPDATE_NOTIFIER": "1"}
        super().__init__(directory, home, self._pm2, "start", str(self._config), "--no-daemon")

    def change(self, services: Sequence[Service]) -> None:
        self._write(services)
        self.ask(self._pm2, "startOrReload", str(self._config))

    def stop(self, service: str) -> None:
        self.begin(self._pm2, "stop", service)

    def answers(self) -> list[str]:
        self.ask(self._pm2, "save")
        return [self.ask(self._pm2, "list"), self.ask(self._pm2, "jlist"), self.ask(self._pm2, "env", "0")]

    def _write(self, services: Sequence[Service]) -> None:
        apps = [
            {
                "name": service.name,
                "script": service.command[0],
                "args": service.command[1:],
                "interpreter": "none",
                "exec_mode": "fork",
                "instances": service.workers,
                "kill_timeout": service.grace_s * 1000,
            }
            for service in services
        ]
        self._config.write_text(json.dumps({"apps": apps}))


class Ours(_Commanded):
    """Two pools."""

    def __init__(self, directory: Path, services: Sequence[Service]) -> None:
        (directory / "manifests").mkdir()
        self._write(directory, services)
        up = (*COMMAND, "up", str(directory / "manifests"))
        super().__init__(directory, {**importable(), "RECONCILER_STATE": str(directory / "state")}, *up)

    def change(self, services: Sequence[Service]) -> None:
        self._write(self._directory, services)
        self.ask(*COMMAND, "source", "sync")

    def stop(self, service: str) -> None:
        self.begin(*COMMAND, "stop", f"pool/{service}", "--override")

    def answers(self) -> list[str]:
        kinds = ("pools", "workers", "revisions")
        shown = (
            ("status",),
            ("events", "-o", "json"),
            ("describe", "pool/web"),
            ("why", "worker/web-0"),
            *(("get", k, "-o", "json") for k in kinds),
        )
        return [self.ask(*COMMAND, *words) for words in shown]

    def _write(self, directory: Path, services: Sequence[Service]) -> None:
        for service in services:
            template = {
                "command": service.command,
                "env": [{"name": "KEY", "valueFrom": {"env": "SHOP_SECRET"}}],
                "stop": {"gracePeriod": f"{service.grace_s}s"},
            }
            new = directory / "manifests" / f".{service.name}"
            new.write_text(json.dumps(pool({"replicas": service.workers, "template": template}, service.name)))
            new.rename(new.with_name(f"{service.name}.yaml"))


SIDES: dict[str, tuple[Callable[[], None], Callable[[Path, Sequence[Service]], Peer]]] = {
    OURS: (lambda: None, Ours),
    "supervisord": (partial(need_venv, "supervisord"), Supervisord),
    "circus": (partial(need_venv, "circusd"), Circus),
    "pm2": (need_pm2, Pm2),
}
"""What it needs to be had, and how it starts."""


@contextmanager
def at_work(side: str, services: Sequence[Service]) -> Iterator[tuple[Peer, Path]]:
    """One side with all its workers up; ended afterwards, and its directory removed. Raises TimeoutError."""
    _, start = SIDES[side]
    with machine.work_directory(side) as directory:
        try:
            peer = start(directory, services)
            wait_all_up(services)
            yield peer, directory
        except BaseException:
            machine.show_tail(directory / "output")
            raise
        finally:
            machine.end_what_is_left()  # before its directory goes: it may still write there


def wait_all_up(services: Sequence[Service]) -> None:
    """Waits until each service has just as many workers as it wants. Raises TimeoutError."""
    wanted = [service.workers for service in services]
    machine.wait_for(lambda: [len(pids(service)) for service in services] == wanted, "all workers up", DEADLINE_S, 0.05)


def pids(service: Service) -> set[int]:
    """The workers of a service, wherever below this process they are: one of the peers is a daemon."""
    return {pid for pid in machine.descendants(os.getpid()) if machine.argv(pid)[1:] == [str(service.seconds)]}


def sides(measure: Callable[[str], Values], board: Board) -> dict[str, Callable[[], Values]]:
    """What a figure measures of each side that can be had here; the board learns why another cannot."""
    found: dict[str, Callable[[], Values]] = {}
    for side, (need, _) in SIDES.items():
        try:
            need()
            found[side] = partial(measure, side)
        except Missing as error:
            board.left_out[side] = str(error)
    return found
