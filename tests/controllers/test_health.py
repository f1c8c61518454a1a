"""What `status` lists as problems."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.controllers.health import (
    MANY_RESTARTS,
    SHORT_WHILE_S,
    SILENT_S,
    Ground,
    asked_for,
    left_behind,
    problems,
)
from reconciler.resources.meta import Condition, Metadata, Origin, Status
from reconciler.resources.pool import Pool, PoolSpec, PoolStatus

WELL = Ground(degraded="", launcher={"pid": 7}, silent_s=0.0, up_s=5.0, sources=[("m", "")], sockets={}, said=[])


def pool(*conditions: tuple[str, Status, str, str]) -> Pool:
    said = tuple(
        Condition(
            type=type_,
            status=status,
            reason=reason,
            message=message,
            last_transition_time=datetime(2026, 1, 1, tzinfo=UTC),
        )
        for type_, status, reason, message in conditions
    )
    return Pool(metadata=Metadata(name="web"), spec=PoolSpec(), status=PoolStatus(conditions=said))


def test_there_is_nothing_to_say_when_all_is_well() -> None:
    fine = pool(
        ("Ready", Status.TRUE, "AllReady", ""),
        ("Progressing", Status.FALSE, "Complete", ""),
        ("Degraded", Status.FALSE, "AsExpected", ""),
    )
    assert problems(WELL, [fine]) == []


def test_a_pool_that_an_operator_has_stopped_is_no_problem() -> None:
    stopped = pool(
        ("Ready", Status.FALSE, "Stopped", "stopped by user me"),
        ("Progressing", Status.FALSE, "Stopped", ""),
        ("Degraded", Status.FALSE, "AsExpected", ""),
        ("Stopped", Status.FALSE, "ByOperator", "stopped by user me"),
    )
    assert problems(WELL, [stopped]) == []


def test_what_an_operator_holds_is_said_beside_the_pool() -> None:
    drained = pool(("Ready", Status.TRUE, "Draining", "drained by user me"))
    held = pool(
        ("Ready", Status.TRUE, "AllReady", ""),
        ("Progressing", Status.FALSE, "RolloutPaused", "paused by user me; a change of the template waits"),
    )
    assert asked_for(drained) == "drained by user me"
    assert asked_for(held) == "rollout paused by user me; a change of the template waits"
    assert asked_for(pool(("Ready", Status.TRUE, "AllReady", ""))) == ""
    assert problems(WELL, [drained, held]) == []


def test_a_pool_that_is_stopped_and_cannot_end_is_a_problem() -> None:
    stuck = pool(
        ("Ready", Status.FALSE, "Stopped", "stopped by user me"),
        ("Degraded", Status.TRUE, "StopStuck", "worker/web-0: SIGKILL has not ended it"),
    )
    assert problems(WELL, [stuck]) == ["pool/web: StopStuck: worker/web-0: SIGKILL has not ended it"]


def test_a_pool_that_is_not_ready_and_a_rollout_that_failed_are_problems() -> None:
    bad = pool(
        ("Ready", Status.FALSE, "NotAllReady", "1 of 2 workers are ready"),
        ("Progressing", Status.FALSE, "RolloutFailed", "web-1: exit code 1"),
    )
    assert problems(WELL, [bad]) == [
        "pool/web: NotAllReady: 1 of 2 workers are ready",
        "pool/web: RolloutFailed: web-1: exit code 1",
    ]


@pytest.mark.parametrize(
    ("ground", "line"),
    [
        (WELL._replace(degraded="disk full"), "nothing can be made durable: disk full"),
        (
            WELL._replace(launcher={"controllerRestarts": MANY_RESTARTS}),
            "the controller has been started again 3 times; its output says why",
        ),
        (WELL._replace(sources=[("m", "bad"), ("n", "")]), "source m: bad"),
        (WELL._replace(silent_s=SILENT_S), "LauncherUnresponsive: the launcher (pid 7) has not answered for 4 s"),
        (WELL._replace(sockets={"web": "in use"}), "socket web: in use"),
        (WELL._replace(said=["a log", "a log"]), "a log"),
    ],
)
def test_what_everything_stands_on_is_said_once(ground: Ground, line: str) -> None:
    assert problems(ground, []) == [line]


def test_restarts_of_the_controller_are_forgotten_after_a_while() -> None:
    assert problems(WELL._replace(launcher={"controllerRestarts": 9}, up_s=SHORT_WHILE_S), []) == []


def test_a_pool_that_an_operator_has_paused_or_drains_is_no_problem() -> None:
    paused = pool(("Ready", Status.FALSE, "Paused", "paused by user me: new disk"))
    drained = pool(("Ready", Status.FALSE, "Draining", "drained by user me"))
    assert problems(WELL, [paused, drained]) == []
    assert asked_for(paused) == "paused by user me: new disk"


def test_what_a_source_declared_that_is_read_no_longer_is_named_with_the_command_that_removes_it() -> None:
    def of(source: str, name: str, **metadata: Any) -> Pool:
        origin = Origin(path="web.yaml", line=1, source=source)
        return Pool(metadata=Metadata(name=name, source=origin, **metadata), spec=PoolSpec())

    gone = datetime(2026, 1, 1, tzinfo=UTC)
    objects = [of("/b", "new"), of("apply", "hand"), of("", "nobody"), of("/a", "x"), of("/a", "z", deleted_at=gone)]
    assert left_behind(objects, ["apply", "/b"]) == [
        "source /a is read no longer, and what it declared stays: give it to `up` again, or remove that with"
        " `reconciler delete pool/x`"
    ]
    assert left_behind(objects, ["apply", "/a", "/b"]) == []
    (many,) = left_behind([of("/a", f"p-{index}") for index in range(25)], [])
    assert many.endswith("pool/p-18 pool/p-19` and 5 more")
