"""What a worker says by itself: the words of sd_notify(3) that mean something here.

b"READY=1\\nSTATUS=warm\\nMAINPID=1"   ->   READY        all else is left aside: no word can change whose process it is
"""

from __future__ import annotations

from enum import StrEnum

MAX_BYTES = 4096
"""A longer datagram is none of a program that means well."""


class Word(StrEnum):
    """What can be said."""

    READY = "READY=1"
    WATCHDOG = "WATCHDOG=1"


_WORDS = {word.value.encode(): word for word in Word}


def words(datagram: bytes) -> frozenset[Word]:
    """The words in one datagram."""
    if len(datagram) > MAX_BYTES:
        return frozenset()
    return frozenset(_WORDS[line] for line in datagram.split(b"\n") if line in _WORDS)
