"""What a source may not do in one go: take most of what it has declared, unless a person has confirmed that.

    prune 2 of 3                 done
    prune 3 of 4, 40 of 70       refused until confirmed: a checkout that went wrong looks like this
    prune all, tree replaced     refused until confirmed: a directory that was re-created is filled a moment later
    replicas 10 -> 1             looked at once more: half a file can be valid

Pure: numbers and decisions in, words out.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.resources.meta import Key, Object
from reconciler.resources.pool import Pool

FEWEST = 3
"""Fewer than these are pruned without a question."""

RETRIES = 5
FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 180.0


def prune_refusal(gone: Sequence[Key], own: int, source: str, replaced: bool = False) -> str:
    """Why these objects, of the `own` that the source has declared, are not pruned; empty when they may be.

    `replaced`: the source's directory is another one than that whose content was applied.
    """
    many = len(gone) >= FEWEST and 2 * len(gone) > own
    if not many and not (replaced and gone and len(gone) == own):
        return ""
    names = ", ".join(str(key) for key in gone[:5]) + (", ..." if len(gone) > 5 else "")
    why = "" if many else "; its directory was removed and made anew, and declares none of them"
    return f"{len(gone)} of the {own} objects of {source} would be pruned: {names}{why}"


def deserves_second_look(old: Object | None, new: Object) -> bool:
    """Whether a change takes away so much that its file is read once more before it counts."""
    if not isinstance(old, Pool) or not isinstance(new, Pool):
        return False
    return 2 * new.changed(status=old.status).replicas < old.replicas


def retry_s(failures: int, for_ever: bool = False) -> float | None:
    """Seconds until what could not be applied `failures` times is tried again; None: not before its content changes."""
    if failures > RETRIES and not for_ever:
        return None
    return float(min(FIRST_RETRY_S * 2.0 ** min(failures - 1, 10), LONGEST_RETRY_S))
