"""The largest tokens, in a file beside the store."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from reconciler.coordination.tokens import TokenFile
from reconciler.store.base import StoreFull


def given(file: TokenFile, lock: str, token: int) -> None:
    file.given(lock, token)
    file.save()


def test_fault_C34_what_was_given_is_known_to_the_next_life_whatever_the_store_says(tmp_path: Path) -> None:
    path = tmp_path / "lock-tokens"
    first = TokenFile(path)
    given(first, "db", 3)
    given(first, "ui", 1)
    given(first, "db", 4)
    first.given("db", 9)  # never saved: never left

    second = TokenFile(path)
    assert (second.floor("db"), second.floor("ui"), second.floor("other")) == (4, 1, 0)


def test_fault_K7_a_torn_last_line_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "lock-tokens"
    path.write_text("db 7\nui 12\ndb 123456")

    file = TokenFile(path)
    assert file.floor("db") == 7
    given(file, "x", 1)
    given(file, "db", 8)
    assert {name: TokenFile(path).floor(name) for name in ("db", "ui", "x")} == {"db": 8, "ui": 12, "x": 1}


def test_every_prefix_of_the_file_gives_tokens_that_were_given(tmp_path: Path) -> None:
    path = tmp_path / "lock-tokens"
    file = TokenFile(path)
    for token in range(1, 120):
        given(file, "db", token)
    whole = path.read_bytes()

    seen = []
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        seen.append(TokenFile(path).floor("db"))
    assert seen == sorted(seen) and seen[-1] == 119 and set(seen) == set(range(120))


def test_a_smaller_token_lowers_nothing(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "lock-tokens")
    given(file, "db", 5)
    given(file, "db", 2)

    assert TokenFile(tmp_path / "lock-tokens").floor("db") == 5


def test_a_file_that_grows_is_written_anew_with_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.coordination.tokens.LONGEST_BYTES", 60)
    file = TokenFile(tmp_path / "lock-tokens")
    for token in range(1, 100):
        given(file, "db", token)
        assert TokenFile(tmp_path / "lock-tokens").floor("db") == token

    assert os.stat(tmp_path / "lock-tokens").st_size < 80


def test_a_file_that_was_deleted_is_made_whole_again(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "lock-tokens")
    given(file, "db", 5)
    (tmp_path / "lock-tokens").unlink()
    given(file, "ui", 1)

    assert TokenFile(tmp_path / "lock-tokens").floor("db") == 5


def test_on_a_full_disk_no_token_leaves_and_it_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = TokenFile(tmp_path / "lock-tokens")
    given(file, "db", 5)

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        file.given("db", 6)
        with pytest.raises(StoreFull, match="lock-tokens: No space left"):
            file.save()
    file.save()
    assert TokenFile(tmp_path / "lock-tokens").floor("db") == 6
