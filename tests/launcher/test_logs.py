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


def _spares(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / ".spare"))


def test_a_spare_that_stayed_empty_is_lent_to_the_next_task_as_it_is(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    number = logs.choose()
    fd = logs.lend(number)
    assert logs.lend(number) == fd and logs.spare_bytes(number) == 0
    assert logs.take_back(number, reuse=True)
    again = logs.choose()
    assert (again, logs.lend(again), _spares(tmp_path)) == (number, fd, [str(number)])


def test_a_spare_gets_the_name_of_the_log_and_its_writer_goes_on(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    number = logs.choose()
    writer = os.dup(logs.lend(number))
    os.write(writer, b"one\n")
    assert logs.spare_bytes(number) == 4
    logs.name(number, "a/1.log")
    os.write(writer, b"two\n")
    assert (tmp_path / "a/1.log").read_text() == "one\ntwo\n"
    assert (tmp_path / "a/1.log").stat().st_mode & 0o777 == 0o600
    assert _spares(tmp_path) == [] and logs.choose() != number


def test_a_spare_is_not_lent_again_when_its_text_or_its_flags_forbid(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))

    def lent() -> tuple[int, int]:
        number = logs.choose()
        return number, logs.lend(number)

    escaped, _ = lent()
    assert logs.take_back(escaped, reuse=False)
    changed, fd = lent()
    os.set_blocking(fd, False)
    assert logs.take_back(changed, reuse=True)
    written, fd = lent()
    os.write(fd, b"late")
    assert not logs.take_back(written, reuse=True)
    assert _spares(tmp_path) == [str(written)]
    assert logs.choose() not in (escaped, changed, written)


def test_a_log_of_an_earlier_life_becomes_the_older_part_of_one_that_gets_its_name(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    for text in ("first", "second", "third"):
        number = logs.choose()
        os.write(logs.lend(number), text.encode())
        logs.name(number, "1.log")
    assert [(tmp_path / f"1.log{part}").read_text() for part in (".2", ".1", "")] == ["first", "second", "third"]


def test_a_log_is_never_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.log").symlink_to("old.log")
    with pytest.raises(OSError):
        Logs(str(tmp_path)).open("link.log")


def test_spares_survive_directories_that_were_removed_and_do_not_outlive_the_launcher(tmp_path: Path) -> None:
    logs = Logs(str(tmp_path))
    first, second, third = (logs.choose() for _ in range(3))
    logs.lend(first)
    logs.name(first, "a/1.log")
    (tmp_path / "a/1.log").unlink()
    (tmp_path / "a").rmdir()
    os.write(logs.lend(second), b"text")
    logs.name(second, "a/2.log")
    assert (tmp_path / "a/2.log").read_text() == "text"
    logs.lend(third)
    (tmp_path / f".spare/{third}").unlink()
    logs.name(third, "a/3.log")
    assert not (tmp_path / "a/3.log").exists()
    logs.lend(logs.choose())
    Logs(str(tmp_path)).sweep()
    assert _spares(tmp_path) == []


@pytest.mark.parametrize("path", ["/etc/x", "../x", "a/../../x", "a//b", "", ".", "a/.", "a\0b"])
def test_fault_H6_a_path_never_leaves_the_directory(tmp_path: Path, path: str) -> None:
    with pytest.raises(OSError) as refused:
        Logs(str(tmp_path)).open(path)
    assert refused.value.errno == errno.EINVAL
