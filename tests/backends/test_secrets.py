"""Secrets are read where they are named, and an error never says what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconciler.backends.secrets import SecretError, file_of_variables, value
from reconciler.resources.environment import ValueFrom


def test_a_file_gives_its_text_without_the_newline_at_its_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("two\nlines\n")
    assert value(ValueFrom(file=str(tmp_path / "key")), {}) == "two\nlines"


def test_a_credential_is_a_file_that_systemd_has_made(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret")
    assert value(ValueFrom(credential="key"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "s3cret"
    with pytest.raises(SecretError, match="systemd unit"):
        value(ValueFrom(credential="key"), {})


def test_the_environment_of_up_is_another_place() -> None:
    assert value(ValueFrom(env="KEY"), {"KEY": "s3cret"}) == "s3cret"
    with pytest.raises(SecretError, match="has no KEY"):
        value(ValueFrom(env="KEY"), {})


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="No such file"):
        value(ValueFrom(file=str(tmp_path / "none")), {})
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(SecretError, match="no regular file"):  # and is not waited for
        value(ValueFrom(file=str(tmp_path / "fifo")), {})
    (tmp_path / "nul").write_bytes(b"a\0b")
    with pytest.raises(SecretError, match="NUL"):
        value(ValueFrom(file=str(tmp_path / "nul")), {})
    (tmp_path / "huge").write_bytes(b"x" * 200_000)
    with pytest.raises(SecretError, match="131071"):
        value(ValueFrom(file=str(tmp_path / "huge")), {})


def test_a_file_of_variables_has_lines_comments_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "web.env"
    path.write_text("# of the shop\n\nexport A=1\nB=\"two words\"\nC='x=y'\nD=\n")
    assert file_of_variables(str(path)) == {"A": "1", "B": "two words", "C": "x=y", "D": ""}


def test_a_line_that_makes_no_sense_is_named_by_its_number_only(tmp_path: Path) -> None:
    path = tmp_path / "web.env"
    path.write_text("A=1\nthe s3cret itself\n")
    with pytest.raises(SecretError) as caught:
        file_of_variables(str(path))
    assert caught.value.text == f"{path}:2 is no NAME=value"
