"""How many restarts there may be, and when those come that have to wait."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.budget import HostBudget, from_bucket, grant, taken, within_window
from reconciler.resources.restart import RestartBudget
from reconciler.resources.units import from_ms

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NEVER = from_ms(0)


def asked_at_once(count: int, host: HostBudget) -> list[datetime]:
    """When so many restarts come that are all asked for now."""
    full_at, moments = NEVER, []
    for number in range(count):
        at, _ = grant((), None, full_at, host, f"w.{number}", NOW)
        full_at = taken(full_at, host, at)
        moments.append(at)
    return moments


def test_a_thousand_crashed_workers_do_not_come_back_in_one_second() -> None:
    moments = asked_at_once(1000, HostBudget(rate=50, burst=200))

    assert sum(at == NOW for at in moments) == 200
    assert sum(at <= NOW + timedelta(seconds=1) for at in moments) <= 250
    assert NOW + timedelta(seconds=16) <= max(moments) <= NOW + timedelta(seconds=17)
    assert len(set(moments[200:])) == 800, "no two come together"


def test_a_bucket_that_has_rested_is_full_again() -> None:
    host = HostBudget(rate=1, burst=3)
    full_at = NEVER
    for _ in range(3):
        assert from_bucket(full_at, host, NOW) == NOW
        full_at = taken(full_at, host, NOW)
    assert from_bucket(full_at, host, NOW) == NOW + timedelta(seconds=1)
    assert from_bucket(full_at, host, NOW + timedelta(seconds=3)) == NOW + timedelta(seconds=3)


def test_who_has_to_wait_is_told_for_which_budget() -> None:
    budget = RestartBudget.model_validate({"maxRestarts": 1, "window": "1m"})

    at, why = grant((NOW,), budget, NEVER, HostBudget(), "w.1", NOW)

    assert at >= NOW + timedelta(seconds=60)
    assert why == "the restart budget of its pool (1 restart within 1m) is spent"
    assert grant((), budget, NOW + timedelta(hours=1), HostBudget(), "w.1", NOW).why.startswith(
        "the start budget of this"
    )


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 20))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_no_window_ever_has_more_restarts_than_the_pool_may(gaps_s: list[int], most: int, window_s: int) -> None:
    budget = RestartBudget.model_validate({"maxRestarts": most, "window": f"{window_s}s"})
    granted: list[datetime] = []
    now = NOW
    for gap_s in gaps_s:
        now += timedelta(seconds=gap_s)
        granted.append(within_window(granted, budget, now))
    assert granted == sorted(granted)
    for place in range(len(granted) - most):
        assert granted[place + most] - granted[place] >= timedelta(seconds=window_s)
