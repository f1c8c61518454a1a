"""Ours and all that can be measured beside it."""

from __future__ import annotations

import peers
from product import Ours
from subject import Subject


def everyone() -> tuple[list[Subject], dict[str, str]]:
    """The subjects there are here, ours first, and why the others are missing."""
    found, left_out = peers.available()
    return [Ours(), *found], left_out
