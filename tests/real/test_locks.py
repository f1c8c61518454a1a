"""Locks with real processes: commands, workers, holders that are stopped and killed, a daemon that dies."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.client import Client
from reconciler.coordination.session import TimedOut
from reconciler.errors import Deadlock, LockLost
from tests.coordination.linearizability import Op, lapse, linearizable
from tests.proc import environ_of
from tests.real.house import House, alive, eventually

FAST = "spec: {leaseDuration: 1s, renewDeadline: 800ms, retryPeriod: 200ms}"
TURNS = Path(__file__).with_name("turns.py")


def declare(house: House, name: str, spec: str = "spec: {}") -> None:
    house.write(f"{name}.yaml", f"apiVersion: reconciler/v1\nkind: Lock\nmetadata: {{name: {name}}}\n{spec}\n")
    assert house.cli("source", "sync").returncode == 0
    assert house.get("locks", name) is not None


def client(house: House) -> Client:
    return Client(str(house.state / "run" / "api.sock"))


def status(house: House, name: str) -> dict[str, Any]:
    found = house.get("locks", name)
    return {} if found is None else dict(found["status"])


def holders(house: House, name: str) -> list[str]:
    return [one["name"] for one in status(house, name).get("holders", [])]


@contextlib.contextmanager
def running(house: House, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A client command that is ended with the block."""
    command = house.follow(*args)
    try:
        yield command
    finally:
        command.terminate()
        command.wait(30)


def test_a_command_holds_the_lock_while_it_runs_and_its_code_is_ours(shared: House) -> None:
    done = shared.cli("lock", "run", "codes", "--", "sh", "-c", "echo $RECONCILER_LOCK_TOKEN; exit 7")
    assert (done.returncode, done.stdout) == (7, "1\n")
    done = shared.cli("lock", "run", "codes", "--", "sh", "-c", "echo $RECONCILER_LOCK_TOKEN_CODES; kill -9 $$")
    assert (done.returncode, done.stdout) == (137, "2\n")
    assert shared.cli("lock", "run", "codes", "--", "no-such-command").returncode == 127
    assert shared.cli("lock", "run", "codes", "--", "/etc/passwd").returncode == 126
    assert shared.cli("lock", "run", "no_such/../name", "--", "true").returncode == 125
    assert shared.cli("lock", "run", "codes").returncode == 2
    assert shared.cli("lock", "status", "codes").returncode == 4, "nobody declared it, so it went with its last holder"


def test_who_waits_too_long_is_told_who_holds_it(shared: House) -> None:
    with running(shared, "lock", "run", "held", "--", "sh", "-c", "echo in; sleep 1000") as first:
        assert first.stdout is not None and first.stdout.readline() == "in\n"
        done = shared.cli("lock", "run", "held", "--timeout", "300ms", "--", "true")
        assert done.returncode == 124 and "held by user" in done.stderr
        shown = shared.cli("lock", "status").stdout
        assert "held" in shown and "sleep 1000" in shown
    eventually(lambda: not holders(shared, "held"), 30.0, "the end of the command to free it")


def test_fault_K1_a_holder_that_is_killed_frees_it_at_once_and_takes_its_command_with_it(shared: House) -> None:
    declare(shared, "killed", "spec: {leaseDuration: 10m, renewDeadline: 5m}")
    with running(shared, "lock", "run", "killed", "--", "sh", "-c", "echo $$; exec sleep 1000") as first:
        assert first.stdout is not None
        command = int(first.stdout.readline())
        first.kill()
        done = shared.cli("lock", "run", "killed", "--timeout", "30s", "--", "sh", "-c", "echo $RECONCILER_LOCK_TOKEN")
        assert (done.returncode, done.stdout) == (0, "2\n")
        eventually(lambda: not alive(command), 30.0, "the command to be gone")
    assert "HolderEnded" in [one["reason"] for one in shared.events("lock/killed")]


def test_fault_K9_a_command_that_asks_for_the_lock_it_runs_under_is_told_so(shared: House) -> None:
    with client(shared).lock("again"):
        pass
    inner = [sys.executable, "-m", "reconciler", "lock", "run", "again", "--", "true"]
    done = shared.cli("lock", "run", "again", "--", *inner)
    assert done.returncode == 125 and "this wait would never end" in done.stderr

    with client(shared).lock("again"), pytest.raises(Deadlock):
        client(shared).lock("again", timeout_s=30)


def test_a_lock_of_several_holders_takes_as_many_and_no_more(shared: House) -> None:
    declare(shared, "several", "spec: {maxHolders: 2}")

    with client(shared).lock("several", timeout_s=30) as first:
        ends = subprocess.Popen(  # another process: what one holds within another of its own would wait for itself
            [*_python(shared, "several"), "30"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert ends.stdout is not None
        assert int(ends.stdout.readline()) > first.token
        assert len(holders(shared, "several")) == 2
        third = subprocess.run([*_python(shared, "several"), "0.2"], capture_output=True, text=True, timeout=90)
        assert "TimedOut" in third.stderr
        ends.communicate(timeout=90)


def _python(house: House, name: str) -> list[str]:
    code = (
        "import sys; from reconciler.client import Client\n"
        f"with Client({str(house.state / 'run' / 'api.sock')!r}).lock({name!r}, timeout_s=float(sys.argv[1])) as lock:\n"
        "    print(lock.token, flush=True); sys.stdin.read()"
    )
    return [sys.executable, "-c", code]


def test_fault_K2_a_command_whose_holder_was_stopped_past_the_lease_is_ended_when_it_goes_on(shared: House) -> None:
    declare(shared, "stopped", "spec: {leaseDuration: 4s, renewDeadline: 3s, retryPeriod: 200ms}")
    with running(shared, "lock", "run", "stopped", "--", "sleep", "1000") as first:
        eventually(lambda: holders(shared, "stopped"), 30.0, "the first to hold it")
        os.kill(first.pid, signal.SIGSTOP)
        done = shared.cli("lock", "run", "stopped", "--timeout", "30s", "--", "sh", "-c", "echo $RECONCILER_LOCK_TOKEN")
        assert (done.returncode, done.stdout) == (0, "2\n")
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(30) == 125
    assert "LeaseExpired" in [one["reason"] for one in shared.events("lock/stopped")]


def test_fault_K3_what_is_no_longer_held_is_not_given_back(shared: House) -> None:
    with client(shared).lock("mine") as lock, client(shared) as other:
        assert other.release_lock("mine", "0" * 32, lock.token) is False
        assert other.release_lock("mine", lock.session, lock.token + 1) is False
        with pytest.raises(LockLost):
            other.renew_lock("mine", lock.session, lock.token + 1, 99)
        lock.check()
    assert lock.release() is False


def test_workers_hold_the_locks_of_their_pool_one_after_another(shared: House, name: str) -> None:
    declare(shared, "warehouse")
    shared.apply(name, ["sleep", "1000"], replicas=2, locks=[{"name": "warehouse"}])
    first = eventually(lambda: holders(shared, "warehouse"), 30.0, "a holder")
    assert len(first) == 1
    eventually(lambda: shared.pids(name), 30.0, "its process")
    workers = shared.workers(name)
    up = [one for one, found in workers.items() if found.get("pid")]
    assert [f"worker/{one}" for one in up] == first
    tokens = {"RECONCILER_LOCK_TOKEN": "1", "RECONCILER_LOCK_TOKEN_WAREHOUSE": "1"}
    assert tokens.items() <= environ_of(workers[up[0]]["pid"]).items()
    waiting = next(one for one in workers if one not in up)
    waits = f"waits for lock/warehouse, held by {first[0]}"
    eventually(lambda: (found := shared.worker(waiting))["message"] == waits and found["state"] == "Pending")

    os.kill(workers[up[0]]["pid"], signal.SIGKILL)
    second = eventually(lambda: [one for one in holders(shared, "warehouse") if one not in first], 30.0, "the other")
    assert status(shared, "warehouse")["token"] == 2 and second != first

    shared.delete(name)
    eventually(lambda: not holders(shared, "warehouse"), 30.0, "the lock to be free")


def test_a_rollout_is_through_when_one_runs_and_the_others_stand_by_with_the_new_template(
    shared: House, name: str
) -> None:
    declare(shared, "rolled")
    shared.apply(name, ["sleep", "1000"], replicas=2, locks=[{"name": "rolled"}])
    eventually(lambda: shared.pids(name), 30.0, "its process")
    before = shared.pids(name)
    done = shared.cli("rollout", "restart", f"pool/{name}", "--wait", "--timeout", "60s")
    assert done.returncode == 0, done.stderr
    assert len(shared.pids(name)) == 1 and shared.pids(name) != before
    assert shared.cli("rollout", "status", f"pool/{name}").returncode == 0
    assert status(shared, "rolled")["token"] == 2


def test_a_worker_that_cannot_have_its_lock_in_time_has_failed_to_start(shared: House, name: str) -> None:
    with client(shared).lock("busy"):
        shared.write("busy.yaml", "apiVersion: reconciler/v1\nkind: Lock\nmetadata: {name: busy}\nspec: {}\n")
        assert shared.cli("source", "sync").returncode == 0
        shared.apply(name, ["sleep", "1000"], locks=[{"name": "busy", "timeout": "200ms"}])
        assert "lock/busy was not had within 200ms" in shared.failed_start(f"{name}-0")
    shared.ready(name, 1)


def test_a_lock_that_a_pool_needs_cannot_be_deleted(shared: House, name: str) -> None:
    declare(shared, "needed")
    shared.apply(name, ["sleep", "1000"], locks=[{"name": "needed"}])
    shared.ready(name, 1)
    done = shared.cli("delete", "lock/needed")
    assert done.returncode == 5 and f"pool/{name}" in done.stderr


def test_a_file_is_locked_without_a_daemon(tmp_path: Path) -> None:
    run = [sys.executable, "-m", "reconciler", "lock", "run", f"{tmp_path}/deploy.lock"]
    said = [
        subprocess.run([*run, "--", "sh", "-c", "echo $RECONCILER_LOCK_TOKEN"], capture_output=True, timeout=60).stdout
        for _ in range(2)
    ]
    assert said == [b"1\n", b"2\n"]


def test_fault_K6_what_ended_while_the_daemon_was_dead_is_free_when_it_is_back_and_what_lives_holds_on(
    house: House,
) -> None:
    house.up()
    for name in ("dead", "alive"):
        declare(house, name, "spec: {leaseDuration: 10m, renewDeadline: 5m}")
    with (
        running(house, "lock", "run", "dead", "--", "sleep", "1000") as dead,
        running(house, "lock", "run", "alive", "--", "sleep", "1000"),
    ):
        eventually(lambda: holders(house, "dead") and holders(house, "alive"), 30.0, "both to hold")
        house.kill_launcher()
        dead.kill()
        house.up()
        with client(house).lock("dead", timeout_s=30) as lock:
            assert lock.token == 2
        with pytest.raises(TimedOut):
            client(house).lock("alive", timeout_s=0.3)


def test_fault_C34_a_store_from_a_backup_gives_no_token_again(house: House) -> None:
    house.up()
    declare(house, "db")
    with client(house).lock("db"):
        pass
    house.down()
    backup = house.path / "backup"
    backup.mkdir()
    for file in house.state.glob("store.db*"):
        shutil.copy(file, backup)
    house.up()
    for _ in range(3):
        with client(house).lock("db") as lock:
            pass
    house.down()
    for file in house.state.glob("store.db*"):
        file.unlink()
    for file in backup.iterdir():
        shutil.copy(file, house.state)
    house.up()
    assert status(house, "db")["token"] == 4, "the file beside the store knows of those that the backup does not"
    with client(house).lock("db") as lock:
        assert lock.token == 5


# Many hand-overs, and everything that can go wrong with them.


class Turns:
    """Holders that take turns at a lock, and what they did."""

    def __init__(self, house: House, count: int) -> None:
        self.house = house
        self.fenced, self.history = house.path / "fenced", house.path / "history"
        self.killed = 0
        self._holders = [self._one() for _ in range(count)]

    def _one(self) -> subprocess.Popen[bytes]:
        socket = str(self.house.state / "run" / "api.sock")
        command = [sys.executable, str(TURNS), socket, "turns", str(self.fenced), str(self.history)]
        return subprocess.Popen(command, stdin=subprocess.PIPE)

    @property
    def tokens(self) -> list[int]:
        """The tokens that were written under, in order."""
        text = self.fenced.read_text() if self.fenced.exists() else ""
        return [int(line.split()[0]) for line in text.splitlines()]

    def stop_one(self, chance: random.Random, beyond_s: float = 1.0) -> None:
        """A holder, if it is one just then, is stopped for longer than its lease."""
        victim = chance.choice(self._holders)
        victim.send_signal(signal.SIGSTOP)
        before, ends_s = len(set(self.tokens)), time.monotonic() + beyond_s
        eventually(lambda: time.monotonic() > ends_s and len(set(self.tokens)) > before + 2, 60.0, "others to go on")
        victim.send_signal(signal.SIGCONT)

    def kill_one(self, chance: random.Random) -> None:
        """A holder or a waiter is killed; another takes its place."""
        number = chance.randrange(len(self._holders))
        self._holders[number].kill()
        self._holders[number].wait(30)
        self._holders[number] = self._one()
        self.killed += 1

    def until(self, count: int) -> None:
        """Waits for so many hand-overs."""
        eventually(lambda: len(set(self.tokens)) >= count, 60.0, f"{count} hand-overs")

    def over(self) -> None:
        """Has all of them finish."""
        for one in self._holders:
            assert one.stdin is not None
            one.stdin.close()
        for one in self._holders:
            one.wait(60)

    def operations(self) -> list[Op]:
        """What they did, with the losses that may have happened."""
        ops: list[Op] = []
        for line in self.history.read_text().splitlines():
            called, returned, kind, token, ok = line.split()
            if kind != "stale":
                ops.append(Op(float(called), float(returned), kind, int(token), ok == "1"))
        released = {op.token for op in ops if op.kind == "release" and op.ok}
        return ops + [lapse(op.token, op.called) for op in ops if op.kind == "acquire" and op.token not in released]


def take_turns(house: House, hand_overs: int, stops: int, kills: int, deaths: int) -> None:
    """All hand-overs, with so many of each fault spread over them; then what must be so."""
    chance = random.Random(hand_overs)
    house.up()
    declare(house, "turns", FAST)
    turns = Turns(house, 4)
    try:
        faults = [turns.stop_one] * stops + [turns.kill_one] * kills + [lambda _: house.kill_controller()] * deaths
        chance.shuffle(faults)
        for number, fault in enumerate(faults, 1):
            fault(chance)
            turns.until(hand_overs * number // len(faults))
    finally:
        turns.over()
    tokens = turns.tokens
    assert tokens == sorted(tokens), "the fence saw a token fall"
    assert len(set(tokens)) >= hand_overs
    sessions = {tuple(line.split()) for line in turns.fenced.read_text().splitlines()}
    assert len(sessions) == len(set(tokens)), "two holders had one token"
    ops = turns.operations()
    assert linearizable(ops)


def test_three_hundred_hand_overs_with_holders_stopped_and_killed_and_the_daemon_killed(house: House) -> None:
    take_turns(house, 300, stops=2, kills=6, deaths=2)


@pytest.mark.long
def test_ten_thousand_hand_overs_with_holders_stopped_and_killed_and_the_daemon_killed(house: House) -> None:
    take_turns(house, 10_000, stops=60, kills=200, deaths=60)
