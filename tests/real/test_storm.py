"""Tasks under kill -9 of everybody, all the time: each acknowledged one ends once, and what is recorded stays done."""

from __future__ import annotations

import random

import pytest

from tests.real.house import House, orphans_are_reaped
from tests.real.storm import Storm, Weather

MANY = pytest.param(50_000, Weather(0.3, 5.0), 3600.0, marks=pytest.mark.long)
FEW = pytest.param(150, Weather(0.15, 1.0), 120.0)


@pytest.mark.parametrize(("count", "weather", "within_s"), [FEW, MANY])
@pytest.mark.parametrize(("mode", "slots"), [("PerTask", 8), ("Warm", 4)])
def test_fault_C1_every_acknowledged_task_ends_once_whoever_is_killed(
    house: House, mode: str, slots: int, count: int, weather: Weather, within_s: float
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    storm = Storm(house, mode, slots, count, seed)
    with orphans_are_reaped():
        storm.rage(weather, within_s)
        print(storm.judge())
        storm.assert_settled()
