"""What every store does, with a disk or without."""

from __future__ import annotations

import pytest

from reconciler.errors import Conflict, Gone, NotFound
from reconciler.resources.event import Event, event
from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus
from reconciler.resources.task import TaskState
from reconciler.resources.worker import Worker, WorkerSpec, WorkerStatus
from reconciler.store.base import Change, Store
from reconciler.store.memory import EVENTS_KEPT

WEB = Key("Pool", "web")


def test_a_created_object_gets_its_identity_from_the_store(store, make, clock):
    got = store.create(make.pool())

    assert got.metadata.uid
    assert (got.metadata.generation, got.metadata.resource_version) == (1, 1)
    assert got.metadata.created_at == clock.now()
    assert store.get(Pool, "web") is got


def test_a_name_is_given_once(store, make):
    store.create(make.pool())

    with pytest.raises(Conflict, match="pool/web exists already"):
        store.create(make.pool())


def test_another_object_of_the_same_name_has_another_uid(store, make):
    first = store.create(make.pool())
    store.remove(WEB)

    assert store.create(make.pool()).metadata.uid != first.metadata.uid


def test_generation_rises_with_the_spec_and_with_nothing_else(store, make):
    first = store.create(make.pool())
    labelled = store.update(first.changed(metadata=first.metadata.changed(labels={"a": "b"})))
    scaled = store.update(labelled.changed(spec=PoolSpec(replicas=2)))
    seen = store.set_status(WEB, PoolStatus(observed_generation=2))

    assert [o.metadata.generation for o in (first, labelled, scaled, seen)] == [1, 1, 2, 2]
    assert [o.metadata.resource_version for o in (first, labelled, scaled, seen)] == [1, 2, 3, 4]


def test_an_update_cannot_change_who_an_object_is(store, make):
    first = store.create(make.pool())
    forged = make.pool(replicas=5)

    got = store.update(forged.changed(metadata=forged.metadata.changed(uid="other", generation=77)))

    assert (got.metadata.uid, got.metadata.generation) == (first.metadata.uid, 2)
    assert got.metadata.created_at == first.metadata.created_at


def test_compare_and_swap_lets_one_of_two_writers_win(store, make):
    read = store.create(make.pool())
    version = read.metadata.resource_version
    store.update(read.changed(spec=PoolSpec(replicas=2)), expected=version)

    with pytest.raises(Conflict, match="pool/web has changed: it is at revision 2, not 1"):
        store.update(read.changed(spec=PoolSpec(replicas=3)), expected=version)
    with pytest.raises(NotFound, match="there is no pool/api"):
        store.update(make.pool("api"))


def test_writing_what_is_there_already_changes_nothing(store, make):
    store.create(make.pool())
    store.commit()

    same = store.get(Pool, "web")
    assert store.update(make.pool()) is same
    assert store.set_status(WEB, PoolStatus()) is same
    assert store.set_status(Key("Pool", "api"), PoolStatus()) is None
    assert (store.revision, store.staged) == (1, False)


def test_workers_are_listed_by_pool_and_ordinal(store, make):
    for pool, ordinal in (("web", 10), ("web", 2), ("api", 3), ("web", 1)):
        store.create(make.worker(pool, ordinal))

    assert [w.metadata.name for w in store.all(Worker)] == ["api-3", "web-1", "web-2", "web-10"]
    assert [w.spec.ordinal for w in store.owned_by(WEB, Worker)] == [1, 2, 10]
    assert store.owned_by(WEB, Pool) == []


def test_the_owner_index_follows_every_change(store, make):
    for ordinal in range(3):
        store.create(make.worker(ordinal=ordinal))
    store.remove(Key("Worker", "web-1"))
    last = store.get(Worker, "web-2")
    store.set_status(last.key, WorkerStatus(pid=5))
    moved = store.update(last.changed(spec=WorkerSpec(pool="web", ordinal=0, template_hash="x")))
    adopted = store.get(Worker, "web-0")
    store.update(adopted.changed(metadata=adopted.metadata.changed(owner="pool/api")))

    assert [w.metadata.name for w in store.owned_by(WEB, Worker)] == [moved.metadata.name]
    assert [w.metadata.name for w in store.owned_by(Key("Pool", "api"), Worker)] == ["web-0"]


def test_changes_are_told_at_once_and_published_after_the_commit(store, make):
    told, published = [], []
    store.on_change(lambda old, new: told.append((old, new)))
    store.on_commit(published.extend)

    pool = store.create(make.pool())
    assert told == [(None, pool)]
    assert published == [] and store.changes_since(0) == []

    store.commit()
    store.remove(WEB)
    assert told[1:] == [(pool, None)]
    assert published == [Change(1, "ADDED", pool)] == store.changes_since(0)

    store.commit()
    assert published[1:] == [Change(2, "DELETED", pool)] == store.changes_since(1)


def test_a_commit_of_nothing_is_no_commit(store):
    calls = []
    store.on_commit(calls.append)
    store.commit()

    assert calls == []


def test_of_one_commit_only_the_last_modification_of_an_object_is_seen(store, make):
    store.create(make.pool())
    store.commit()
    for pid in (1, 2, 3):
        store.set_status(WEB, PoolStatus(replicas=pid))
    store.commit()

    (change,) = store.changes_since(1)
    assert (change.revision, change.type, change.object.status.replicas) == (4, "MODIFIED", 3)


def test_a_watcher_that_comes_back_misses_nothing_and_sees_nothing_twice(store, make):
    """I9: what a watcher holds is what the store holds, wherever its watch broke."""
    seen: list[Change] = []
    for turn in range(30):
        name = f"p{turn % 4}"
        if store.get(Pool, name) is None:
            store.create(make.pool(name))
        elif turn % 3 == 0:
            store.remove(Key("Pool", name))
        else:
            store.set_status(Key("Pool", name), PoolStatus(replicas=turn))
        if turn % 2 == 0:
            store.commit()
        if turn % 5 == 0:
            seen += store.changes_since(seen[-1].revision if seen else 0)
    store.commit()
    seen += store.changes_since(seen[-1].revision)

    revisions = [change.revision for change in seen]
    assert revisions == sorted(set(revisions)) and revisions[-1] == store.revision
    held = {}
    for change in seen:
        assert (change.object.key in held) == (change.type != "ADDED")
        if change.type == "DELETED":
            del held[change.object.key]
        else:
            held[change.object.key] = change.object
    assert held == {pool.key: pool for pool in store.all(Pool)}


def test_a_watch_from_before_the_window_is_gone(store, make, monkeypatch):
    monkeypatch.setattr("reconciler.store.memory.WATCH_WINDOW", 3)
    for number in range(5):
        store.create(make.pool(f"p{number}"))
    store.commit()

    assert [change.revision for change in store.changes_since(2)] == [3, 4, 5]
    with pytest.raises(Gone):
        store.changes_since(1)
    with pytest.raises(Gone, match="has not reached revision 6"):
        store.changes_since(6)


def _event(clock, message="it ended", reason="Exited") -> Event:
    return event(WEB, reason, message, clock.now())


def test_the_same_event_within_ten_minutes_is_counted(store, clock):
    store.add_event(_event(clock))
    clock.advance(599)
    store.add_event(_event(clock, "another"))
    store.add_event(_event(clock))

    assert [(e.message, e.count) for e in store.events()] == [("another", 1), ("it ended", 2)]
    assert store.events()[1].at == clock.now()

    clock.advance(600)
    store.add_event(_event(clock))
    assert [e.count for e in store.events()] == [1, 2, 1]


def test_events_are_those_of_one_object_and_the_newest(store, clock):
    for number in range(5):
        store.add_event(_event(clock, f"message {number}"))
    store.add_event(event(Key("Pool", "api"), "Exited", "other", clock.now()))

    assert [e.message for e in store.events("pool/web", limit=2)] == ["message 3", "message 4"]
    assert [e.message for e in store.events("pool/api")] == ["other"]


def test_only_the_newest_events_are_kept(store: Store, clock):
    for number in range(EVENTS_KEPT + 20):
        store.add_event(_event(clock, f"message {number}"))
        if number % 4000 == 0:
            store.commit()
    store.commit()

    kept = store.events(limit=2 * EVENTS_KEPT)
    assert len(kept) == EVENTS_KEPT
    assert (kept[0].message, kept[-1].message) == ("message 20", f"message {EVENTS_KEPT + 19}")


def test_counts_are_those_of_the_records_at_every_step(store, make):
    first, second = make.task(store), make.task(store)
    make.task(store, pool="other")
    assert store.tasks.counts("batch")[TaskState.PENDING] == 2

    first.state = TaskState.RUNNING
    store.tasks.stage(first)
    store.tasks.stage(first)
    store.commit()
    first.state, second.state = TaskState.SUCCEEDED, TaskState.CANCELLED
    store.tasks.stage(first)
    store.tasks.stage(second)
    for _ in range(2):
        got = store.tasks.counts("batch")
        assert {state: number for state, number in got.items() if number} == {
            TaskState.SUCCEEDED: 1,
            TaskState.CANCELLED: 1,
        }
        store.commit()
    assert sum(store.tasks.counts("nowhere").values()) == 0


def test_an_ended_task_leaves_the_live_ones_and_can_still_be_read(store, make):
    task = make.task(store, key="k")
    store.commit()
    task.state, task.exit_code, task.attempts = TaskState.FAILED, 3, 1
    store.tasks.stage(task)
    assert list(store.tasks.live()) == []
    store.commit()

    got = store.tasks.get(task.id)
    assert (got.state, got.exit_code, got.attempts, got.spec) == (TaskState.FAILED, 3, 1, '{"number":1}')
    assert store.tasks.specs([task.id]) == {task.id: '{"number":1}'}
    assert store.tasks.by_key("batch", "k").id == task.id
    assert store.tasks.by_key("other", "k") is None
    assert store.tasks.get(99) is None and store.tasks.get(1 << 70) is None


def test_an_end_never_changes(store, make):
    """I3: a task that has succeeded is never run again."""
    task = make.task(store)
    store.commit()
    task.state = TaskState.SUCCEEDED
    store.tasks.stage(task)
    task.state = TaskState.PENDING
    with pytest.raises(ValueError, match="task 1 has ended as Succeeded"):
        store.tasks.stage(task)
    task.state = TaskState.SUCCEEDED
    store.commit()

    task.state = TaskState.PENDING
    with pytest.raises(ValueError, match="task 1 has ended"):
        store.tasks.stage(task)


def test_new_tasks_can_be_taken_back_and_their_numbers_are_not_given_again(store, make):
    kept = make.task(store)
    store.commit()
    kept.state = TaskState.RUNNING
    store.tasks.stage(kept)
    new = [make.task(store, key="k"), make.task(store)]

    assert store.tasks.drop_new() == new
    assert store.tasks.by_key("batch", "k") is None
    assert list(store.tasks.live()) == [kept]
    assert sum(store.tasks.counts("batch").values()) == 1
    assert make.task(store, key="k").id == 4
    store.commit()
    assert [task.id for task in store.tasks.query()] == [1, 4]


def test_tasks_are_found_by_pool_state_time_and_page(store, make):
    for pool in ("a", "b", "a"):
        for state in (TaskState.PENDING, TaskState.FAILED, TaskState.RUNNING):
            make.task(store, pool, state=state)
    store.commit()

    def ids(**what):
        return [task.id for task in store.tasks.query(**what)]

    assert ids() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert ids(pool="a") == [1, 2, 3, 7, 8, 9]
    assert ids(state=TaskState.FAILED) == [2, 5, 8]
    assert ids(pool="a", state=TaskState.FAILED) == [2, 8]
    assert ids(pool="a", limit=2, after_id=2) == [3, 7]
    assert ids(since_ms=1008) == [8, 9]
    assert [task.spec for task in store.tasks.query(limit=1)] == ['{"number":1}']


def test_what_a_query_returns_is_a_copy(store, make):
    make.task(store)
    store.commit()
    store.tasks.query()[0].state = TaskState.FAILED

    assert store.tasks.get(1).state is TaskState.PENDING


def test_what_happens_to_many_tasks_alike_is_one_event_that_names_the_last(store, clock):
    for number in (3, 12, 7):
        store.add_event(event(Key("Pool", "batch"), "Exited", f"task/{number}: exit code 9", clock.now()))
    store.add_event(event(Key("Pool", "batch"), "Exited", "task/7: exit code 8", clock.now()))
    assert [(one.message, one.count) for one in store.events()] == [
        ("task/7: exit code 9", 3),
        ("task/7: exit code 8", 1),
    ]
