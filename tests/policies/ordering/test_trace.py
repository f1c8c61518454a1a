"""One trace of 10,000 tasks under the four policies: four orders, each exactly what its definition says.

Tasks of five tenants come in bursts, with priorities, deadlines and CPU times drawn once from a seed, and meet four slots
in virtual time. The order is tried against `plain`, which says each definition in a few lines and shares no code with it.
"""

from __future__ import annotations

import random
from heapq import heappop, heappush
from typing import Any

import pytest

from reconciler.policies.ordering.base import Ordering
from reconciler.policies.ordering.choose import ordering_of
from reconciler.resources.scheduling import SchedulingPolicySpec
from tests.policies.ordering.model import Task
from tests.policies.ordering.plain import Plain, PlainDeadlines, PlainFeedback, PlainPriority, PlainShares

TASKS = 10_000
SLOTS = 4
WEIGHTS = {"research": 2.0, "ads": 0.5}

POLICIES: dict[str, dict[str, Any]] = {
    "FIFO": {"type": "FIFO"},
    "Priority": {"type": "Priority"},
    "MultiLevelFeedback": {
        "type": "MultiLevelFeedback", "quanta": ["100ms", "500ms", "2s", "10s"], "boostInterval": "30s",
    },
    "FairShare": {"type": "FairShare", "weights": WEIGHTS},
    "EarliestDeadlineFirst": {"type": "EarliestDeadlineFirst", "onMiss": "Run"},
}  # fmt: skip


def plain(name: str, live: dict[int, Task]) -> Plain:
    """The definition of that policy."""
    return {
        "FIFO": lambda: Plain(live),
        "Priority": lambda: PlainPriority(live),
        "MultiLevelFeedback": lambda: PlainFeedback(live, [100, 500, 2_000, 10_000], 30_000),
        "FairShare": lambda: PlainShares(live, WEIGHTS),
        "EarliestDeadlineFirst": lambda: PlainDeadlines(live),
    }[name]()


def trace() -> list[tuple[Task, int]]:
    """The tasks in the order of submission, each with the CPU time it will use."""
    draw = random.Random(20261123)
    made, now_ms = [], 0
    for _ in range(TASKS):
        now_ms += draw.choice((0, 0, 0, 10, 20, 40, 70))
        tenant = draw.choice(("ads", "research", "billing", "search", None))
        deadline_ms = now_ms + draw.randrange(50, 20_000) if draw.random() < 0.8 else 0
        cpu_ms = int(draw.choice((5, 20, 60, 150)) * draw.uniform(0.5, 1.5)) if draw.random() > 0.01 else 3_000
        made.append((Task(now_ms, draw.randrange(256), tenant, None, deadline_ms), cpu_ms))
    return made


def run(order: Ordering, model: Plain, live: dict[int, Task], tasks: list[tuple[Task, int]]) -> list[int]:
    """The order in which the tasks began; at each step the definition is asked the same."""
    ends: list[tuple[int, int]] = []
    began: list[int] = []
    now_ms, arrived = 0, 0
    while len(began) < len(tasks):
        while arrived < len(tasks) and tasks[arrived][0].submitted_ms <= now_ms:
            arrived += 1
            live[arrived] = tasks[arrived - 1][0]
            order.add(arrived)
            model.add(arrived)
        while ends and ends[0][0] <= now_ms:
            _, number = heappop(ends)
            cpu_ms = tasks[number - 1][1]
            order.charge(number, cpu_ms, cpu_ms)
            model.charge(number, cpu_ms, cpu_ms)
        while len(ends) < SLOTS and len(order):
            (first,) = order.peek(1, now_ms)
            assert first == model.choose(now_ms), f"the {len(began) + 1}. to begin, at {now_ms} ms"
            order.take(first)
            order.begin(first)
            model.take(first)
            began.append(first)
            heappush(ends, (now_ms + tasks[first - 1][1], first))
        moments = [ends[0][0]] if len(ends) == SLOTS or arrived == len(tasks) else []
        if arrived < len(tasks):
            moments.append(tasks[arrived][0].submitted_ms)
        now_ms = max(now_ms, min(moments + [end for end, _ in ends[:1]]))
    return began


@pytest.fixture(scope="module")
def orders() -> dict[str, list[int]]:
    """Begun ids in order, by policy; each step has been tried against the definition."""
    found = {}
    for name, spec in POLICIES.items():
        live: dict[int, Task] = {}
        order = ordering_of(SchedulingPolicySpec.model_validate(spec), live)
        found[name] = run(order, plain(name, live), live, trace())
    return found


def test_the_same_trace_has_another_order_under_each_policy_and_each_is_the_defined_one(
    orders: dict[str, list[int]],
) -> None:
    for name, began in orders.items():
        assert sorted(began) == list(range(1, TASKS + 1)), name
    assert orders["FIFO"] == list(range(1, TASKS + 1))
    names = list(orders)
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            differing = sum(a != b for a, b in zip(orders[one], orders[other], strict=True))
            assert differing > TASKS / 2, f"{one} and {other} are hardly to be told apart"


def test_the_figures_show_what_each_policy_is_for(orders: dict[str, list[int]]) -> None:
    """Where in the order the tasks stand for which a policy is made, against their place under FIFO."""
    tasks = trace()

    def mean_gain(name: str, wanted: Any) -> float:
        place = {number: at for at, number in enumerate(orders[name])}
        gains = [number - 1 - place[number] for number in range(1, TASKS + 1) if wanted(*tasks[number - 1])]
        return sum(gains) / len(gains)

    assert mean_gain("Priority", lambda task, cpu: task.priority >= 200) > 50
    assert mean_gain("Priority", lambda task, cpu: task.priority < 100) < -50
    assert mean_gain("FairShare", lambda task, cpu: task.tenant == "research") > 5
    assert mean_gain("FairShare", lambda task, cpu: task.tenant == "ads") < -5
    assert mean_gain("EarliestDeadlineFirst", lambda task, cpu: task.deadline_ms == 0) < -50
