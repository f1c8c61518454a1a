"""The order against the plainest model there is: a sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reconciler.policies.ordering.fifo import Fifo


class FifoAgainstAList(RuleBasedStateMachine):
    """Submitting, taking from the front, giving back, cancelling anywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.fifo = Fifo()
        self.model: list[int] = []
        self.taken: list[int] = []
        self.next_id = 1

    @rule(count=st.integers(1, 200))
    def submit(self, count: int) -> None:
        for _ in range(count):
            self.fifo.add(self.next_id)
            self.model.append(self.next_id)
            self.next_id += 1

    @rule(count=st.integers(0, 30))
    def take(self, count: int) -> None:
        first = self.fifo.peek(count)
        assert first == self.model[:count]
        for task_id in first:
            self.fifo.discard(task_id)
        del self.model[:count]
        self.taken += first

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(self.taken))
        self.taken.remove(task_id)
        self.fifo.add(task_id)
        self.model = sorted([*self.model, task_id])

    @precondition(lambda self: self.model)
    @rule(data=st.data(), count=st.integers(1, 150))
    def cancel(self, data: st.DataObject, count: int) -> None:
        start = data.draw(st.integers(0, len(self.model) - 1))
        for task_id in self.model[start : start + count]:
            self.fifo.discard(task_id)
            if data.draw(st.booleans()):
                self.taken.append(task_id)
        del self.model[start : start + count]

    @invariant()
    def the_same_ids_in_the_same_order(self) -> None:
        assert list(self.fifo) == self.model
        assert len(self.fifo) == len(self.model)


TestFifoAgainstAList = FifoAgainstAList.TestCase
TestFifoAgainstAList.settings = settings(max_examples=60, stateful_step_count=25, deadline=None, derandomize=True)


@given(st.sets(st.integers(0, 1000)))
@settings(max_examples=50, derandomize=True)
def test_whatever_the_order_of_arrival_the_lowest_id_goes_first(ids: set[int]) -> None:
    assert Fifo(ids).peek(len(ids)) == sorted(ids)


def test_a_hundred_thousand_cancelled_tasks_do_not_stand_in_the_way() -> None:
    fifo = Fifo(range(100_001))
    for task_id in range(1, 100_000):
        fifo.discard(task_id)
    assert len(fifo._line) < 200  # the places of the discarded ones have been swept
    assert fifo.peek(5) == [0, 100_000]
