"""A rollout that an operator has paused, one that goes back by itself, and the history of a pool's templates."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from reconciler.controllers.base import Create, Plan, Record, SetSpec, SetStatus
from reconciler.controllers.pool import plan
from reconciler.resources.meta import Intent, Origin, Wish
from reconciler.resources.pool import Pool, PoolStatus, Rollout, Template, template_hash
from reconciler.resources.revision import Revision
from reconciler.resources.units import format_moment
from reconciler.resources.worker import LastExit, Process, Reason, State
from tests.controllers.test_pool import HASH, KEY, NOW, TODAY, World, all_of, condition, pool, revision, worker

BEFORE = Template(command=["./serve", "--before"])
GOOD = template_hash(BEFORE)


def rolling(failed: str = "", moved: float = 0) -> Rollout:
    at = format_moment(NOW - timedelta(seconds=moved))
    return Rollout(template_hash=HASH, began_at=at, moved_at=at, failed=failed)


def asked(wish: Wish, wanted: Pool) -> Pool:
    intent = Intent(wish=wish, actor="user ann", reason="look first", at=NOW)
    return wanted.changed(metadata=wanted.metadata.changed(rollout=intent))


def changing(on_failure: str = "Pause", **status: Any) -> Pool:
    """A pool whose template is TODAY's and was BEFORE."""
    fields = {"template_hash": GOOD, **status}
    return pool(strategy={"onFailure": on_failure}).changed(status=PoolStatus(**fields))


def replaced(made: Plan) -> dict[str, str]:
    return {a.key.name: a.spec.template_hash for a in all_of(made, SetSpec) if a.key.kind == "Worker"}


def broken(ordinal: int) -> Any:
    end = LastExit(code=1, reason=Reason.EXITED, at=NOW)
    return worker(
        ordinal, HASH, ready=False, process=Process.NONE, state=State.BACKOFF, failures=1, last_exit=end, pid=None
    )


def history() -> list[Revision]:
    return [revision(BEFORE, 1), revision(TODAY, 2)]


def test_a_paused_rollout_replaces_nobody_and_says_by_whom() -> None:
    workers = [worker(0), worker(1, GOOD), worker(2, GOOD)]
    made = plan(KEY, World(asked(Wish.PAUSED, changing(rollout=rolling())), workers, history()), NOW)
    assert replaced(made) == {}
    said = condition(made, "Progressing")
    assert said[:2] == ("False", "RolloutPaused")
    assert (
        said[2]
        == f"paused by user ann: look first; a change of the template waits: 1 of 3 workers have template {HASH}"
    )
    assert made.requeue_at is None


def test_a_change_that_comes_while_it_is_paused_waits_even_where_nobody_is_up() -> None:
    down = [worker(n, GOOD, ready=False, process=Process.NONE, state=State.BACKOFF) for n in range(3)]
    for workers in ([worker(n, GOOD) for n in range(3)], down):
        made = plan(KEY, World(asked(Wish.PAUSED, changing()), workers, history()), NOW)
        assert replaced(made) == {}
        assert "; a change of the template waits: 0 of 3 workers" in condition(made, "Progressing")[2]


def test_a_pause_with_nothing_to_roll_out_says_that_no_change_waits() -> None:
    made = plan(KEY, World(asked(Wish.PAUSED, pool()), [worker(n) for n in range(3)], history()), NOW)
    assert condition(made, "Progressing")[2] == "paused by user ann: look first; no change waits"


def test_a_new_slot_of_a_paused_rollout_takes_what_was_good() -> None:
    world = World(asked(Wish.PAUSED, changing(rollout=rolling())), [worker(0), worker(1, GOOD)], history())
    (made,) = [a for a in all_of(plan(KEY, world, NOW), Create) if a.object.kind == "Worker"]
    assert made.object.spec.template_hash == GOOD


def test_a_resumed_rollout_goes_on_and_its_deadline_begins_anew() -> None:
    resumed = asked(Wish.STARTED, changing(rollout=rolling(moved=3600)))
    made = plan(KEY, World(resumed, [worker(0), worker(1, GOOD), worker(2, GOOD)], history()), NOW)
    assert replaced(made) == {"web-1": HASH}
    assert condition(made, "Progressing")[1] == "RollingOut"


def test_by_default_a_failed_rollout_stands() -> None:
    world = World(changing(rollout=rolling("it broke")), [broken(0), worker(1, GOOD), worker(2, GOOD)], history())
    assert replaced(plan(KEY, world, NOW)) == {}


def test_with_rollback_the_new_ones_go_back_those_that_are_down_first() -> None:
    back = changing("Rollback", rollout=rolling("it broke"))
    made = plan(KEY, World(back, [worker(0), broken(1), worker(2, GOOD)], history()), NOW)
    assert replaced(made) == {"web-1": GOOD}
    coming = worker(1, GOOD, ready=False, process=Process.ASKED, state=State.STARTING)
    made = plan(KEY, World(back, [worker(0), coming, worker(2, GOOD)], history()), NOW)
    assert replaced(made) == {}
    made = plan(KEY, World(back, [worker(0), worker(1, GOOD), worker(2, GOOD)], history()), NOW)
    assert replaced(made) == {"web-0": GOOD}


def test_what_has_gone_back_is_not_tried_again_until_the_template_changes() -> None:
    back = changing("Rollback", rollout=rolling("it broke"))
    made = plan(KEY, World(back, [worker(n, GOOD) for n in range(3)], history()), NOW)
    assert replaced(made) == {}
    assert condition(made, "Progressing")[1] == "RolloutFailed"
    other = back.changed(spec=back.spec.changed(template=Template(command=["./serve", "--mended"])))
    made = plan(KEY, World(other, [worker(n, GOOD) for n in range(3)], history()), NOW)
    assert replaced(made) == {"web-0": template_hash(other.spec.template)}


def test_the_event_of_a_failed_rollout_says_what_becomes_of_it() -> None:
    back = changing("Rollback", rollout=rolling())
    made = plan(KEY, World(back, [broken(0), worker(1, GOOD), worker(2, GOOD)], history()), NOW)
    (said,) = [a.event.message for a in all_of(made, Record) if a.event.reason == "RolloutFailed"]
    assert said.endswith(f"all go back to template {GOOD}")


def test_a_revision_knows_who_declared_it_where_and_when() -> None:
    wanted = changing()
    source = Origin(path="web.yaml", line=3, revision="abc", source="/srv")
    wanted = wanted.changed(metadata=wanted.metadata.changed(source=source, changed_by="source"))
    made = plan(KEY, World(wanted, [worker(0, GOOD)], [revision(BEFORE, 1)]), NOW)
    (new,) = [a.object for a in all_of(made, Create) if a.object.kind == "Revision"]
    assert (new.spec.number, new.spec.since) == (2, NOW)
    cause = new.spec.cause
    assert (cause.actor, cause.path, cause.line, cause.revision) == ("source", "web.yaml", 3, "abc")


def test_a_template_that_comes_back_is_the_newest_revision() -> None:
    world = World(changing(), [worker(n) for n in range(3)], [revision(TODAY, 1), revision(BEFORE, 2)])
    (renewed,) = [a for a in all_of(plan(KEY, world, NOW), SetSpec) if a.key.kind == "Revision"]
    assert (renewed.spec.template_hash, renewed.spec.number, renewed.spec.since) == (HASH, 3, NOW)


def test_a_revision_keeps_up_with_fields_that_replace_nobody() -> None:
    calm = TODAY.changed(stop=TODAY.stop.changed(grace_period_s=5.0))
    assert template_hash(calm) == HASH
    world = World(pool(template=calm), [worker(n) for n in range(3)], [revision(TODAY, 1)])
    (kept,) = [a for a in all_of(plan(KEY, world, NOW), SetSpec) if a.key.kind == "Revision"]
    assert (kept.spec.template, kept.spec.number) == (calm, 1)


def test_nothing_is_written_of_a_pause_where_all_stands() -> None:
    world = World(
        asked(Wish.PAUSED, changing(rollout=rolling())), [worker(0), worker(1, GOOD), worker(2, GOOD)], history()
    )
    status = all_of(plan(KEY, world, NOW), SetStatus)[0].status
    again = World(world.pool.changed(status=status) if world.pool else None, world.workers, world.revisions)
    assert all_of(plan(KEY, again, NOW + timedelta(hours=2)), SetStatus) == []
