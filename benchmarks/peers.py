"""The floor and the peers: how each is found or installed, configured for so many workers, started and asked.

    python benchmarks/peers.py        installs what is missing and says what there is

supervisord and circus go into a virtual environment of their own, runit is unpacked from its Debian package beside it,
PM2 comes from npm (see fetched.py). What runs tasks is in runners.py and queues.py. A peer that cannot be had is left
out, with its reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import queues
import runners
from fetched import CACHE, Missing, environment, run, unpacked
from subject import Subject, Tree

HERE = Path(__file__).resolve().parent
BIN = CACHE / "venv" / "bin"
PM2 = CACHE / "pm2" / "node_modules" / ".bin" / "pm2"
PM2_PACKAGE = "pm2@6.0.14"
REQUIREMENTS = ("supervisor==4.3.0", "circus==0.19.0")


class Floor:
    """floor.py."""

    name = "floor"

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Tree:
        return Tree(
            [sys.executable, "-I", "-S", str(HERE / "floor.py"), "up", str(count), *command], directory, "floor"
        )


class Supervisord:
    """One program with numprocs, its output in files as is its default."""

    name = "supervisord"

    def __init__(self) -> None:
        need_venv("supervisord")

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Tree:
        config = directory / "supervisord.conf"
        (directory / "logs").mkdir()
        config.write_text(
            f"""[unix_http_server]
file={directory}/socket
[supervisord]
nodaemon=true
logfile={directory}/log
pidfile={directory}/pid
childlogdir={directory}/logs
minfds=8192
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{directory}/socket
[program:w]
command={" ".join(command)}
numprocs={count}
process_name=%(program_name)s_%(process_num)d
"""
        )
        control = [str(BIN / "supervisorctl"), "-c", str(config), "status"]
        return Tree([str(BIN / "supervisord"), "-c", str(config)], directory, self.name, status_command=control)


class Circus:
    """One watcher with numprocs."""

    name = "circus"

    def __init__(self) -> None:
        need_venv("circusd")

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Tree:
        config = directory / "circus.ini"
        endpoint = f"ipc://{directory}/control"
        config.write_text(
            f"""[circus]
endpoint = {endpoint}
pubsub_endpoint = ipc://{directory}/pubsub
[watcher:w]
cmd = {" ".join(command)}
numprocesses = {count}
"""
        )
        control = [str(BIN / "circusctl"), "--endpoint", endpoint, "list", "w"]
        return Tree([str(BIN / "circusd"), str(config)], directory, self.name, status_command=control)


class Runit:
    """One service directory a worker below one runsvdir; it takes 1,000 at most."""

    name = "runit"

    def __init__(self) -> None:
        self._bin = unpacked("runsvdir", ["runit"])

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Tree:
        services = [directory / "service" / f"w-{number}" for number in range(count)]
        for service in services:
            service.mkdir(parents=True)
            (service / "run").write_text(f"#!/bin/sh\nexec {' '.join(command)}\n")
            (service / "run").chmod(0o755)
        return Tree(
            [str(self._bin / "runsvdir"), "-P", str(directory / "service")],
            directory,
            "runsvdir",
            helper="runsv",
            between=True,
            environment={"PATH": f"{self._bin}:{os.environ['PATH']}"},
            status_command=[str(self._bin / "sv"), "status", *map(str, services)],
            stop_signal=signal.SIGHUP,
        )


PEERS: dict[str, Callable[[], Subject]] = {
    "floor": Floor,
    "runit": Runit,
    "supervisord": Supervisord,
    "circus": Circus,
}


def available() -> tuple[list[Subject], dict[str, str]]:
    """The peers that can be measured here, and why the others cannot."""
    found: list[Subject] = []
    left_out: dict[str, str] = {}
    for name, make in PEERS.items():
        try:
            found.append(make())
        except Missing as error:
            left_out[name] = str(error)
    return found, left_out


def need_venv(program: str) -> None:
    """Makes the environment of the Python peers once. Raises Missing."""
    environment("venv", REQUIREMENTS)
    if not (BIN / program).exists():
        raise Missing(f"{program} is not in what was installed")


def need_pm2() -> None:
    """Installs PM2 once, for the figures about its habits; 1,000 workers of it are not measured. Raises Missing."""
    if PM2.exists():
        return
    if not shutil.which("npm"):
        raise Missing("npm is not installed")
    where = PM2.parents[2]
    where.mkdir(parents=True, exist_ok=True)
    run(["npm", "install", "--prefix", str(where), "--no-audit", "--no-fund", "--silent", PM2_PACKAGE])
    if not PM2.exists():
        raise Missing("pm2 is not in what was installed")


if __name__ == "__main__":
    subjects, missing = available()
    for subject in subjects:
        print(f"{subject.name}: ready")
    for name, need in {"pm2": need_pm2, **runners.NEEDS, **queues.NEEDS}.items():
        try:
            need()
            print(f"{name}: ready")
        except Missing as error:
            missing[name] = str(error)
    for name, reason in missing.items():
        print(f"{name}: left out: {reason}")
