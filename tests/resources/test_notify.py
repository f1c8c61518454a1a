"""The words of a worker, out of whatever comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reconciler.resources.notify import MAX_BYTES, Word, words


def test_what_is_known_is_taken_and_all_else_left_aside() -> None:
    assert words(b"STATUS=warm\nREADY=1\nMAINPID=1\nuser=root") == {Word.READY}
    assert words(b"WATCHDOG=1\n") == {Word.WATCHDOG}


def test_a_word_inside_another_is_none() -> None:
    assert words(b"XREADY=1\nREADY=10\nSTATUS=READY=1") == frozenset()


def test_fault_P30_what_is_too_long_says_nothing() -> None:
    assert words(b"READY=1\n" + b"x" * MAX_BYTES) == frozenset()


@given(st.binary(max_size=200))
def test_garbage_is_never_an_error(datagram: bytes) -> None:
    assert words(datagram) <= set(Word)
