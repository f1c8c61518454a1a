"""Bands and aging against their definition written down plainly: filter, sort, take the first."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.ordering.priority import Priority
from reconciler.resources.scheduling import Aging, Bands
from tests.policies.ordering.model import Task

BANDS = Bands()


def first_by_definition(live: dict[int, Task], waiting: set[int], point_ms: float) -> int:
    """The head of each line, and of those the first: the highest, or with aging the one with the least `age`."""
    high = {p: [i for i in waiting if live[i].priority == p] for p in range(200, 256)}
    lines = [*reversed(high.values()), [i for i in waiting if 100 <= live[i].priority < 200]]
    lines.append([i for i in waiting if live[i].priority < 100])
    heads = [min(line) for line in lines if line]
    if not point_ms:
        return heads[0]
    return min(heads, key=lambda i: (live[i].submitted_ms - live[i].priority * point_ms, i))


steps = st.lists(
    st.one_of(st.integers(0, 255), st.just("take"), st.just("cancel"), st.just("back")), min_size=1, max_size=60
)


@given(steps, st.sampled_from([0.0, 1.0, 30.0]))
@settings(max_examples=150, derandomize=True, deadline=None)
def test_the_first_is_always_the_one_that_the_definition_names(steps: list[int | str], every_s: float) -> None:
    live: dict[int, Task] = {}
    aging = Aging.model_validate({"every": f"{every_s:g}s"}) if every_s else None
    order = Priority(live, BANDS, aging)
    waiting: set[int] = set()
    taken: list[int] = []
    for step in steps:
        if isinstance(step, int):
            number = len(live) + 1
            live[number] = Task(submitted_ms=number * 700, priority=step)
            order.add(number)
            waiting.add(number)
        elif step == "back" and taken:
            waiting.add(taken[-1])
            order.put_back(taken.pop())
        elif step == "cancel" and waiting:
            order.discard(max(waiting))
            waiting.remove(max(waiting))
        elif step == "take" and waiting:
            (first,) = order.peek(1)
            assert first == first_by_definition(live, waiting, every_s * 1000)
            order.take(first)
            taken.append(first)
            waiting.remove(first)
        assert len(order) == len(waiting) and set(order) == waiting
    expected = []
    ahead = order.peek(len(waiting))
    while waiting:
        expected.append(first_by_definition(live, waiting, every_s * 1000))
        waiting.remove(expected[-1])
    assert ahead == expected


def test_the_urgent_go_by_priority_and_the_rest_in_the_order_of_submission() -> None:
    live = {n: Task(n, p) for n, p in enumerate([50, 150, 100, 210, 255, 199, 210, 0], 1)}
    order = Priority(live, BANDS, None)
    for number in live:
        order.add(number)
    assert order.peek(8) == [5, 4, 7, 2, 3, 6, 1, 8]


def test_fault_T12_with_aging_a_flood_of_urgent_work_starves_nobody() -> None:
    """A task of priority 10 and one of 200, while one of 255 comes every second and one task is taken a second."""
    waited_s = {}
    for aging in (None, Aging.model_validate({"every": "1s"})):
        live = {1: Task(0, 10), 2: Task(0, 200)}
        order = Priority(live, BANDS, aging)
        order.add(1)
        order.add(2)
        left = {}
        for second in range(1000):
            live[second + 3] = Task(second * 1000, 255)
            order.add(second + 3)
            (first,) = order.peek(1)
            order.take(first)
            left[first] = second
        waited_s[aging is not None] = [left.get(number) for number in (1, 2)]
    assert waited_s[False] == [None, None]
    urgent_s, low_s = waited_s[True][1], waited_s[True][0]
    assert urgent_s is not None and low_s is not None
    assert 55 <= urgent_s <= 57 and 245 <= low_s <= 247


def test_only_a_higher_line_goes_before_what_has_been_taken() -> None:
    live = {1: Task(1, 150), 2: Task(2, 199), 3: Task(3, 200), 4: Task(4, 50)}
    order = Priority(live, BANDS, None)
    assert order.goes_before(3, 1) and order.goes_before(1, 4)
    assert not order.goes_before(2, 1) and not order.goes_before(1, 2) and not order.goes_before(4, 1)
