"""Durations, sizes and moments as people write them.

    500ms 10s 5m 1h30m 7d      ->  seconds (float)
    512Mi 1Gi 1G               ->  bytes (int)
    2026-11-23T18:10:00.000Z   ->  aware datetime, UTC

A bare number is refused with the words to write instead: nobody can tell seconds from milliseconds by looking at `30`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d{1,15}(?:\.\d{1,15})?(?:ms|s|m|h|d)){1,10}", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_DURATIONS = "write it as 500ms, 10s, 5m, 1h30m or 7d"
_SIZE = re.compile(r"(\d{1,20})(Ki|Mi|Gi|Ti|k|M|G|T)?", re.ASCII)
_UNITS_BYTES = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
LONGEST_S = 10 * 365 * 86400.0
"""Ten years: longer than any wait that is meant, short enough to stay a valid moment."""
LARGEST_BYTES = 2**53
"""More than any disk has, and a number that JSON carries without loss."""


LEAST_CPU_MILLI, MOST_CORES = 10, 10_000
"""The kernel takes no quota below a millisecond in each tenth of a second."""


class BadValue(ValueError):
    """A value that cannot be meant; `rule` names the mistake, `help` says what to write."""

    def __init__(self, rule: str, message: str, help: str) -> None:
        super().__init__(f"{message} ({help})")
        self.rule, self.message, self.help = rule, message, help


def duration_s(value: Any) -> float:
    """Seconds of a duration such as `1h30m`. Raises BadValue, whose help says what to write."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise BadValue("duration", f"a duration needs its unit, got {value}", f"write {value}s (or ms, m, h, d)")
    if not isinstance(value, str):
        raise BadValue("duration", f"expected a duration, got {shown(value)}", _DURATIONS)
    return _seconds(value)


@lru_cache(4096)  # a thousand pools say 30s and 1m, again and again
def _seconds(value: str) -> float:
    if not _DURATION.fullmatch(value):
        if re.fullmatch(r"\d+(\.\d+)?", value, re.ASCII):
            raise BadValue("duration", f"a duration needs its unit, got {value!r}", f"write {value}s (or ms, m, h, d)")
        raise BadValue("duration", f"expected a duration, got {shown(value)}", _DURATIONS)
    # to the millisecond, which is what `format_duration` keeps: what was stored equals what was declared
    total = round(sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(value)), 3)
    if total > LONGEST_S:
        raise BadValue("duration", f"{shown(value)} is longer than ten years", "write at most 3650d")
    return total


def format_duration(seconds: float) -> str:
    """The shortest way to write a duration: 90.0 -> `1m30s`, 0.5 -> `500ms`, 0 -> `0s`."""
    left_ms = round(seconds * 1000)
    if left_ms == 0:
        return "0s"
    parts = []
    for unit, size_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, left_ms = divmod(left_ms, size_ms)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def rough_duration(seconds: float) -> str:
    """What was measured, as exactly as a person wants to know: 2.031 -> `2s`, 3725 -> `1h2m`."""
    if round(seconds, 3) < 1:
        return format_duration(seconds)
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    return format_duration(round(seconds) if seconds < 3600 else round(seconds / 60) * 60)


def size_bytes(value: Any) -> int:
    """Bytes of a size such as `512Mi`. Raises BadValue, whose help says what to write."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise BadValue("size", f"a size needs its unit, got {value}", f"write {value}Mi (or Ki, Gi)")
    examples = "write it as 64Ki, 10Mi or 1Gi"
    if not isinstance(value, str):
        raise BadValue("size", f"expected a size, got {shown(value)}", examples)
    found = _SIZE.fullmatch(value)
    if found is None:
        raise BadValue("size", f"expected a size, got {shown(value)}", examples)
    number, unit = found.groups()
    if unit is None and int(number):
        raise BadValue("size", f"a size needs its unit, got {value!r}", f"write {number}Mi (or Ki, Gi)")
    total = int(number) * _UNITS_BYTES[unit or ""]
    if total > LARGEST_BYTES:
        raise BadValue("size", f"{shown(value)} is more than 8192Ti", "write less")
    return total


def format_size(count: int) -> str:
    """The shortest exact way to write a size: 10485760 -> `10Mi`."""
    for unit in ("Ti", "Gi", "Mi", "Ki", "T", "G", "M", "k"):
        if count and count % _UNITS_BYTES[unit] == 0:
            return f"{count // _UNITS_BYTES[unit]}{unit}"
    return str(count)


def cpu_milli(value: Any) -> int:
    """Thousandths of a core, of `500m` or 0.5. Raises BadValue, whose help says what to write."""
    help = "write it as 500m (thousandths of a core), 0.5 or 2"
    if isinstance(value, int | float) and not isinstance(value, bool):
        total = round(value * 1000) if 0 < value <= MOST_CORES else 0
    elif isinstance(value, str) and re.fullmatch(r"\d{1,9}m", value, re.ASCII):
        total = int(value[:-1])
    else:
        raise BadValue("cpu", f"expected a share of the CPU, got {shown(value)}", help)
    if not LEAST_CPU_MILLI <= total <= MOST_CORES * 1000:
        raise BadValue("cpu", f"{shown(value)} is not within {LEAST_CPU_MILLI}m and {MOST_CORES} cores", help)
    return total


def umask(value: Any) -> str:
    """Four octal digits, of "027" or "0027". Raises BadValue, whose help says what to write."""
    if not isinstance(value, str) or not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII):
        raise BadValue("umask", f"expected three octal digits in quotes, got {shown(value)}", 'write it as "027"')
    return value.zfill(4)


def moment(value: Any) -> datetime:
    """An aware datetime, from one or from RFC 3339 text. Raises ValueError."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a moment needs its time zone: write 2026-11-23T18:10:00Z")
        return value.astimezone(UTC)
    if not isinstance(value, str):
        raise ValueError(f"expected a moment such as 2026-11-23T18:10:00Z, got {shown(value)}")
    try:
        return moment(datetime.fromisoformat(value))
    except ValueError as error:
        if "time zone" in str(error):
            raise
        raise ValueError(f"expected a moment such as 2026-11-23T18:10:00Z, got {value!r}") from None


def format_moment(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-11-23T18:10:00.000Z`."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat(timespec="milliseconds")[:-6] + "Z"


def to_ms(at: datetime) -> int:
    """Milliseconds since 1970: the form in which moments are kept in tables and sent between processes."""
    return (at - _EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """The moment that `to_ms` made a number of."""
    return _EPOCH + timedelta(milliseconds=ms)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def shown(value: Any) -> str:
    """A value as a message names it; long ones are cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a map"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}... ({len(text)} characters)"


Duration = Annotated[
    float,
    BeforeValidator(duration_s),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema(
        {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$", "examples": ["500ms", "10s", "1h30m"]}
    ),
]
"""Seconds in the code, `1h30m` in a manifest."""

Size = Annotated[
    int,
    BeforeValidator(size_bytes),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^([0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)|0)$", "examples": ["10Mi", "1Gi"]}),
]
"""Bytes in the code, `512Mi` in a manifest."""

Cpu = Annotated[
    int,
    BeforeValidator(cpu_milli),
    PlainSerializer(lambda milli: f"{milli}m", return_type=str, when_used="json"),
    WithJsonSchema({"type": ["string", "number"], "pattern": r"^[0-9]{1,9}m$", "examples": ["500m", 0.5, 2]}),
]
"""Thousandths of a core in the code, `500m` or 0.5 in a manifest."""

Umask = Annotated[
    str,
    BeforeValidator(umask),
    WithJsonSchema({"type": "string", "pattern": "^0?[0-7]{3}$", "examples": ["027"]}),
]
"""Octal digits."""

Moment = Annotated[
    datetime,
    BeforeValidator(moment),
    PlainSerializer(format_moment, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An aware UTC datetime in the code, RFC 3339 with milliseconds outside."""

Signal = Annotated[
    str,
    Field(pattern=r"^SIG(HUP|INT|QUIT|KILL|USR1|USR2|TERM|CONT|STOP|WINCH|ALRM|ABRT|PIPE|TTIN|TTOU|TSTP|IO|PWR)$"),
]
"""A signal by its full name, SIGTERM."""
