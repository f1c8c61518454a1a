"""What an operator sets over the word of a source, as `--override[=DURATION]` of `scale` and `rollout undo` says it. Pure.

None      refused where a source declares the field
""        until the source declares another value for it
"1h"      as "", but no longer than this
"0s"      ends the override that stands
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from reconciler.api.requests import duration
from reconciler.errors import Refused
from reconciler.resources import overrides
from reconciler.resources.pool import Pool
from reconciler.resources.units import format_moment, from_ms, to_ms


def ends(override: str | None) -> bool:
    """Whether it asks for the end of an override. Raises Invalid for what is no duration."""
    return bool(override) and duration(override or "", "override") == 0


def without(pool: Pool, path: str) -> Pool:
    """The pool with the declared value of that field again. Raises Refused when it is not overridden."""
    if path not in pool.metadata.overrides:
        raise Refused(f"{path} of {pool.key} is not overridden", f"reconciler describe {pool.key} says what is")
    return overrides.ended(pool, path)


def over(pool: Pool, path: str, value: Any, override: str, now: datetime) -> Pool:
    """The pool with that value over the declared one."""
    if not override:
        return overrides.overridden(pool, path, value, "")
    until = format_moment(from_ms(to_ms(now) + round(1000 * duration(override, "override"))))
    return overrides.overridden(pool, path, value, until)
