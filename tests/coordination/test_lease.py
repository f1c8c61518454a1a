"""Who holds a lock next: first come, first served; tokens that only rise; a lease that ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from reconciler.coordination import lease
from reconciler.resources.lock import LockSpec, LockStatus, Waiter

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def waiter(id: str, leased: bool = True) -> Waiter:
    return Waiter(id=id, name=f"user ada: {id}", leased=leased, since=NOW)


def after(
    status: LockStatus, spec: LockSpec | None = None, left: dict[str, float] | None = None, **more: object
) -> LockStatus:
    asking = more.pop("asking", [])
    return lease.step(
        spec or LockSpec(), status, asking, lambda id: (left or {}).get(id, 15.0), more.pop("floor", 0), NOW, **more  # type: ignore[arg-type]
    ).status  # fmt: skip


def ids(status: LockStatus) -> tuple[list[str], list[str]]:
    return [one.id for one in status.holders], [one.id for one in status.waiting]


def test_the_first_in_line_gets_it_with_the_next_token() -> None:
    status = after(LockStatus(token=4, waiting=(waiter("a"), waiter("b"))))

    assert ids(status) == (["a"], ["b"])
    assert status.holders[0].token == status.token == 5


def test_as_many_hold_it_as_may_each_with_a_token_of_its_own() -> None:
    status = after(LockStatus(waiting=(waiter("a"), waiter("b"), waiter("c"))), LockSpec(max_holders=2))

    assert ids(status) == (["a", "b"], ["c"])
    assert [one.token for one in status.holders] == [1, 2]


def test_fault_K1_a_holder_that_says_nothing_loses_it_to_the_next_whose_token_is_larger() -> None:
    held = after(LockStatus(waiting=(waiter("a"), waiter("b"))))

    step = lease.step(LockSpec(), held, [], lambda id: 0.0 if id == "a" else 15.0, 0, NOW)

    assert ids(step.status) == (["b"], [])
    assert step.status.holders[0].token == 2
    assert [one.id for one in step.lapsed] == ["a"]


def test_fault_K3_a_release_by_somebody_else_or_a_second_one_changes_nothing() -> None:
    held = after(LockStatus(waiting=(waiter("a"),)))

    assert lease.without(held, "b") == held
    assert lease.without(held, "a", token=99) == held
    free = lease.without(held, "a", token=1)
    assert ids(free) == ([], []) and lease.without(free, "a", token=1) == free


def test_fault_K7_tokens_go_on_above_the_largest_that_was_given_when_the_store_forgot_it() -> None:
    assert after(LockStatus(token=3, waiting=(waiter("a"),)), floor=17).holders[0].token == 18


def test_a_worker_holds_it_without_a_lease_as_long_as_it_claims_it() -> None:
    held = after(LockStatus(), asking=[waiter("w.1", leased=False)], left={"w.1": -1})

    assert ids(held) == (["w.1"], [])
    assert ids(after(held, asking=[waiter("w.1", leased=False)], left={"w.1": -1})) == (["w.1"], [])
    assert ids(after(held)) == ([], [])


def test_who_waits_and_is_not_heard_of_loses_its_place() -> None:
    held = after(LockStatus(waiting=(waiter("a"), waiter("b"), waiter("c"))))

    assert ids(after(held, left={"b": 0.0})) == (["a"], ["c"])


def test_a_lock_that_is_wanted_gone_is_given_to_nobody() -> None:
    assert ids(after(LockStatus(waiting=(waiter("a"),)), grants=False)) == ([], ["a"])


class Line(RuleBasedStateMachine):
    """A lock against a plain model: a list of holders, a list of waiters, a counter."""

    @initialize(most=st.integers(1, 3))
    def begin(self, most: int) -> None:
        self.spec = LockSpec(max_holders=most)
        self.status = LockStatus()
        self.heard_s: dict[str, float] = {}
        self.now_s = 0.0
        self.model: list[str] = []  # holders, then those in line
        self.tokens: dict[str, int] = {}
        self.largest = 0
        self.floor = 0
        self.next = 0

    def step(self) -> None:
        before = {one.id for one in self.status.holders}
        self.status = lease.step(
            self.spec, self.status, [], lambda id: self.heard_s[id] + 15 - self.now_s, self.floor, NOW
        ).status
        for one in self.status.holders:
            if one.id not in before:
                assert one.token > self.largest
                self.largest = self.tokens[one.id] = one.token
        self.floor = max(self.floor, self.largest)
        self.model = [id for id in self.model if self.heard_s[id] + 15 > self.now_s]

    @rule()
    def ask(self) -> None:
        id = f"s{self.next}"
        self.next += 1
        self.heard_s[id] = self.now_s
        self.status = self.status.changed(waiting=(*self.status.waiting, waiter(id)))
        self.model.append(id)
        self.step()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.model))
        self.status = lease.without(self.status, id, self.tokens.get(id))
        self.model.remove(id)
        self.step()

    @rule(id=st.integers(0, 50), token=st.integers(-1, 60))
    def give_back_what_is_not_theirs(self, id: int, token: int) -> None:
        if self.tokens.get(f"s{id}") != token and f"s{id}" not in [one.id for one in self.status.waiting]:
            assert lease.without(self.status, f"s{id}", token) == self.status

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        self.heard_s[data.draw(st.sampled_from(self.model))] = self.now_s

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.step()

    @rule()
    def restore_an_empty_store(self) -> None:
        self.status, self.model = LockStatus(), []
        self.step()

    @invariant()
    def the_first_in_line_hold_it_and_no_others(self) -> None:
        if hasattr(self, "spec"):
            holders, waiting = ids(self.status)
            assert holders + waiting == self.model
            assert len(holders) == min(len(self.model), self.spec.max_holders)


TestLine = Line.TestCase
TestLine.settings = settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None)


def test_times_are_moments_of_the_grant() -> None:
    later = NOW + timedelta(minutes=3)
    status = lease.step(LockSpec(), LockStatus(waiting=(waiter("a"),)), [], lambda id: 1.0, 0, later).status

    assert status.holders[0].since == later
