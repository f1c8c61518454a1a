"""Directories for the time of one start: made once, taken away at once, and nothing of an earlier life stays."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from reconciler.backends.temporary import Temporary


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def gone(place: Path) -> bool:
    return not [*(place / ".removed").iterdir()]


def test_it_is_made_once_for_nobody_else_and_removed_with_all_that_it_holds(tmp_path: Path) -> None:
    place = tmp_path / "tmp"
    temporary = Temporary(str(place))
    temporary.make("a.1")
    assert (place / "a.1").stat().st_mode & 0o777 == 0o700
    (place / "a.1" / "deep" / "er").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    os.symlink(outside, place / "a.1" / "link")
    temporary.make("a.1")
    temporary.remove("a.1")
    assert not (place / "a.1").exists(), "at once, though it is emptied later"
    eventually(lambda: gone(place))
    assert (outside / "kept").exists(), "links are not followed"
    temporary.remove("a.1")
    temporary.remove("never.1")
    temporary.finish(30)


def test_a_new_daemon_keeps_what_runs_and_finishes_what_the_one_before_had_begun(tmp_path: Path) -> None:
    before = Temporary(str(tmp_path))
    for instance in ("lives.3", "died.7"):
        before.make(instance)
    (tmp_path / ".removed" / "half.1" / "left").mkdir(parents=True)
    Temporary(str(tmp_path)).keep_only({"lives.3", "other.1"})
    eventually(lambda: gone(tmp_path))
    assert sorted(os.listdir(tmp_path)) == [".removed", "lives.3"]
    Temporary(str(tmp_path / "none")).keep_only(set())
    assert not (tmp_path / "none").exists()


def test_a_worker_cannot_keep_its_directory_by_taking_rights_away(tmp_path: Path) -> None:
    temporary = Temporary(str(tmp_path))
    temporary.make("a.1")
    (tmp_path / "a.1" / "closed" / "inner").mkdir(parents=True)
    (tmp_path / "a.1" / "closed").chmod(0)
    temporary.remove("a.1")
    eventually(lambda: gone(tmp_path))
