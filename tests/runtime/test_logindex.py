"""When bytes were written: what is shown since a moment begins at most a look too early, never too late."""

from __future__ import annotations

from pathlib import Path

from reconciler.runtime.logindex import MOST_MARKS, LogIndex


def test_what_was_there_at_a_look_before_the_moment_is_skipped() -> None:
    index = LogIndex()
    index.note("/log", 10.0, 100)
    index.note("/log", 20.0, 250)
    assert index.skip(["/log"], 10.0) == {"/log": 0}
    assert index.skip(["/log"], 15.0) == {"/log": 100}
    assert index.skip(["/log"], 99.0) == {"/log": 250}
    assert index.skip(["/other"], 99.0) == {"/other": 0}


def test_sizes_are_counted_across_rotation(tmp_path: Path) -> None:
    path, rotated = str(tmp_path / "log"), tmp_path / "log.1"
    index = LogIndex()
    index.note(path, 10.0, 5000)
    rotated.write_bytes(b"x" * 4096)
    index.rotated(path, 4096)
    index.note(path, 20.0, 1500)  # 5596 from the beginning
    assert index.skip([str(rotated), path], 15.0) == {path: 904, str(rotated): 5000}
    assert index.skip([str(rotated), path], 5.0) == {path: 0, str(rotated): 0}
    assert index.skip([str(rotated), path], 25.0)[path] == 1500


def test_old_marks_grow_sparse() -> None:
    index = LogIndex()
    for at in range(3 * MOST_MARKS):
        index.note("/log", float(at), at)
    assert index.skip(["/log"], 3.0 * MOST_MARKS)["/log"] == 3 * MOST_MARKS - 1
    assert abs(index.skip(["/log"], float(MOST_MARKS))["/log"] - MOST_MARKS) < 100
