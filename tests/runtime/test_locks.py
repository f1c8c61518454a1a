"""Sessions and the plan of a lock together, in virtual time: clients that are late, stopped, killed; daemons that come back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from reconciler.controllers import lock as controller
from reconciler.controllers.base import Record, Remove, SetStatus
from reconciler.coordination.tokens import Tokens
from reconciler.errors import Deadlock, LockLost, Refused
from reconciler.resources.lock import MADE_BY_USE, Holder, Lock, LockSpec, LockStatus, Waiter
from reconciler.resources.meta import Key, Metadata
from reconciler.runtime.locks import Sessions
from reconciler.store.memory import MemoryStore
from tests.coordination.linearizability import Op, lapse, linearizable

BEGIN = datetime(2026, 11, 24, tzinfo=UTC)


class Clock:
    """The wall may jump; what has passed since boot does not."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.wall_s = 0.0

    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.passed_s + self.wall_s)

    def monotonic(self) -> float:
        return self.passed_s

    def wall_ahead_ms(self) -> int:
        return 0


class Daemon:
    """The part of a daemon that locks need."""

    def __init__(self, clock: Clock, store: MemoryStore | None = None, tokens: Tokens | None = None) -> None:
        self.clock = clock
        self.store = store or MemoryStore(clock.now)
        self.tokens = tokens or Tokens()
        self.sessions = Sessions(self.store, clock, self.tokens)
        self.events: list[str] = []
        self.world = SimpleNamespace(
            get=self.store.get,
            locks=lambda: self.store.all(Lock),
            pools_with_lock=lambda name: [],
            lease_left_s=self.sessions.left_s,
            token_floor=self.tokens.floor,
        )
        self.turn()

    def restarted(self) -> Daemon:
        return Daemon(self.clock, self.store, self.tokens)

    def turn(self) -> None:
        for lock in self.store.all(Lock):
            for action in controller.plan(lock.key, self.world, self.clock.now()).actions:  # type: ignore[arg-type]
                match action:
                    case SetStatus(key=key, status=status):
                        self.store.set_status(key, status)
                        self.sessions.changed(self.lock(key.name))
                    case Remove(key=key):
                        self.store.remove(key)
                    case Record(event=event):
                        self.events.append(event.reason)
        self.tokens.save()
        self.store.commit()

    def lock(self, name: str = "db") -> Lock:
        found = self.store.get(Lock, name)
        assert found is not None
        return found

    def declare(self, name: str = "db", **spec: object) -> None:
        self.store.create(Lock(metadata=Metadata(name=name), spec=LockSpec(**spec)))

    def ask(self, id: str, name: str = "db", within: tuple[str, ...] = ()) -> int:
        """The token, or 0."""
        waiter = Waiter(id=id, name=id, within=within, since=self.clock.now())
        self.sessions.ask(name, waiter, self.clock.now())
        self.turn()
        held = self.sessions.holder(name, id)
        return 0 if held is None else held.token

    def after(self, seconds: float) -> None:
        self.clock.passed_s += seconds
        self.turn()


@pytest.fixture
def daemon() -> Daemon:
    return Daemon(Clock())


def test_who_waits_gets_it_in_the_order_of_asking(daemon: Daemon) -> None:
    assert [daemon.ask(id) for id in ("a", "b", "c")] == [1, 0, 0]
    assert daemon.sessions.release("db", "a", 1)
    daemon.turn()
    assert [daemon.ask(id) for id in ("c", "b")] == [0, 2]


def test_a_lock_that_nobody_declared_goes_with_its_last_holder_and_its_tokens_go_on(daemon: Daemon) -> None:
    assert daemon.ask("a") == 1
    assert MADE_BY_USE in daemon.lock().metadata.annotations
    daemon.sessions.release("db", "a", 1)
    daemon.turn()
    assert daemon.store.get(Lock, "db") is None
    assert daemon.ask("b") == 2


def test_fault_K1_a_holder_that_is_not_heard_of_for_its_lease_loses_it(daemon: Daemon) -> None:
    daemon.ask("a")
    daemon.ask("b")
    daemon.after(14.9)
    daemon.sessions.hear("db", "b")
    daemon.after(0.2)

    assert [one.id for one in daemon.lock().status.holders] == ["b"] and daemon.lock().status.token == 2
    assert daemon.events == ["LeaseExpired"]


def test_fault_K2_a_holder_that_was_stopped_hears_at_its_next_renewal_that_it_is_lost(daemon: Daemon) -> None:
    daemon.ask("a")
    daemon.after(16)
    assert daemon.ask("b") == 2

    with pytest.raises(LockLost, match="no longer held with token 1"):
        daemon.sessions.renew("db", "a", 1, 1)
    daemon.sessions.renew("db", "b", 2, 1)


def test_fault_K3_release_by_another_twice_or_after_the_lease_has_no_effect(daemon: Daemon) -> None:
    daemon.ask("a")
    assert not daemon.sessions.release("db", "a", 2)
    assert not daemon.sessions.release("db", "stranger", 1)
    daemon.ask("b")
    daemon.sessions.hear("db", "b")
    daemon.after(10)
    daemon.sessions.hear("db", "b")
    daemon.after(10)
    assert not daemon.sessions.release("db", "a", 1)
    assert [one.id for one in daemon.lock().status.holders] == ["b"]
    assert daemon.sessions.release("db", "b", 2)
    daemon.turn()
    assert daemon.store.get(Lock, "db") is None


def test_fault_K4_a_renewal_that_comes_after_a_later_one_lengthens_nothing(daemon: Daemon) -> None:
    daemon.ask("a")
    daemon.after(5)
    daemon.sessions.renew("db", "a", 1, sequence=2)
    daemon.after(14)
    daemon.sessions.renew("db", "a", 1, sequence=1)  # sent before, arrives now
    daemon.after(1.5)

    with pytest.raises(LockLost):
        daemon.sessions.renew("db", "a", 1, sequence=3)


def test_fault_K5_a_jump_of_the_wall_clock_ends_no_lease_and_lengthens_none(daemon: Daemon) -> None:
    daemon.ask("a")
    for jump_s in (10 * 365 * 86400, -20 * 365 * 86400):
        daemon.clock.wall_s += jump_s
        daemon.after(7)
        assert daemon.sessions.holder("db", "a") is not None
    daemon.after(1.1)
    assert daemon.store.get(Lock, "db") is None


def test_fault_K5_a_reboot_voids_every_lease(daemon: Daemon) -> None:
    daemon.declare()
    daemon.ask("a")
    daemon.ask("b")
    daemon.store.rebooted = True
    after = daemon.restarted()

    assert after.lock().status.holders == () and after.lock().status.waiting == ()
    assert after.ask("c") == 2


def test_fault_K6_the_next_controller_gives_a_lease_its_whole_length_before_it_gives_the_lock_away(
    daemon: Daemon,
) -> None:
    daemon.ask("a")
    daemon.ask("b")
    daemon.clock.passed_s += 3600
    after = daemon.restarted()
    assert after.ask("b") == 0
    after.after(10)
    after.sessions.renew("db", "a", 1, 7)  # it was alive all the time
    after.sessions.hear("db", "b")
    after.after(10)
    assert after.ask("b") == 0
    after.after(6)
    assert after.ask("b") == 2


def test_fault_K6_a_holder_proven_dead_keeps_nobody_waiting(daemon: Daemon) -> None:
    daemon.ask("a")
    daemon.ask("b")
    after = daemon.restarted()
    after.sessions.ended("a", after.clock.now())
    after.turn()
    assert after.sessions.holder("db", "b") is not None


def test_fault_K7_a_store_from_a_backup_gives_no_token_again(daemon: Daemon) -> None:
    daemon.declare()
    for id in "abc":
        daemon.sessions.release("db", id, daemon.ask(id))
    restored = MemoryStore(daemon.clock.now)
    restored.create(Lock(metadata=Metadata(name="db"), spec=LockSpec(), status=LockStatus(token=1)))

    assert Daemon(daemon.clock, restored, daemon.tokens).ask("d") == 4


def test_fault_K9_a_wait_that_would_close_a_circle_is_refused_and_names_it(daemon: Daemon) -> None:
    daemon.ask("a", "db")
    daemon.ask("b", "ui")
    assert daemon.ask("a2", "ui", within=("a",)) == 0

    with pytest.raises(Deadlock, match="b2 waits for lock/db, held by a; a2 waits for lock/ui, held by b"):
        daemon.ask("b2", "db", within=("b",))
    assert [one.id for one in daemon.lock("db").status.waiting] == []
    with pytest.raises(Deadlock, match="b3 waits for lock/ui, held by b"):
        daemon.ask("b3", "ui", within=("b",))


def test_fault_K9_a_circle_that_came_about_is_in_the_status_and_an_event_until_it_ends(daemon: Daemon) -> None:
    def put(name: str, holder: str, waiter: str) -> None:
        held = Holder(id=holder, name=holder, since=BEGIN, token=1)
        status = LockStatus(token=1, holders=(held,), waiting=(Waiter(id=waiter, name=waiter, since=BEGIN),))
        daemon.store.create(Lock(metadata=Metadata(name=name), spec=LockSpec(), status=status))

    put("db", "a", "b")
    put("ui", "b", "a")
    daemon.turn()
    assert daemon.lock("ui").status.deadlock == "a waits for lock/ui, held by b; b waits for lock/db, held by a"
    daemon.turn()
    assert daemon.events == ["Deadlock", "Deadlock"]  # of each lock, once

    daemon.sessions.ended("a", daemon.clock.now())
    daemon.turn()
    assert daemon.lock("db").status.deadlock == daemon.lock("ui").status.deadlock == ""


def test_a_lock_that_is_being_deleted_takes_nobody_and_goes_when_it_is_free(daemon: Daemon) -> None:
    daemon.declare()
    daemon.ask("a")
    lock = daemon.lock()
    daemon.store.update(lock.changed(metadata=lock.metadata.changed(deleted_at=BEGIN)))
    with pytest.raises(Refused):
        daemon.ask("b")
    daemon.turn()
    assert daemon.sessions.release("db", "a", 1)
    daemon.turn()
    assert daemon.store.get(Lock, "db") is None


# Clients with clocks of their own, over any number of lives of the daemon.


@dataclass
class Client:
    """One holder at a time: it counts its lock as lost by its own clock, and may be stopped at any moment."""

    number: int
    session: str = ""
    token: int = 0
    asked_at: float = 0.0
    until_s: float = 0.0
    stopped_until_s: float = 0.0
    sequence: int = 0
    late: list[int] = field(default_factory=list)
    """Renewals that are still under way."""


def act(
    client: Client, daemon: Daemon, chance: random.Random, fence: list[int], history: list[Op], names: list[int]
) -> None:
    now_s = daemon.clock.passed_s
    if client.token and now_s >= client.until_s:
        history.append(lapse(client.token, client.asked_at))
        client.session, client.token = "", 0
    if not client.session:
        names[0] += 1
        client.session, client.asked_at, client.sequence = f"{client.number}-{names[0]}", now_s, 0
        daemon.sessions.ask("db", Waiter(id=client.session, name=client.session, since=BEGIN), BEGIN)
        return
    if not client.token:
        held = daemon.sessions.holder("db", client.session)
        if not daemon.sessions.hear("db", client.session):
            client.session = ""
        elif held is not None:
            client.token, client.until_s = held.token, now_s + 10
            history.append(Op(client.asked_at, now_s, "acquire", held.token))
        return
    if fence and client.token < fence[-1]:
        raise AssertionError(f"{client.token} by a holder that believes in it, after {fence[-1]}")
    fence.append(client.token)
    if chance.random() < 0.3:
        ok = daemon.sessions.release("db", client.session, client.token)
        history.append(Op(now_s, now_s, "release", client.token, ok))
        if not ok:
            history.append(lapse(client.token, client.asked_at))
        client.session, client.token = "", 0
        return
    client.sequence += 1
    try:
        daemon.sessions.renew("db", client.session, client.token, client.sequence)
        client.until_s = now_s + 10
    except LockLost:
        history.append(lapse(client.token, client.asked_at))
        client.session, client.token = "", 0


@pytest.mark.parametrize("seed", range(12))
def test_fault_K11_whatever_happens_the_history_is_one_of_a_lock_and_the_fence_sees_no_token_fall(seed: int) -> None:
    chance = random.Random(seed)
    daemon = Daemon(Clock())
    daemon.declare()
    clients = [Client(number) for number in range(4)]
    fence: list[int] = []
    history: list[Op] = []
    names = [0]
    for _ in range(400):
        daemon.after(chance.choice([0.1, 0.5, 2.0]))
        if chance.random() < 0.02:
            daemon = daemon.restarted()
        for client in chance.sample(clients, len(clients)):
            if client.stopped_until_s > daemon.clock.passed_s:
                continue
            if chance.random() < 0.03:
                client.stopped_until_s = daemon.clock.passed_s + chance.choice([3.0, 30.0])
            elif chance.random() < 0.01 and client.session:  # killed: its end is seen, another takes its number
                daemon.sessions.ended(client.session, BEGIN)
                if client.token:
                    history.append(lapse(client.token, client.asked_at))
                client.session, client.token = "", 0
            else:
                act(client, daemon, chance, fence, history, names)
            daemon.turn()

    assert len(set(fence)) > 20
    assert fence == sorted(fence)
    for client in clients:
        if client.token:
            history.append(lapse(client.token, 0.0))
    assert linearizable(history)


def test_fault_K11_two_daemons_that_know_nothing_of_each_other_are_kept_apart_by_the_fence() -> None:
    one = Daemon(Clock())
    one.ask("a")
    other = Daemon(one.clock, tokens=one.tokens)  # a copy of the state, brought up elsewhere
    fence: list[int] = []
    refused = 0
    for token in (one.sessions.holder("db", "a").token, other.ask("b"), 1, 2, 1):  # type: ignore[union-attr]
        if fence and token < fence[-1]:
            refused += 1
        else:
            fence.append(token)
    assert fence == [1, 2, 2] and refused == 2


def test_a_key_of_no_lock_plans_nothing(daemon: Daemon) -> None:
    assert controller.plan(Key("Lock", "none"), daemon.world, BEGIN).actions == ()  # type: ignore[arg-type]
