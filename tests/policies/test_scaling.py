"""How many a pool shall have: the band and the steps of the backlog, the target of the CPU, and never too hasty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.scaling import STEP_S, WINDOW_S, Decision, Seen, decide
from reconciler.resources.autoscale import Autoscale, Wanted

NOW = datetime(2026, 11, 24, tzinfo=UTC)
BACKLOG = Autoscale(min=2, max=64)
CPU = Autoscale.model_validate({"min": 1, "max": 40, "metrics": [{"type": "CPU", "target": 70}]})


def seen(
    current: int, pending: int | None = None, running: int = 0, cpu: float | None = None, host: float | None = None
) -> Seen:
    return Seen(current, running, pending, cpu, host)


def decided(scale: Autoscale, look: Seen, ago_s: float = STEP_S) -> Decision:
    return decide(scale, NOW - timedelta(seconds=ago_s), (), look, NOW)


def after(scale: Autoscale, look: Seen, ago_s: float = STEP_S) -> int:
    step = decided(scale, look, ago_s).step
    return look.current if step is None else step.slots


@pytest.mark.parametrize(
    ("current", "pending", "then"),
    [
        (4, 8, 4),  # not more than twice
        (4, 9, 9),  # + ceil(9 / 2)
        (4, 100, 54),
        (4, 1000, 64),  # never beyond max
        (4, 2, 4),  # not less than half
        (4, 1, 2),  # - ceil(4 / 2)
        (9, 4, 4),  # - ceil(9 / 2)
        (3, 0, 2),  # never below min
        (64, 0, 32),
    ],
)
def test_the_backlog_moves_it_by_exactly_these_steps(current: int, pending: int, then: int) -> None:
    assert after(BACKLOG, seen(current, pending)) == then


def test_why_it_moved_is_said() -> None:
    step = decided(BACKLOG, seen(4, 9)).step
    assert step is not None and step.why == "9 tasks wait, more than 2 x 4"


def test_what_runs_is_never_taken_away() -> None:
    assert after(BACKLOG, seen(16, 0, running=13)) == 13
    assert after(BACKLOG, seen(16, 0, running=16)) == 16


def test_a_second_step_waits_and_is_planned_for_the_moment_when_it_may_come() -> None:
    held = decided(BACKLOG, seen(4, 100), ago_s=5)

    assert held.step is None and held.look_at == NOW + timedelta(seconds=10)


def test_from_none_to_one_at_once_when_work_waits() -> None:
    none = Autoscale(min=0, max=8)
    assert after(none, seen(0, 1), ago_s=0.1) == 1
    assert after(none, seen(0, 0)) == 0
    assert after(none, seen(0, 500, host=99.0), ago_s=0.1) == 1


def test_a_pool_at_rest_is_not_looked_at_until_something_comes() -> None:
    assert decided(BACKLOG, seen(2, 0)).look_at is None
    assert decided(BACKLOG, seen(4, 3)).look_at is not None
    assert decided(CPU, seen(1, cpu=0.0)).look_at is not None


def test_other_bounds_hold_at_once() -> None:
    assert after(BACKLOG, seen(0, 0), ago_s=0.1) == 2
    assert after(BACKLOG, seen(80, 0, running=80), ago_s=0.1) == 64
    assert after(BACKLOG, seen(1, 0, host=95.0), ago_s=0.1) == 2


def test_it_does_not_grow_on_a_busy_host_and_says_so() -> None:
    held = decided(BACKLOG, seen(4, 100, host=80.0))

    assert held.step is None
    assert held.held == "stays at 4: the host's CPU is at 80 %; 54 would be had: 100 tasks wait, more than 2 x 4"
    assert after(BACKLOG, seen(4, 100, host=79.9)) == 54
    assert after(BACKLOG, seen(16, 0, host=95.0)) == 8, "to shrink is no harm"


@pytest.mark.parametrize(
    ("current", "cpu", "then"),
    [
        (4, 4 * 77.0, 4),  # within 10 %
        (4, 4 * 78.0, 5),
        (4, 4 * 140.0, 8),
        (2, 2 * 500.0, 6),  # at most 4 more
        (10, 10 * 500.0, 20),  # at most twice as many
        (4, None, 4),
    ],
)
def test_the_cpu_moves_it_towards_its_target(current: int, cpu: float | None, then: int) -> None:
    assert after(CPU, seen(current, cpu=cpu)) == then


def test_it_shrinks_only_when_nothing_more_was_wanted_for_the_whole_window() -> None:
    at: datetime | None = None
    lately: tuple[Wanted, ...] = ()
    current, steps = 8, []
    for second in range(0, 900, 15):
        now = NOW + timedelta(seconds=second)
        decision = decide(CPU, at, lately, seen(current, cpu=8 * 70.0 if second == 120 else 2 * 70.0), now)
        lately = decision.wanted
        if decision.step is not None:
            current, at = decision.step.slots, now
            steps.append((second, current))

    assert steps == [(120 + WINDOW_S, 2)]


def test_what_is_not_known_takes_nothing_away_and_hinders_no_growth() -> None:
    both = Autoscale.model_validate(
        {"min": 1, "max": 64, "metrics": [{"type": "Backlog"}, {"type": "CPU", "target": 70}]}
    )
    assert after(both, seen(16, 0, cpu=None)) == 16
    assert after(both, seen(4, 100, cpu=None)) == 54
    assert after(both, seen(4, 0, cpu=4 * 140.0)) == 8, "the one that wants most decides"


def test_a_clock_that_was_set_back_does_not_hold_it_for_long() -> None:
    assert after(BACKLOG, seen(4, 100), ago_s=-3600) == 54


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    low=st.integers(0, 20),
    more=st.integers(0, 60),
    current=st.integers(0, 100),
    pending=st.integers(0, 1000),
    share=st.floats(0, 1),
    host=st.one_of(st.none(), st.floats(0, 100)),
    ago_s=st.integers(1, 60),
)
def test_it_keeps_its_bounds_and_the_definition(
    low: int, more: int, current: int, pending: int, share: float, host: float | None, ago_s: float
) -> None:
    scale = Autoscale(min=low, max=max(1, low + more))
    running = round(share * current)
    then = after(scale, seen(current, pending, running, host=host), ago_s)

    if scale.min <= current <= scale.max:
        assert scale.min <= then <= scale.max
        if then > current:
            assert pending > 2 * current
            assert then == (max(1, low) if current == 0 else current + min(ceil(pending / 2), scale.max - current))
            assert current == 0 or ((host is None or host < 80) and ago_s >= STEP_S)
        if then < current:
            assert pending < current / 2 and ago_s >= STEP_S and then >= running
            assert then == max(running, current - min(ceil(current / 2), current - scale.min))
    else:
        assert then in (scale.min, scale.max) or scale.min < then < scale.max


def test_a_steady_load_does_not_make_it_flap() -> None:
    """Slots that end a task a second each, and tasks that come at a steady pace: it settles, and stays."""
    scale, at, current, pending, moved = Autoscale(min=4, max=64), None, 4, 0.0, []
    for second in range(3600):
        pending = max(0.0, pending + 20 - current)
        now = NOW + timedelta(seconds=second)
        step = decide(scale, at, (), seen(current, round(pending), min(current, 20)), now).step
        if step is not None:
            current, at = step.slots, now
            moved.append(second)
    assert current >= 20 and all(b - a >= STEP_S for a, b in pairwise(moved))
    assert [second for second in moved if second > 1800] == []
