"""Sentences with numbers in them read as people write them."""

from __future__ import annotations

import pytest

from reconciler.resources.units import rough_duration
from reconciler.resources.words import are, in_a_row, many


def test_one_is_not_many() -> None:
    assert [many(number, "task") for number in (0, 1, 2)] == ["0 tasks", "1 task", "2 tasks"]
    assert [are(number, "worker") for number in (1, 2)] == ["1 worker is", "2 workers are"]
    assert [in_a_row(number) for number in (1, 2)] == ["once", "2 times in a row"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.031, "31ms"),
        (0.9999, "1s"),
        (2.031, "2s"),
        (2.25, "2.2s"),
        (9.97, "10s"),
        (61.4, "1m1s"),
        (3725, "1h2m"),
    ],
)
def test_what_is_measured_is_told_as_exactly_as_anybody_wants_to_know(seconds: float, text: str) -> None:
    assert rough_duration(seconds) == text
