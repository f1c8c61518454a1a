"""Every order against its plain definition, whatever is called in whatever sequence."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.policies.ordering.choose import ordering_of
from reconciler.policies.ordering.fairshare import FairShare
from reconciler.policies.ordering.feedback import MultiLevelFeedback
from reconciler.resources.scheduling import SchedulingPolicySpec
from tests.policies.ordering.model import Task
from tests.policies.ordering.test_trace import POLICIES, plain

task = st.builds(
    Task,
    priority=st.integers(0, 255),
    tenant=st.sampled_from(["ads", "research", "billing", None]),
    deadline_ms=st.sampled_from([0, 500, 900, 10_000, 50_000]),
)
steps = st.lists(
    st.one_of(
        task,
        task,
        st.tuples(st.just("take"), st.just(0)),
        st.tuples(st.just("end"), st.sampled_from([0, 40, 99, 100, 101, 700, 3_000])),
        st.tuples(st.just("again"), st.sampled_from([50, 120, 800])),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("wait"), st.sampled_from([10, 29_999, 30_000, 90_000])),
    ),
    max_size=80,
)


@given(st.sampled_from(list(POLICIES)), steps)
@settings(max_examples=400, derandomize=True, deadline=None)
def test_the_first_is_the_one_that_the_definition_names(name: str, steps: list[Task | tuple[str, int]]) -> None:
    live: dict[int, Task] = {}
    order, model = ordering_of(SchedulingPolicySpec.model_validate(POLICIES[name]), live), plain(name, live)
    running: list[int] = []
    now_ms = 0
    for step in steps:
        if isinstance(step, Task):
            live[len(live) + 1] = Task(now_ms, step.priority, step.tenant, None, step.deadline_ms)
            order.add(len(live))
            model.add(len(live))
            continue
        word, number = step
        if word == "wait":
            now_ms += number
        elif word == "take" and model.waiting:
            first = model.choose(now_ms)
            assert order.peek(1, now_ms) == [first]
            order.take(first)
            order.begin(first)
            model.take(first)
            running.append(first)
        elif word in ("end", "again") and running:
            ended = running.pop(0)
            order.charge(ended, number, number)
            model.charge(ended, number, number)
            if word == "again":
                order.add(ended)
                model.add(ended)
        elif word == "cancel" and model.waiting:
            gone = sorted(model.waiting)[number % len(model.waiting)]
            order.discard(gone)
            model.discard(gone)
        assert len(order) == len(model.waiting) and set(order) == model.waiting
    ahead = list(order.peek(len(live), now_ms))
    taken = []
    while model.waiting:
        first = model.choose(now_ms)
        assert order.peek(1, now_ms) == [first]
        for one in (order, model):
            one.take(first)
        taken.append(first)
    assert ahead == taken, "what peek foretells is what is taken then"


@given(st.sampled_from(list(POLICIES)), st.lists(task, min_size=1, max_size=30), st.integers(1, 10))
@settings(max_examples=200, derandomize=True, deadline=None)
def test_what_was_taken_and_never_began_takes_its_old_place(name: str, tasks: list[Task], count: int) -> None:
    live = dict(enumerate(tasks, 1))
    order = ordering_of(SchedulingPolicySpec.model_validate(POLICIES[name]), live)
    for number in live:
        order.add(number)
    before = list(order.peek(len(live), 0))
    taken = before[:count]
    for number in taken:
        order.take(number)
    if count < len(before):
        assert not any(order.goes_before(before[count], number) for number in taken), "it would be recalled for ever"
    for number in taken:
        order.put_back(number)
    assert order.peek(len(live), 0) == before


def fair(weights: dict[str, float] | None = None) -> tuple[dict[int, Task], FairShare]:
    live: dict[int, Task] = {}
    return live, FairShare(live, "tenant", weights or {}, 1.0)


def serve(
    live: dict[int, Task], order: FairShare | MultiLevelFeedback, cpu_ms: dict[str, int], until_ms: int
) -> dict[str, int]:
    """One slot for so long; the CPU time that each tenant has had."""
    had: dict[str, int] = dict.fromkeys(cpu_ms, 0)
    now_ms = 0
    while now_ms < until_ms and len(order):
        (first,) = order.peek(1, now_ms)
        tenant = live[first].tenant or ""
        order.take(first)
        order.begin(first)
        now_ms += cpu_ms[tenant]
        had[tenant] += cpu_ms[tenant]
        order.charge(first, cpu_ms[tenant], cpu_ms[tenant])
    return had


def test_fault_T12_a_tenant_with_little_to_do_is_not_starved_by_one_that_floods_the_queue() -> None:
    live, order = fair()
    for number in range(1, 5_001):
        live[number] = Task(tenant="flood" if number <= 4_900 else "small")
        order.add(number)
    assert [live[i].tenant for i in order.peek(200, 0)].count("small") == 100
    had = serve(live, order, {"flood": 100, "small": 100}, 20_000)
    assert had == {"flood": 10_000, "small": 10_000}


def test_shares_follow_weights_whatever_the_length_of_the_tasks() -> None:
    live, order = fair({"research": 2.0})
    for number in range(1, 8_001):
        live[number] = Task(tenant="research" if number % 2 else "ads")
        order.add(number)
    had = serve(live, order, {"research": 1_000, "ads": 50}, 600_000)
    assert 1.95 < had["research"] / had["ads"] < 2.05


def test_a_tenant_that_comes_back_has_no_credit_for_its_absence() -> None:
    live, order = fair()
    for number in range(1, 2_001):
        live[number] = Task(tenant="always")
        order.add(number)
    serve(live, order, {"always": 100}, 100_000)
    for number in range(2_001, 3_001):
        live[number] = Task(tenant="back")
        order.add(number)
    had = serve(live, order, {"always": 100, "back": 100}, 20_000)
    assert abs(had["always"] - had["back"]) <= 200, "it would have had all of it, had it saved up"


def test_a_million_tenants_that_are_gone_are_not_remembered() -> None:
    live: dict[int, Task] = {}
    order = FairShare(live, "key", {}, 1.0)
    for number in range(1, 20_001):
        live[number] = Task(key=f"customer-{number}")
        order.add(number)
        order.take(number)
        order.charge(number, 0, 0)
        del live[number]
    assert len(order._used) < 10_000


def test_short_work_goes_before_the_work_of_a_tenant_whose_tasks_are_long() -> None:
    live = {n: Task(tenant="long" if n <= 50 else "short") for n in range(1, 101)}
    order = MultiLevelFeedback(live, [0.1, 0.5, 2.0, 10.0], 30.0)
    for number in range(1, 51):
        order.add(number)
    order.take(1)
    order.charge(1, 3_000, 3_000)
    order.add(1)  # its next try
    for number in range(51, 101):
        order.add(number)
    live[101] = Task(tenant="long")
    order.add(101)  # a new task of the tenant enters where its last one stands
    assert order.peek(101, 0) == [*range(2, 101), 1, 101]
    assert order.peek(1, 30_000) == [2], "a boost forgets"
    assert order.peek(101, 30_000)[-2:] == [1, 101]


def test_fault_T8_a_queue_that_is_too_long_for_a_deadline_is_known_beforehand() -> None:
    live = {n: Task(deadline_ms=5_000) for n in range(1, 9)}
    order = ordering_of(SchedulingPolicySpec.model_validate({"type": "EarliestDeadlineFirst", "estimate": "1s"}), live)
    for number in live:
        order.add(number)
    assert order.lead_ms == 1_000
    assert not order.too_late(6_000, slots=2, now_ms=0)  # eight go before it, two at a time: from 4 s to 5 s
    assert not order.too_late(5_000, slots=2, now_ms=0)
    assert order.too_late(5_000, slots=2, now_ms=1)
    assert not order.too_late(1_000, slots=2, now_ms=0)  # it goes before them all
    assert order.too_late(999, slots=2, now_ms=0)


@pytest.mark.parametrize("name", list(POLICIES))
def test_fault_T11_what_a_dispatch_costs_does_not_grow_with_the_queue(name: str) -> None:
    """Steps of Python, not seconds: 50 tasks are chosen, taken and ended out of 1,000 and out of 30,000."""

    def steps(pending: int) -> int:
        live = {n: Task(n, n * 7 % 256, f"t{n % 50}", None, n * 31 % 9973) for n in range(1, pending + 1)}
        order = ordering_of(SchedulingPolicySpec.model_validate(POLICIES[name]), live)
        for number in live:
            order.add(number)
        counted = 0

        def count(*_: object) -> None:
            nonlocal counted
            counted += 1

        sys.setprofile(count)
        try:
            for _ in range(5):
                for number in order.peek(10, 0):
                    order.take(number)
                    order.begin(number)
                    order.charge(number, 10, 10)
        finally:
            sys.setprofile(None)
        return counted

    assert steps(30_000) < 3 * steps(1_000)
