"""A lock on a file, without a daemon."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from reconciler.coordination.filelock import FileLock
from reconciler.coordination.session import TimedOut
from reconciler.errors import LockLost
from tests.coordination.fenced import FencedFile, Stale

HOLD = "import sys; from reconciler.coordination.filelock import FileLock; lock = FileLock(sys.argv[1]); print(lock.token, flush=True); sys.stdin.read()"


def holder(path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child


def test_one_holds_it_and_another_waits_no_longer_than_it_wants_to(tmp_path: Path) -> None:
    with FileLock(tmp_path / "l") as lock:
        assert lock.token == 1 and not lock.lost
        with pytest.raises(TimedOut, match="was not had in time"):
            FileLock(tmp_path / "l", timeout_s=0.01)
    with FileLock(tmp_path / "l", timeout_s=0) as lock:
        assert lock.token == 2


def test_fault_K1_it_is_free_as_soon_as_its_holder_is_killed_and_the_next_token_is_larger(tmp_path: Path) -> None:
    child = holder(tmp_path / "l")
    child.kill()

    with FileLock(tmp_path / "l", timeout_s=30) as lock:
        assert lock.token == 2
    child.wait(30)


def test_fault_K8_a_file_deleted_while_it_is_held_gives_two_tokens_and_the_first_holder_can_know(
    tmp_path: Path,
) -> None:
    fenced = FencedFile(tmp_path / "fenced")
    first = FileLock(tmp_path / "l")
    (tmp_path / "l").unlink()
    second = FileLock(tmp_path / "l", timeout_s=0)

    fenced.write(second.token, "second")
    assert second.token > first.token and first.lost
    with pytest.raises(LockLost):
        first.check()
    with pytest.raises(Stale):
        fenced.write(first.token, "first")


def test_fault_K8_who_waited_for_a_file_that_was_replaced_meanwhile_locks_the_new_one(tmp_path: Path) -> None:
    first = FileLock(tmp_path / "l")
    found: list[FileLock] = []
    waiting = threading.Thread(target=lambda: found.append(FileLock(tmp_path / "l", timeout_s=30)))
    waiting.start()
    (tmp_path / "new").write_text("")
    os.replace(tmp_path / "new", tmp_path / "l")
    first.release()
    waiting.join(30)

    assert not found[0].lost
    with pytest.raises(TimedOut):
        FileLock(tmp_path / "l", timeout_s=0)
    found[0].release()


def test_fault_K2_a_holder_that_is_stopped_keeps_it_for_there_is_no_lease(tmp_path: Path) -> None:
    child = holder(tmp_path / "l")
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(TimedOut):
        FileLock(tmp_path / "l", timeout_s=0.05)
    child.kill()
    child.wait(30)


def test_a_second_release_gives_nothing_back(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "l")
    assert lock.release() is True
    with FileLock(tmp_path / "l", timeout_s=0) as other:
        assert lock.release() is False
        assert not other.lost and lock.lost


def test_a_token_file_that_is_no_token_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / "l.token").write_text("seven")
    with pytest.raises(OSError, match="holds no token"):
        FileLock(tmp_path / "l")
    assert (tmp_path / "l.token").read_text() == "seven"


def take_turns(path: Path, turns: int) -> None:
    fenced = FencedFile(path / "fenced")
    for _ in range(turns):
        with FileLock(path / "l", timeout_s=60) as lock:
            fenced.write(lock.token, str(os.getpid()))


def test_tokens_of_many_processes_rise_one_by_one(tmp_path: Path) -> None:
    children = [multiprocessing.get_context("fork").Process(target=take_turns, args=(tmp_path, 25)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)

    assert [child.exitcode for child in children] == [0] * 4
    assert [token for token, _ in FencedFile(tmp_path / "fenced").lines()] == list(range(1, 101))
