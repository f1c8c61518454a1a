"""Output files: rotation without losing a line, parts in order, old ones pruned."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reconciler.backends import logs
from reconciler.backends.local import LocalHost

WRITER = """
import os, select, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while number < 200_000 or not select.select([0], [], [], 0)[0]:
    for number in range(number, number + 10_000):
        os.write(fd, b"%d\\n" % number)
    number += 1
print(number)
"""
"""At full speed until its stdin is closed, but no fewer lines than that; then says how many."""


def test_rotation_loses_and_doubles_nothing_while_the_writer_runs_at_full_speed(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.touch()
    words = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin is not None and writer.stdout is not None
        rotations = 0
        while writer.poll() is None:
            done = logs.rotate(str(path), 64 << 10, 10_000)
            rotations += done.rotated
            lossy = done.rotated and not done.lossless
            if rotations > 3 or lossy:
                writer.stdin.close()
            if lossy:
                pytest.skip("this file system has no FALLOC_FL_COLLAPSE_RANGE")
        count = int(writer.stdout.read())
    text = b"".join(Path(part).read_bytes() for part in logs.parts(str(path)))
    assert text.split() == [b"%d" % number for number in range(count)]


def test_a_small_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    path.write_bytes(b"x" * 5000)
    assert not logs.rotate(str(path), 5000, 5).rotated
    assert logs.parts(str(path)) == [str(path)]


def test_only_so_many_rotated_files_are_kept_and_they_are_read_oldest_first(tmp_path: Path) -> None:
    path = tmp_path / "out.log"
    for letter in b"abcde":
        with path.open("ab") as out:
            out.write(bytes([letter]) * 8192)
        logs.rotate(str(path), 4096, 2)
    parts = logs.parts(str(path))
    assert [Path(p).name for p in parts] == ["out.log.2", "out.log.1", "out.log"]
    assert b"".join(Path(p).read_bytes() for p in parts).endswith(b"e" * 4096)


def test_a_link_in_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"x" * 100_000)
    (tmp_path / "out.log").symlink_to(target)
    with pytest.raises(OSError, match="symbolic link"):
        logs.rotate(str(tmp_path / "out.log"), 10, 5)
    assert target.stat().st_size == 100_000


def test_the_files_of_old_starts_go_with_their_parts(tmp_path: Path) -> None:
    names = ("a.1.log", "a.1.log.1", "a.2.log", "a.9.log", "a.10.log", "a.10.log.1", "b.1.log", "unrelated")
    for name in names:
        (tmp_path / name).touch()
    logs.prune_starts(str(tmp_path / "a.10.log"), 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.10.log", "a.10.log.1", "a.9.log", "b.1.log", "unrelated"]


def test_the_output_of_a_worker_that_is_gone_goes_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    for name in ("a.1.log", "a.2.log", "a.2.log.1", "ab.1.log"):
        (tmp_path / "w" / name).touch()
    LocalHost(str(tmp_path)).remove_logs("w/a.2.log")
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["ab.1.log"]
