"""What a person reads who waits on a pool that an operator holds, and who mistypes a state."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.columns import state_of_worker, status_of_pool
from reconciler.cli.status import page
from reconciler.cli.wishes import standing
from reconciler.resources.task import TaskState


@pytest.fixture
def batch(house: Any) -> Any:
    """A pool that takes tasks."""
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    return house


def test_whoever_waits_on_a_paused_pool_is_told_why_nothing_happens(batch: Any, cli: Any) -> None:
    cli("pause", "pool/batch", "--reason", "new disk")
    cli("submit", "--idempotency-key", "k", "--max-attempts", "1", "--", "a")
    batch.within(lambda: batch.daemon.end_task(1, TaskState.FAILED, exit_code=3, reason="Exited"))
    answer = cli("submit", "--wait", "--idempotency-key", "k", "--max-attempts", "1", "--", "a")
    assert (answer.returncode, answer.stdout) == (3, b"task/1\n")
    note, end = answer.stderr.decode().splitlines()
    assert note.startswith("note: pool/batch is paused by ") and ": new disk; the task waits" in note
    assert note.endswith("reconciler resume pool/batch")
    assert end == "error: task/1: Failed: Exited, exit code 3"


def test_wait_says_which_pool_keeps_it_waiting(batch: Any, cli: Any) -> None:
    cli("submit", "--", "a")
    assert cli("wait", "--all", "--timeout", "1ms").stderr.decode().splitlines() == ["error: not finished within 1ms"]
    cli("pause", "pool/batch", "--reason", "new disk")
    for objects in (["task/1"], ["--all"], ["--all", "--pool", "batch"], ["pool/batch"]):
        answer = cli("wait", *objects, "--timeout", "1ms")
        note, end = answer.stderr.decode().splitlines()
        assert note.startswith("note: pool/batch is paused by ") and ": new disk; " in note
        assert note.endswith("reconciler resume pool/batch")
        assert (answer.returncode, end.startswith("error: not ")) == (124, True)
    assert b"note" not in cli("wait", "task/1", "--timeout", "1ms", "-q").stderr
    batch.within(lambda: batch.daemon.end_task(1, TaskState.FAILED, exit_code=3, reason="Exited"))
    assert cli("wait", "task/1").stderr == cli("wait", "--all").stderr == b"", "nothing waits any longer"


def test_a_drain_says_that_it_ends_the_pause(batch: Any, cli: Any) -> None:
    cli("pause", "pool/batch", "--reason", "new disk")
    assert cli("pause", "pool/batch").stdout == b"pool/batch paused\n", "the same word again ends nothing"
    said = cli("drain", "pool/batch").stdout.decode()
    assert said.startswith("pool/batch drained; it is no longer paused by ")
    assert cli("resume", "pool/batch").stdout == b"pool/batch resumed\n"


def test_a_wish_that_has_run_out_holds_nothing() -> None:
    intent = {"wish": "Paused", "actor": "user ann", "until": "2001-01-01T00:00:00.000Z"}
    assert standing({"metadata": {"intent": intent}}) is None
    assert standing({"metadata": {"intent": intent | {"until": "2999-01-01T00:00:00.000Z"}}}) is not None


@pytest.mark.parametrize("command", [("get", "tasks"), ("cancel", "--pool", "batch"), ("retry", "--pool", "batch")])
def test_a_mistyped_state_is_no_directory(
    command: tuple[str, ...], batch: Any, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(word: str) -> subprocess.CompletedProcess[bytes]:
        answer: subprocess.CompletedProcess[bytes] = cli(*command, "--state", word)
        return answer

    monkeypatch.chdir(tmp_path)
    typo, other = said("Pendin"), said("Bogus")
    assert typo.returncode == 2 and b"no such state: Pendin; did you mean Pending?" in typo.stderr
    assert other.returncode == 2 and b"tasks are Pending, Delayed, " in other.stderr
    (tmp_path / "Bogus").mkdir()
    assert b"no such state" not in said("Bogus").stderr


def told(*conditions: tuple[str, str, str], **status: Any) -> str:
    said = [dict(zip(("type", "status", "reason"), one, strict=True)) for one in conditions]
    return status_of_pool({"metadata": {}, "status": {"conditions": said, **status}})


def test_a_pool_that_is_held_does_not_look_as_if_it_were_not() -> None:
    ready, held = ("Ready", "True", "AllReady"), ("Progressing", "False", "RolloutPaused")
    assert told(ready, held) == "RolloutPaused"
    assert told(ready, ("Progressing", "False", "Complete")) == "Ready"
    assert told(("Ready", "False", "NotAllReady"), held) == "NotAllReady", "trouble goes first"
    assert told(("Ready", "True", "Draining"), tasks={"running": 1, "pending": 0}) == "Draining"
    assert told(("Ready", "True", "Draining"), tasks={"running": 0, "pending": 0}) == "Drained"


def test_workers_of_a_stopped_pool_are_stopped() -> None:
    assert state_of_worker({"state": "Pending", "message": "stopped by user root: maintenance"}) == "Stopped"
    assert state_of_worker({"state": "Pending", "message": "waits for pool/db"}) == "Pending"
    assert state_of_worker({"state": "Stopping", "message": "stopped by user root"}) == "Stopping"


def test_status_says_what_an_operator_holds() -> None:
    pools = {"night": {"replicas": 2, "readyReplicas": 2, "ready": True, "askedFor": "drained by user root"}}
    report = {"problems": [], "launcher": {"pid": 1}, "controller": {"pid": 2}, "state": "/s", "sources": []}
    assert page({**report, "pools": pools}).splitlines()[-1].split(None, 3)[3] == "drained by user root"
    pools["night"]["askedFor"] = ""
    assert "ASKED FOR" not in page({**report, "pools": pools})
