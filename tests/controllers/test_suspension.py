"""Which running tasks stand still so that others run: the best have the slots."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.controllers.base import Begun, Suspension
from reconciler.controllers.suspension import Moves, moves


def seen(*begun: tuple[int, bool], waiting: tuple[int, ...] = (), demotes: bool = True) -> Suspension:
    """Running tasks 1, 2, ... by level and whether they stand still; the levels of what waits."""
    tasks = [Begun(number, level, suspended) for number, (level, suspended) in enumerate(begun, 1)]
    return Suspension(demotes, tasks, sorted(waiting), (), 0)


RUNS, STILL = False, True


@pytest.mark.parametrize(
    ("what", "slots", "stop", "go"),
    [
        (seen((1, RUNS)), 1, (), ()),
        (seen((1, RUNS), waiting=(0,)), 1, (1,), ()),
        (seen((1, RUNS), waiting=(1,)), 1, (), ()),
        (seen((0, RUNS), (2, RUNS), (1, RUNS), waiting=(0,)), 3, (2,), ()),
        (seen((0, RUNS), (2, RUNS), (1, RUNS), waiting=(0,)), 4, (), ()),
        (seen((1, STILL), (0, RUNS)), 1, (), ()),
        (seen((1, STILL), (0, RUNS)), 2, (), (1,)),
        (seen((1, STILL), waiting=(1, 1, 1)), 1, (), (1,)),
        (seen((2, STILL), waiting=(1,)), 1, (), ()),
        (seen((0, STILL), (1, RUNS)), 1, (2,), (1,)),
        (seen((1, RUNS), (1, RUNS)), 1, (2,), ()),
    ],
)
def test_the_highest_levels_have_the_slots_and_what_has_begun_goes_before_what_waits(
    what: Suspension, slots: int, stop: tuple[int, ...], go: tuple[int, ...]
) -> None:
    assert moves(what, slots) == Moves(stop, go)


def test_nothing_stands_still_for_a_policy_that_stops_nobody_or_a_pool_without_slots() -> None:
    begun = ((1, STILL), (0, RUNS), (2, STILL))
    assert moves(seen(*begun, waiting=(0,), demotes=False), 1) == Moves((), (1, 3))
    assert moves(seen(*begun, waiting=(0,)), 0) == Moves((), (1, 3))


levels = st.integers(0, 3)


@given(st.lists(st.tuples(levels, st.booleans()), max_size=8), st.lists(levels, max_size=5), st.integers(1, 6))
def test_after_the_moves_there_is_nothing_more_to_do_and_no_slot_is_wasted(
    begun: list[tuple[int, bool]], waiting: list[int], slots: int
) -> None:
    before = seen(*begun, waiting=tuple(waiting))
    stop, go = moves(before, slots)
    after = [
        task._replace(suspended=(task.suspended or task.id in stop) and task.id not in go) for task in before.begun
    ]

    assert moves(before._replace(begun=after), slots) == Moves((), ())
    active = [task.level for task in after if not task.suspended]
    still = [task.level for task in after if task.suspended]
    assert len(active) <= slots
    assert not still or len(active) + len(waiting) >= slots
    if active and still:
        assert max(active) <= min(still)
