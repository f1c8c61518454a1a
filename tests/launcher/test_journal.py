"""The launcher's journal: what survives a cut, a full disk and a compaction."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from reconciler.launcher.journal import COMPACT_AT_BYTES, NAME, Journal, read


def _open(directory: Path) -> Journal:
    journal = Journal(str(directory))
    journal.compact([["head", 1, "boot", 0]])
    return journal


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.append([["intent", "a"], ["pid", "ä\udcff"]])
    journal.append([["exit", 1]])
    assert read(str(tmp_path), pytest.fail) == [
        ["head", 1, "boot", 0],
        ["intent", "a"],
        ["pid", "ä\udcff"],
        ["exit", 1],
    ]


def test_a_file_that_never_was_has_no_records(tmp_path: Path) -> None:
    assert read(str(tmp_path), pytest.fail) == []


def test_a_torn_last_line_is_ignored_wherever_it_is_torn(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.append([["intent", "a"], ["exit", 1, {"code": 0}]])
    path = tmp_path / NAME
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        assert len(read(str(tmp_path), pytest.fail)) == whole[:cut].count(b"\n")


def test_a_garbled_line_in_the_middle_is_reported_and_the_rest_is_kept(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.append([["intent", "a"]])
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes() + b"\x00\xff garbage\n[]\n" + b'[["exit",1]]\n')
    told: list[str] = []
    assert read(str(tmp_path), told.append)[1:] == [["intent", "a"], ["exit", 1]]
    assert [line.split(": ")[0] for line in told] == [f"{path}:3", f"{path}:4"]


def test_a_compaction_replaces_the_file_in_one_step_and_appending_goes_on(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.append([["intent", "a" * COMPACT_AT_BYTES]])
    assert journal.full()
    journal.compact([["head", 1, "boot", 7]])
    assert not journal.full()
    journal.append([["exit", 8]])
    assert read(str(tmp_path), pytest.fail) == [["head", 1, "boot", 7], ["exit", 8]]
    assert os.listdir(tmp_path) == [NAME]


def test_the_journal_is_for_its_owner_only(tmp_path: Path) -> None:
    _open(tmp_path)
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600


def test_a_write_that_did_not_fit_leaves_no_half_record(tmp_path: Path) -> None:
    journal = _open(tmp_path)
    journal.append([["intent", "a"]])
    before = (tmp_path / NAME).read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
    try:
        with pytest.raises(OSError):
            journal.append([["intent", "b" * 100]])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / NAME).read_bytes() == before
    assert journal.behind
    journal.compact([["head", 1, "boot", 0], ["intent", "a"]])
    assert not journal.behind
