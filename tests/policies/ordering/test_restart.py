"""What an order has learned outlives the controller: shares, levels, averages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.ordering.base import Ordering
from reconciler.policies.ordering.choose import ordering_of
from reconciler.resources.scheduling import SchedulingPolicySpec
from tests.policies.ordering.model import Task
from tests.policies.ordering.test_trace import POLICIES, plain

FEEDBACK = {"type": "MultiLevelFeedback", "quanta": ["100ms", "500ms", "2s"], "boostInterval": "30s"}


class Table:
    """Keeps what an order wants to be known, as the table of the store does."""

    def __init__(self, spec: dict[str, Any], live: dict[int, Task]) -> None:
        self._spec, self._live = SchedulingPolicySpec.model_validate(spec), live
        self.known: dict[str, str] = {}

    def save(self, order: Ordering) -> None:
        for name, value in order.unsaved().items():
            if value is None:
                del self.known[name]
            else:
                self.known[name] = json.dumps(value)

    def restarted(self, order: Ordering) -> Ordering:
        """The same queue in another controller; what ran goes on running."""
        after = ordering_of(self._spec, self._live)
        for number in sorted(order):
            after.add(number)
        after.resume({name: json.loads(text) for name, text in self.known.items()})
        return after


steps = st.lists(
    st.one_of(
        st.sampled_from(["ads", "research", None]),
        st.tuples(st.just("serve"), st.sampled_from([0, 40, 700, 3_000])),
        st.tuples(st.just("serve"), st.sampled_from([1, 90])),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@given(st.sampled_from(["FairShare", "EarliestDeadlineFirst"]), steps)
@settings(max_examples=200, derandomize=True, deadline=None)
def test_an_order_goes_on_after_a_restart_as_if_there_had_been_none(
    name: str, steps: list[str | tuple[str, int] | None]
) -> None:
    live: dict[int, Task] = {}
    spec = {**POLICIES[name]}
    order, never = ordering_of(SchedulingPolicySpec.model_validate(spec), live), plain(name, live)
    table = Table(spec, live)
    for step in steps:
        match step:
            case ("restart", _):
                order = table.restarted(order)
            case ("serve", int(cpu_ms)) if len(order):
                (first,) = order.peek(1, 0)
                assert first == never.choose(0)
                for one in (order, never):
                    one.take(first)
                order.begin(first)
                for one in (order, never):
                    one.charge(first, cpu_ms, cpu_ms)
                table.save(order)
            case str() | None:
                live[len(live) + 1] = Task(0, 100, step, None, 0)
                order.add(len(live))
                never.add(len(live))


def test_a_share_does_not_forget_who_had_the_machine_before_the_restart() -> None:
    live = {n: Task(tenant="greedy" if n <= 10 else "modest") for n in range(1, 21)}
    table = Table({"type": "FairShare"}, live)
    order: Ordering = ordering_of(SchedulingPolicySpec.model_validate({"type": "FairShare"}), live)
    for number in live:
        order.add(number)
    for number, cpu_ms in ((1, 5_000), (11, 1_000)):
        order.take(number)
        order.begin(number)
        order.charge(number, cpu_ms, cpu_ms)
        table.save(order)

    assert table.restarted(order).peek(4, 0) == order.peek(4, 0) == [12, 13, 14, 15]


def test_what_ran_over_a_restart_is_charged_once() -> None:
    live = {n: Task(tenant="a" if n % 2 else "b") for n in range(1, 9)}
    spec = {"type": "FairShare"}
    table = Table(spec, live)
    order: Ordering = ordering_of(SchedulingPolicySpec.model_validate(spec), live)
    for number in live:
        order.add(number)
    order.take(1)
    order.begin(1)
    order.take(2)
    order.begin(2)
    order.charge(2, 3_000, 3_000)
    table.save(order)

    after = table.restarted(order)
    after.charge(1, 2_000, 2_000)

    assert after.peek(2, 0) == [3, 4]
    after.take(3)
    after.begin(3)
    after.charge(3, 1_500, 1_500)  # a has used 3.5 s, b 3 s
    assert after.peek(1, 0) == [4]


@pytest.fixture
def feedback() -> tuple[dict[int, Task], Table, Ordering]:
    """A long task of one tenant that is tried again, and two of another."""
    live = {1: Task(tenant="long"), 2: Task(tenant="short"), 3: Task(tenant="short"), 4: Task(tenant=None)}
    order: Ordering = ordering_of(SchedulingPolicySpec.model_validate(FEEDBACK), live)
    for number in (1, 2, 3):
        order.add(number)
    assert order.peek(1, 1_000) == [1]
    order.take(1)
    order.charge(1, 3_000, 3_000)
    order.add(1)
    return live, Table(FEEDBACK, live), order


def test_a_level_outlives_the_controller_that_lowered_it(feedback: tuple[dict[int, Task], Table, Ordering]) -> None:
    live, table, order = feedback
    table.save(order)

    after = table.restarted(order)

    assert after.peek(3, 2_000) == [2, 3, 1]
    live[5] = Task(tenant="long")
    after.add(5)
    after.add(4)
    assert after.peek(5, 2_000) == [2, 3, 4, 1, 5]
    assert after.peek(5, 31_000) == [2, 3, 4, 1, 5] and len(after) == 5
    after.take(2)
    after.put_back(2)
    table.save(after)
    assert table.known == {"boost": "31000"}, "the boost was due 30 s after the one before, whoever did that"


def test_what_has_ended_leaves_nothing_to_be_known(feedback: tuple[dict[int, Task], Table, Ordering]) -> None:
    live, table, order = feedback
    table.save(order)
    assert table.known == {"boost": "1000", "1": "3000", "=long": "2"}

    order.take(1)
    order.charge(1, 10, 10)
    del live[1]
    table.save(order)

    assert table.known == {"boost": "1000", "=long": "2"}
