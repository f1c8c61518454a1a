"""Ours: the daemon started as a person starts it, in a state directory of its own."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import machine
from figure import OURS
from subject import Tree

from reconciler.client import Client
from reconciler.errors import NotFound, ReconcilerError

COMMAND = [sys.executable, "-m", "reconciler"]


class Product(Tree):
    """The daemon at work: launcher, controller, and its workers beside the controller."""

    def __init__(self, directory: Path, *manifests: dict[str, object], options: Sequence[str] = ()) -> None:
        self.state = directory / "state"
        self.manifests = directory / "manifests"
        self.manifests.mkdir(exist_ok=True)  # a second one in a directory goes on from what the first has left
        for number, manifest in enumerate(manifests):
            self.file(number).write_text(json.dumps(manifest))
        super().__init__(
            [*COMMAND, "up", str(self.manifests), "--state", str(self.state), *options],
            directory,
            "launcher",
            helper="controller",
            environment=importable(),
            status_command=[*COMMAND, "get", "workers", "--state", str(self.state)],
        )

    def file(self, number: int) -> Path:
        """Where the manifest of that number stands."""
        return self.manifests / f"pool{number}.yaml"

    @property
    def socket_path(self) -> str:
        return str(self.state / "run" / "api.sock")

    def client(self) -> Client:
        return Client(self.socket_path)

    def wait_serving(self, deadline_s: float = 30.0) -> None:
        """Waits until the API answers. Raises TimeoutError, RuntimeError when the daemon has ended."""
        machine.wait_for(lambda: self._living() > 0 and self._answers(), "the API answering", deadline_s)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                client.ready()
        except ReconcilerError:
            return False
        return True


class Ours:
    """As a subject among the peers: one pool of so many workers."""

    def __init__(self, name: str = OURS, options: Sequence[str] = ()) -> None:
        self.name = name
        self._options = options

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Product:
        manifest = pool({"replicas": count, "template": {"command": list(command)}})
        return Product(directory, manifest, options=self._options)


class Many:
    """As many pools as workers, each in a file of its own."""

    name = OURS

    def start(self, directory: Path, count: int, command: Sequence[str]) -> Product:
        pools = (pool({"template": {"command": list(command)}}, f"bench{number}") for number in range(count))
        return Product(directory, *pools)


def pool(spec: dict[str, object], name: str = "bench") -> dict[str, object]:
    """The manifest of one pool."""
    return {"apiVersion": "reconciler/v1", "kind": "Pool", "metadata": {"name": name}, "spec": spec}


@contextmanager
def task_pool(slots: int) -> Iterator[Product]:
    """The daemon with an empty queue and so many slots."""
    with machine.work_directory(OURS) as directory:
        product = Product(directory, pool({"replicas": slots, "tasks": {"mode": "PerTask"}}))
        try:
            product.wait_serving()
            with product.client() as client:
                machine.wait_for(lambda: _is_ready(client), "the pool Ready", 30.0, every_s=0.05)
            yield product
        except BaseException:
            machine.show_tail(directory / "output")
            machine.end_what_is_left()  # before its directory goes: it may still write there
            raise
        product.stop()


def moment_s(text: str) -> float:
    """A moment of the API as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def _is_ready(client: Client) -> bool:
    """False too before the manifest has been read: the API serves a moment earlier."""
    try:
        conditions = client.get("pools", "bench")["status"].get("conditions", [])
    except NotFound:
        return False
    return any((condition["type"], condition["status"]) == ("Ready", "True") for condition in conditions)


def importable() -> dict[str, str]:
    """The daemon runs elsewhere: it must find the package that this process has found."""
    spec = importlib.util.find_spec("reconciler")
    assert spec is not None and spec.origin is not None, "imported above"
    return {"PYTHONPATH": str(Path(spec.origin).parent.parent)}
