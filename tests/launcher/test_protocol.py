"""Frames between controller and launcher: cut anywhere, garbled, too long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.launcher.protocol import MAX_FRAME_BYTES, Decoder, FrameError, frame

_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_MESSAGE = st.builds(lambda word, rest: [word, *rest], st.text(max_size=8), st.lists(_VALUE, max_size=4))


@given(st.lists(st.lists(_MESSAGE, max_size=3), max_size=4), st.lists(st.integers(0, 400), max_size=5))
def test_messages_arrive_whole_and_in_order_wherever_the_stream_is_cut(
    frames: list[list[Any]], cuts: list[int]
) -> None:
    stream = b"".join(frame(messages) for messages in frames)
    decoder, at = Decoder(), 0
    got: list[list[Any]] = []
    for cut in [*sorted(cut for cut in cuts if cut <= len(stream)), len(stream)]:
        got += decoder.feed(stream[at:cut])
        at = cut
    assert got == [message for messages in frames for message in messages]


def test_bytes_that_are_no_utf_8_come_back_as_they_were() -> None:
    name = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert list(Decoder().feed(frame([["spawn", name]]))) == [["spawn", name]]


def test_fault_L5_half_a_frame_is_no_message_yet() -> None:
    assert list(Decoder().feed(frame([["list"]])[:-1])) == []


def test_fault_L5_a_length_of_4_gb_ends_the_connection_before_anything_is_kept() -> None:
    with pytest.raises(FrameError, match=f"more than {MAX_FRAME_BYTES}"):
        list(Decoder().feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize(
    "body", [b"{}", b"[1]", b"[[]]", b"[[1]]", b"[", b"\xff", b'["list"]', b"null", b"[" * 100_000]
)
def test_fault_L5_garbage_is_told_from_messages(body: bytes) -> None:
    with pytest.raises(FrameError):
        list(Decoder().feed(len(body).to_bytes(4, "little") + body))


@given(st.binary(max_size=300))
def test_fault_L5_no_bytes_do_anything_but_speak_or_break_the_protocol(data: bytes) -> None:
    try:
        for message in Decoder().feed(data):
            assert isinstance(message[0], str)
    except FrameError:
        return
