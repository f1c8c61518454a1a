"""examples/02-web as its README says: a real gunicorn, replaced under load."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proc import free_port
from tests.real.house import House, eventually, new_house

EXAMPLE = Path(__file__).parents[2] / "examples" / "02-web"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the README makes, with gunicorn in it."""
    directory = tmp_path_factory.mktemp("web")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True, timeout=600)
    install = [directory / "bin" / "pip", "install", "--quiet", "--retries", "0", "--timeout", "10", "gunicorn"]
    try:
        done = subprocess.run(install, capture_output=True, text=True, timeout=600)
    except subprocess.TimeoutExpired:
        pytest.skip("needs gunicorn from a package index: none answers in time")
    if done.returncode:
        pytest.skip(f"needs gunicorn from a package index: {done.stderr.strip().splitlines()[-1:]}")
    for file in EXAMPLE.glob("*.py"):
        shutil.copy(file, directory)
    return directory


@pytest.fixture
def house() -> Iterator[House]:
    with new_house() as house:
        yield house


class Load:
    """Clients that ask without end, each time over a new connection."""

    def __init__(self, port: int, clients: int = 4) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for client in self._clients:
            client.join(120)

    def _ask(self) -> None:
        while not self._over.wait(0.005):
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            try:
                connection.request("GET", "/")
                self.answers[connection.getresponse().read().decode().partition(" from")[0]] += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()


def test_a_rolling_restart_under_load_refuses_no_connection(house: House, server: Path) -> None:
    port = free_port()
    manifest = (EXAMPLE / "web.yaml").read_text()
    assert manifest.count("/opt/hello-web") == 3 and "127.0.0.1:8080" in manifest
    manifest = manifest.replace("/opt/hello-web", str(server)).replace(":8080", f":{port}")
    house.write("web.yaml", manifest)
    house.up()
    before = house.ready("web", 2, 60.0)

    with Load(port) as load:
        eventually(lambda: load.answers["version 1"] > 20, 60.0, "answers of the first version")
        house.write("web.yaml", manifest.replace('value: "1"', 'value: "2"'))
        eventually(lambda: not {*before.values()} & {*house.pids("web").values()}, 60.0, "both to be replaced")
        house.ready("web", 2, 60.0)
        seen = load.answers["version 2"]
        eventually(lambda: load.answers["version 2"] > seen + 20, 60.0, "answers of the second version")

    assert load.failures == []
    assert load.answers.keys() == {"version 1", "version 2"}
