"""What one Pool's plan says; whole courses are told in tests/stories."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.controllers.base import Create, Delete, Lane, Mode, Plan, Remove, SetSpec, SetStatus
from reconciler.controllers.pool import plan
from reconciler.controllers.revisions import REVISIONS_KEPT
from reconciler.controllers.tally import Tally
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus, Rollout, TaskCounts, Template, template_hash
from reconciler.resources.revision import Revision, RevisionSpec, revision_name
from reconciler.resources.units import format_moment
from reconciler.resources.worker import LastExit, Process, Reason, State, Worker, WorkerSpec, WorkerStatus

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = Key("Pool", "web")
TODAY = Template(command=["./serve"])
HASH = template_hash(TODAY)


@dataclass
class World:
    """A pool, its workers and revisions, and its queue, as values."""

    pool: Pool | None
    workers: list[Worker] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    mode: Mode = Mode.RUNNING
    claimed: int = 0
    still: int = 0
    counts: dict[str, int] = field(default_factory=dict)

    def get(self, model: type[Any], name: str) -> Any:
        if model is Worker:
            return next((worker for worker in self.workers if worker.name == name), None)
        return self.pool

    def tally(self, pool: str) -> Tally:
        return Tally(self.workers)

    def dependents(self, pool: str) -> list[Pool]:
        return []

    def owned_by(self, owner: Key, model: type[Any]) -> Any:
        return {Worker: self.workers, Revision: self.revisions}[model]

    def template(self, pool: str, template_hash: str) -> Template | None:
        found = [r.spec.template for r in self.revisions if r.spec.template_hash == template_hash]
        return found[0] if found else None

    def queue(self, pool: str) -> Any:
        return self


def pool(replicas: int = 3, template: Template = TODAY, **spec: Any) -> Pool:
    made = PoolSpec.model_validate({"replicas": replicas, **spec}).changed(template=template)
    return Pool(metadata=Metadata(name="web", generation=4), spec=made)


def worker(ordinal: int, hash_: str = HASH, **status: Any) -> Worker:
    fields = {"process": Process.UP, "state": State.READY, "ready": True, "started_at": NOW - timedelta(hours=1)}
    return Worker(
        metadata=Metadata(name=f"web-{ordinal}", owner="pool/web"),
        spec=WorkerSpec(pool="web", ordinal=ordinal, template_hash=hash_),
        status=WorkerStatus(**{**fields, "template_hash": hash_, **status}),
    )


def revision(template: Template = TODAY, number: int = 1) -> Revision:
    hash_ = template_hash(template)
    return Revision(
        metadata=Metadata(name=revision_name("web", hash_), owner="pool/web"),
        spec=RevisionSpec(pool="web", number=number, template_hash=hash_, template=template),
    )


def deleted(obj: Any) -> Any:
    return obj.changed(metadata=obj.metadata.changed(deleted_at=NOW))


def all_of(made: Plan, kind: type[Any]) -> list[Any]:
    return [action for action in made.actions if isinstance(action, kind)]


def created_workers(made: Plan) -> list[Create]:
    return [create for create in all_of(made, Create) if isinstance(create.object, Worker)]


def condition(made: Plan, type_: str) -> tuple[str, str, str]:
    found = next(c for c in all_of(made, SetStatus)[0].status.conditions if c.type == type_)
    return found.status.value, found.reason, found.message


def test_a_pool_that_is_gone_needs_nothing() -> None:
    assert plan(KEY, World(None), NOW) == Plan()


def test_missing_ordinals_are_filled_lowest_first() -> None:
    made = plan(KEY, World(pool(4), [worker(1)], [revision()]), NOW)
    assert [create.object.name for create in created_workers(made)] == ["web-0", "web-2", "web-3"]
    first = created_workers(made)[0].object
    assert (first.metadata.owner, first.spec.pool, first.spec.template_hash) == ("pool/web", "web", HASH)


def test_scaling_down_stops_the_highest_ordinals_first() -> None:
    made = plan(KEY, World(pool(1), [worker(0), worker(1), worker(2)], [revision()]), NOW)
    assert [delete.key.name for delete in all_of(made, Delete)] == ["web-2", "web-1"]


def test_a_slot_is_filled_again_only_when_its_last_worker_has_gone() -> None:
    made = plan(KEY, World(pool(2), [worker(0), deleted(worker(1))], [revision()]), NOW)
    assert created_workers(made) == []


def test_when_all_is_well_nothing_is_planned() -> None:
    world = World(pool(2), [worker(0), worker(1)], [revision()])
    first = plan(KEY, world, NOW)
    assert world.pool is not None
    world.pool = world.pool.changed(status=all_of(first, SetStatus)[0].status)
    assert plan(KEY, world, NOW + timedelta(seconds=30)) == Plan()


def test_ports_are_given_by_ordinal_or_left_to_the_machine() -> None:
    ports = [{"name": "http", "base": 9000}, {"name": "admin", "port": 7000}, {"name": "debug"}]
    template = Template.model_validate({"command": ["./serve"], "ports": ports})
    made = plan(KEY, World(pool(2, template)), NOW)
    second = created_workers(made)[1]
    assert second.object.spec.ports == {"http": 9001, "admin": 7000}
    assert second.free_ports == ("debug",)


def test_a_changed_template_brings_its_ports_and_keeps_a_chosen_one() -> None:
    ports = [{"name": "http", "base": 9100}, {"name": "debug"}, {"name": "more"}]
    template = Template.model_validate({"command": ["./serve", "v2"], "ports": ports})
    old = worker(0, "old")
    old = old.changed(spec=old.spec.changed(ports={"http": 9000, "debug": 40123}))
    change = all_of(plan(KEY, World(pool(1, template), [old]), NOW), SetSpec)[0]
    assert change.spec.ports == {"http": 9100, "debug": 40123}
    assert change.spec.template_hash == template_hash(template)
    assert change.free_ports == ("more",)


def test_a_revision_is_kept_of_every_template() -> None:
    made = plan(KEY, World(pool(1), [worker(0, "old")], [revision(Template(command=["./old"]), 3)]), NOW)
    new = next(create.object for create in all_of(made, Create) if isinstance(create.object, Revision))
    assert (new.spec.number, new.spec.template_hash, new.spec.template) == (4, HASH, TODAY)
    again = plan(KEY, World(pool(1), [worker(0)], [revision()]), NOW)
    assert all_of(again, Create) == []


def test_ten_revisions_that_nobody_uses_are_kept() -> None:
    templates = [Template(command=["./serve", str(n)]) for n in range(15)]
    revisions = [revision(template, n + 1) for n, template in enumerate(templates)]
    used = worker(0, template_hash(templates[0]))
    made = plan(KEY, World(pool(1, templates[14]), [used], revisions), NOW)
    unused = revisions[1:14]
    assert [r.key for r in all_of(made, Remove)] == [r.key for r in unused[: len(unused) - REVISIONS_KEPT]]


def test_names_of_revisions_of_long_named_pools_are_different_and_fit() -> None:
    one, other = revision_name("a" * 62 + "b", HASH), revision_name("a" * 62 + "c", HASH)
    assert one != other
    assert len(one) <= 63


def test_after_a_failed_rollout_new_slots_take_what_was_good() -> None:
    good = Template(command=["./good"])
    failed = Rollout(template_hash=HASH, began_at=format_moment(NOW), moved_at=format_moment(NOW), failed="it broke")
    status = PoolStatus(rollout=failed, template_hash=template_hash(good))
    wanted = pool(3).changed(status=status)
    world = World(wanted, [worker(0), worker(1, template_hash(good))], [revision(good), revision()])
    assert created_workers(plan(KEY, world, NOW))[0].object.spec.template_hash == template_hash(good)


def test_readiness_restarts_and_templates_are_counted() -> None:
    fresh = NOW - timedelta(seconds=2)
    workers = [
        worker(0, restarts=2),
        worker(1, restarts=1, started_at=fresh),
        worker(2, ready=False, state=State.BACKOFF),
    ]
    made = plan(KEY, World(pool(3, strategy={"minReady": "5s"}), workers, [revision()]), NOW)
    status = all_of(made, SetStatus)[0].status
    assert (status.observed_generation, status.desired_replicas, status.replicas) == (4, 3, 3)
    assert (status.ready_replicas, status.available_replicas, status.updated_replicas) == (2, 1, 3)
    assert status.restarts == 3
    assert made.requeue_at == fresh + timedelta(seconds=5)
    assert condition(made, "Ready") == ("False", "NotAllReady", "2 of 3 workers are ready")


def test_fault_P11_a_crash_loop_names_the_worker_and_its_next_try() -> None:
    end = LastExit(code=3, reason=Reason.EXITED, at=NOW)
    ill = worker(
        1,
        ready=False,
        state=State.BACKOFF,
        last_exit=end,
        next_start_at=NOW + timedelta(seconds=4),
        message="exit code 3",
    )
    made = plan(KEY, World(pool(2), [worker(0), ill], [revision()]), NOW)
    message = "worker/web-1: exit code 3; next start at 2026-11-23T12:00:04.000Z"
    assert condition(made, "Degraded") == ("True", "CrashLoop", message)


def test_while_everything_stops_nothing_is_created() -> None:
    made = plan(KEY, World(pool(3), [worker(0)], [], Mode.STOPPING), NOW)
    assert [type(action) for action in made.actions] == [SetStatus]


def test_a_deleted_pool_goes_after_its_workers() -> None:
    made = plan(KEY, World(deleted(pool(2)), [worker(0), deleted(worker(1))], [revision()]), NOW)
    assert [delete.key.name for delete in all_of(made, Delete)] == ["web-0"]
    assert all_of(made, Remove) == []
    last = plan(KEY, World(deleted(pool(2)), [], [revision()]), NOW)
    assert last.actions == (Remove(revision().key), Remove(KEY))


# Slots for tasks.


def test_a_task_pool_has_slots_and_no_workers() -> None:
    counts = {"Pending": 2, "Delayed": 1, "Retrying": 4, "Running": 3, "DeadLettered": 1}
    made = plan(KEY, World(pool(4, tasks={}), [], [revision()], counts=counts), NOW)
    assert all_of(made, Lane) == [Lane("web", 4, HASH)]
    assert all_of(made, Create) == []
    assert all_of(made, SetStatus)[0].status.tasks == TaskCounts(pending=7, running=3, dead_lettered=1)
    assert condition(made, "Ready")[:2] == ("True", "SlotsOpen")
    assert all_of(plan(KEY, World(pool(4, tasks={}), [], [revision()], still=2), NOW), Lane) == [
        Lane("web", 6, HASH, 2)
    ]


def test_a_pool_that_gets_tasks_loses_its_workers_first() -> None:
    made = plan(KEY, World(pool(1, tasks={}), [worker(0)], [revision()]), NOW)
    assert [delete.key.name for delete in all_of(made, Delete)] == ["web-0"]
    assert all_of(made, Lane) == []


def test_while_everything_stops_no_slot_is_open() -> None:
    made = plan(KEY, World(pool(4, tasks={}), [], [revision()], Mode.STOPPING), NOW)
    assert all_of(made, Lane) == [Lane("web", 0, HASH)]


def test_a_deleted_task_pool_waits_for_what_runs() -> None:
    made = plan(KEY, World(deleted(pool(4, tasks={})), [], [revision()], claimed=1), NOW)
    assert all_of(made, Lane) == [Lane("web", 0, HASH)]
    assert all_of(made, Remove) == []
    assert Remove(KEY) in plan(KEY, World(deleted(pool(4, tasks={})), [], [revision()]), NOW).actions


# Whatever is there: the plan leads to what is wanted.


@given(
    replicas=st.integers(0, 8),
    there=st.dictionaries(st.integers(0, 9), st.tuples(st.sampled_from(["a", HASH]), st.booleans(), st.booleans())),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_invariant_I4_from_any_start_the_wanted_workers_are_reached(
    replicas: int, there: dict[int, tuple[str, bool, bool]]
) -> None:
    workers = []
    for ordinal in sorted(there):
        hash_, ready, going = there[ordinal]
        one = worker(ordinal, hash_, ready=ready)
        workers.append(deleted(one) if going else one)
    world = World(pool(replicas), workers, [revision()])
    now = NOW
    for _ in range(100):
        made = plan(KEY, world, now)
        _carry_out(world, made, now)
        now += timedelta(seconds=1)
    assert [w.spec.ordinal for w in world.workers] == list(range(replicas))
    assert all(w.status.template_hash == HASH for w in world.workers)
    assert world.pool is not None and world.pool.status.ready_replicas == replicas
    assert plan(KEY, world, now) == Plan()


def _carry_out(world: World, made: Plan, now: datetime) -> None:
    """A machine on which everything works at once."""
    world.workers = [
        w.changed(
            status=w.status.changed(
                process=Process.UP,
                ready=True,
                state=State.READY,
                template_hash=w.spec.template_hash,
                started_at=w.status.started_at if w.status.template_hash == w.spec.template_hash else now,
            )
        )
        for w in world.workers
        if w.metadata.deleted_at is None
    ]
    for action in made.actions:
        match action:
            case Create(object=Worker() as new):
                world.workers = sorted([*world.workers, new], key=lambda w: w.spec.ordinal)
            case Delete(key=key):
                world.workers = [deleted(w) if w.key == key else w for w in world.workers]
            case SetSpec(key=key, spec=spec):
                world.workers = [w.changed(spec=spec) if w.key == key else w for w in world.workers]
            case SetStatus(status=status):
                assert world.pool is not None
                world.pool = world.pool.changed(status=status)
