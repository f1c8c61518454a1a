"""Log files: below their directory, appended to, and reused only when nobody can write to them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.launcher.logs import Logs


def _write(logs: Logs, path: str, text: str) -> None:
    fd = logs.open(path)
    os.write(fd, text.encode())
    os.close(fd)


def test_a_log_is_appended_to_and_its_directories_are_made(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    _write(logs, "batch/00/1.log", "one\n")
    _write(logs, "batch/00/1.log", "two\n")
    assert (tmp_path / "batch/00/1.log").read_text() == "one\ntwo\n"
    assert logs.size_bytes("batch/00/1.log") == 8


def test_an_empty_log_is_given_to_the_next_task_and_shows_under_its_name_only(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    os.close(logs.open("a/1.log"))
    inode = (tmp_path / "a/1.log").stat().st_ino
    logs.drop("a/1.log", reuse=True)
    assert not (tmp_path / "a/1.log").exists()
    _write(logs, "b/2.log", "text")
    assert (tmp_path / "b/2.log").read_text() == "text"
    assert (tmp_path / "b/2.log").stat().st_ino == inode
    assert (tmp_path / "b/2.log").stat().st_mode & 0o777 == 0o600


def test_what_somebody_may_still_write_to_is_removed_and_not_reused(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    fd = logs.open("1.log")
    logs.drop("1.log", reuse=False)
    os.write(fd, b"late")
    _write(logs, "2.log", "text")
    os.close(fd)
    assert (tmp_path / "2.log").read_text() == "text"


def test_a_spare_never_takes_the_place_of_a_log_that_is_there(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    _write(logs, "old.log", "old\n")
    os.close(logs.open("1.log"))
    logs.drop("1.log", reuse=True)
    _write(logs, "old.log", "new\n")
    assert (tmp_path / "old.log").read_text() == "old\nnew\n"
    (tmp_path / "link.log").symlink_to("old.log")
    with pytest.raises(OSError):
        logs.open("link.log")


def test_spares_work_across_directories_that_were_removed_and_do_not_outlive_the_launcher(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    for name in ("1.log", "2.log"):
        os.close(logs.open(f"a/{name}"))
    for name in ("1.log", "2.log"):
        logs.drop(f"a/{name}", reuse=True)
    (tmp_path / "a").rmdir()
    _write(logs, "a/3.log", "text")
    assert (tmp_path / "a/3.log").read_text() == "text"
    Logs(str(tmp_path))
    assert os.listdir(tmp_path / ".spare") == []


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "", ".", "a/.", "a\0b"])
def test_fault_H6_a_path_never_leaves_the_directory(tmp_path: Path, path: str) -> None:
    with pytest.raises(OSError) as refused:
        Logs(str(tmp_path)).open(path)
    assert refused.value.errno == errno.EINVAL
