"""Durations, sizes and moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.resources import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10.0), ("5m", 300.0), ("1h30m", 5400.0), ("7d", 604800.0), ("1.5s", 1.5), ("0s", 0.0)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize(
    "value", ["", "s", "10", "10 s", "-1s", "1e3s", "10S", "1w", "٣s", "1s ", None, True, [], 10, 1.5]
)
def test_anything_else_is_no_duration_and_the_help_says_what_to_write(value: object) -> None:
    with pytest.raises(units.BadValue) as caught:
        units.duration_s(value)

    assert caught.value.rule == "duration"
    assert "s" in caught.value.help


def test_a_bare_number_is_answered_with_the_words_to_write() -> None:
    with pytest.raises(ValueError, match=r"write 30s \(or ms, m, h, d\)"):
        units.duration_s(30)
    with pytest.raises(ValueError, match=r"write 512Mi \(or Ki, Gi\)"):
        units.size_bytes("512")


def test_more_than_ten_years_is_refused() -> None:
    assert units.duration_s("3650d") == units.LONGEST_S
    with pytest.raises(ValueError, match="ten years"):
        units.duration_s("3651d")
    with pytest.raises(ValueError, match="expected a duration"):
        units.duration_s("9" * 5000 + "d")


@settings(derandomize=True)
@given(st.integers(0, int(units.LONGEST_S) * 1000))
def test_a_duration_comes_back_from_its_text_to_the_millisecond(milliseconds: int) -> None:
    seconds = milliseconds / 1000

    assert units.duration_s(units.format_duration(seconds)) == pytest.approx(seconds, abs=1e-4)
    assert units.format_duration(units.duration_s(units.format_duration(seconds))) == units.format_duration(seconds)


@pytest.mark.parametrize(
    ("text", "count"), [("512Mi", 512 << 20), ("1Gi", 1 << 30), ("1G", 10**9), ("2k", 2000), ("0", 0), ("3Ti", 3 << 40)]
)
def test_a_size_is_read_in_bytes(text: str, count: int) -> None:
    assert units.size_bytes(text) == count


@pytest.mark.parametrize(
    "value", ["", "Mi", "10", "10MB", "1.5Gi", "-1Mi", "10 Mi", None, 10, True, "9999Ti", "1" * 5000]
)
def test_anything_else_is_no_size(value: object) -> None:
    with pytest.raises(units.BadValue) as caught:
        units.size_bytes(value)

    assert caught.value.rule == "size"


@settings(derandomize=True)
@given(st.integers(0, 9000), st.sampled_from(["Ki", "Mi", "Gi", "k", "M", "G", "T"]))
def test_a_size_comes_back_from_its_text_exactly(number: int, unit: str) -> None:
    count = units.size_bytes(f"{number}{unit}")

    assert units.size_bytes(units.format_size(count)) == count


@settings(derandomize=True)
@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_a_moment_comes_back_from_its_text_and_its_number_to_the_millisecond(at: datetime) -> None:
    whole = at.replace(microsecond=at.microsecond // 1000 * 1000)

    assert units.moment(units.format_moment(at)) == whole
    assert units.from_ms(units.to_ms(at)) == whole


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        units.moment("2026-11-23T18:10:00")


def test_what_a_message_shows_of_a_long_value_is_short() -> None:
    assert len(units.shown("x" * 10**6)) < 80
