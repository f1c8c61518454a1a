"""The launcher's bookkeeping, values in and values out."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.launcher.again import failures_after, restart_delay_s
from reconciler.launcher.machine import Child, Machine
from reconciler.launcher.protocol import FrameError, Template
from reconciler.launcher.table import TABLE, E, S


def machine(**template: Any) -> Machine:
    made = Machine()
    made.register(Template("t", ["true"], {}, **template))
    return made


def ask(made: Machine, key: str, instance: str = "") -> None:
    made.spawn(key, instance or f"{key}-1", "t", None, None, None)


def begin(made: Machine, limit: int = 32) -> list[Child]:
    children = made.take(limit, 1_000)
    for number, child in enumerate(children, 100):
        made.started(child, number, 5_000, 77)
    return children


def words(made: Machine) -> list[Any]:
    return [list(message) for message in made.frame()]


def test_the_table_says_what_happens_in_every_state() -> None:
    assert set(TABLE) == set(product(S, E))


def test_an_intent_is_recorded_before_anything_is_started() -> None:
    made = machine(stop_signal=2, grace_ms=500)
    ask(made, "web-0")
    assert made.records == []
    (child,) = made.take(32, 1_000)
    assert made.records == [("intent", "web-0", "web-0-1", 2, 500, None, None, None, 1_000, True, None, None)]
    assert child.state is S.INTENDED
    assert made.frame() == []


def test_asked_twice_it_runs_once() -> None:
    made = machine()
    ask(made, "web-0")
    ask(made, "web-0")
    assert len(begin(made)) == 1
    made.frame()
    ask(made, "web-0")
    assert begin(made) == []
    assert words(made) == [["started", [("web-0", "web-0-1", 100, 5_000, None)]]]


def test_asked_again_after_its_end_it_tells_the_end_again_until_that_is_acknowledged() -> None:
    made = machine(contain=False)
    ask(made, "task/1")
    (child,) = begin(made)
    made.exited(child, {"code": 3})
    made.frame()
    ask(made, "task/1")
    assert words(made) == [["exited", [(1, "task/1", "task/1-1", {"code": 3})]]]
    made.ack(1)
    ask(made, "task/1")
    assert len(begin(made)) == 1


def test_a_key_is_never_held_by_two_live_instances() -> None:
    made = machine()
    ask(made, "web-0", "one")
    begin(made)
    made.frame()
    ask(made, "web-0", "two")
    assert begin(made) == []
    assert words(made) == [["blocked", "web-0", "two", "instance one holds the key: it runs"]]


def test_a_key_is_held_until_the_tree_of_its_last_instance_is_gone() -> None:
    made = machine()
    ask(made, "web-0", "one")
    (child,) = begin(made)
    made.exited(child, {"signal": 9})
    made.ack(1)
    ask(made, "web-0", "two")
    assert begin(made) == []
    made.emptied(child, 2)
    made.frame()
    ask(made, "web-0", "two")
    assert [child.instance for child in begin(made)] == ["two"]


def test_an_instance_under_another_key_breaks_the_protocol() -> None:
    made = machine()
    ask(made, "a", "one")
    with pytest.raises(FrameError, match="one is a, not b"):
        ask(made, "b", "one")
    with pytest.raises(FrameError, match="not registered"):
        made.spawn("c", "two", "unheard of", None, None, None)


def test_a_lane_starts_as_many_as_it_has_slots_and_gives_the_lowest_free_one_first() -> None:
    made = machine(lane="batch", contain=False)
    made.lane("batch", 3)
    for number in range(6):
        ask(made, f"task/{number}")
    first = begin(made)
    assert [(child.key, child.slot) for child in first] == [("task/0", 0), ("task/1", 1), ("task/2", 2)]
    made.exited(first[2], {"code": 0})
    made.exited(first[0], {"code": 0})
    assert [(child.key, child.slot) for child in begin(made)] == [("task/3", 0), ("task/4", 2)]


def test_a_shrunken_lane_kills_nothing_and_starts_nothing_until_enough_have_ended() -> None:
    made = machine(lane="batch", contain=False)
    made.lane("batch", 4)
    for number in range(8):
        ask(made, f"task/{number}")
    running = begin(made)
    made.lane("batch", 2)
    made.exited(running[0], {"code": 0})
    made.exited(running[1], {"code": 0})
    assert begin(made) == []
    made.exited(running[3], {"code": 0})
    assert [child.slot for child in begin(made)] == [0]
    made.exited(running[2], {"code": 0})
    assert [child.slot for child in begin(made)] == [1]


def test_a_lane_that_was_never_declared_starts_nothing() -> None:
    made = machine(lane="batch")
    ask(made, "task/0")
    assert begin(made) == []
    made.lane("batch", 1)
    assert len(begin(made)) == 1


def test_no_lane_starves_another() -> None:
    made = Machine()
    for name in ("a", "b"):
        made.register(Template(name, ["true"], {}, lane=name))
        made.lane(name, 10)
        for number in range(5):
            made.spawn(f"{name}{number}", f"{name}{number}", name, None, None, None)
    assert [child.key for child in made.take(4, 0)] == ["a0", "b0", "a1", "b1"]


def test_what_waits_can_be_recalled_and_what_began_cannot() -> None:
    made = machine(lane="batch")
    made.lane("batch", 1)
    for number in range(3):
        ask(made, f"task/{number}")
    begin(made)
    made.frame()
    made.recall(["task/0", "task/2", "task/9"])
    assert words(made) == [["recalled", ["task/2"]]]
    ask(made, "task/2", "again")
    assert made.startable() is False


def test_what_waits_goes_with_its_controller_and_leaves_no_record() -> None:
    made = machine(lane="batch")
    made.lane("batch", 1)
    ask(made, "task/0")
    ask(made, "task/1")
    begin(made)
    made.hangup()
    assert [child.key for child in made.children(*S)] == ["task/0"]
    assert made.frame() == []
    assert [record[0] for record in made.records] == ["intent", "pid"]


def test_the_list_holds_what_lives_and_every_exit_that_is_not_acknowledged() -> None:
    made = machine(lane="batch")
    made.lane("batch", 3)
    for number in range(4):
        ask(made, f"task/{number}")
    zero, one, _ = begin(made)
    made.exited(zero, {"code": 0})
    made.exited(one, {"code": 1})
    made.emptied(one, 0)
    ((children, exited),) = made.listing(0, 0)
    assert [(row[0], row[4], row[6]) for row in children[1]] == [("task/0", 0, "emptying"), ("task/2", 2, "up")]
    assert [row[:2] for row in exited[1]] == [(1, "task/0"), (2, "task/1")]


def test_very_many_exits_come_in_frames_of_their_own_and_the_children_last() -> None:
    made = machine(contain=False)
    for number in range(10_001):
        ask(made, f"task/{number}")
    for child in begin(made, 10_001):
        made.exited(child, {"code": 0})
    ask(made, "web-0")
    begin(made)
    first, last = made.listing(0, 0)
    assert [(word, len(rows)) for word, rows in first] == [("exited", 10_000)]
    assert [(word, len(rows)) for word, rows in last] == [("children", 1), ("exited", 1)]


def test_the_list_tells_when_each_began_on_the_clock_as_it_stands_now() -> None:
    made = machine()
    ask(made, "web-0")
    (child,) = made.take(1, 60_000)
    made.started(child, 7, 1_700_000_000_000, 1)
    hour_ms = 3_600_000
    ((children,),) = made.listing(60_000 + 5_000, 1_700_000_000_000 + hour_ms)  # it has been set forward by an hour
    assert children[1][0][3] == 1_700_000_000_000 + hour_ms - 5_000


def test_a_signal_reaches_only_the_instance_that_holds_the_key() -> None:
    made = machine(contain=False)
    ask(made, "web-0", "one")
    (child,) = begin(made)
    assert made.alive("web-0", "one") is child
    assert made.alive("web-0", "zero") is None
    made.exited(child, {"code": 0})
    assert made.alive("web-0", "one") is None


def test_without_a_controller_everything_is_stopped_by_its_own_signal_within_its_own_grace() -> None:
    made = machine(stop_signal=2, grace_ms=1_500)
    ask(made, "web-0")
    begin(made)
    (stop,) = made.stop_plan(100.0, hurry=False)
    assert (stop.child.key, stop.signo, stop.kill_at) == ("web-0", 2, 101.5)
    assert made.stop_plan(100.0, hurry=True)[0].kill_at == 100.0


def _restored(records: list[Any]) -> Machine:
    made = Machine()
    for record in json.loads(json.dumps(records)):
        made.restore(record)
    return made


def test_the_journal_gives_back_the_same_children_exits_and_slots() -> None:
    made = machine(lane="batch")
    made.lane("batch", 3)
    for number in range(3):
        ask(made, f"task/{number}")
    zero, one, _ = begin(made)
    made.exited(zero, {"code": 0})
    made.exited(one, {"code": 1})
    made.emptied(one, 0)
    again = _restored([("head", 1, "boot", 0), *made.records])
    assert again.boot_id == "boot"
    assert {c.key: c.state for c in again.children(*S)} == {
        "task/0": S.EMPTYING, "task/1": S.ENDED, "task/2": S.INTENDED,
    }  # fmt: skip
    again.register(Template("t", ["true"], {}, lane="batch"))
    again.lane("batch", 3)
    ask(again, "task/3")
    assert [child.slot for child in again.take(9, 0)] == [1]


def test_sequence_numbers_never_go_back() -> None:
    made = machine(contain=False)
    ask(made, "a")
    made.exited(begin(made)[0], {"code": 0})
    made.ack(1)
    again = _restored(list(made.snapshot("boot")))
    again.skip_numbers()
    again.register(Template("t", ["true"], {}, contain=False))
    ask(again, "a")
    again.exited(begin(again)[0], {"code": 0})
    assert next(record for record in again.records if record[0] == "exit")[1] > 1


@pytest.mark.parametrize("record", [["pid", "x", 1, 1, 1], ["no word"], ["exit", 1], ["intent", "a"], ["emptied", "x"]])
def test_a_record_that_makes_no_sense_changes_nothing(record: list[Any]) -> None:
    made = Machine()
    with pytest.raises((ValueError, TypeError, KeyError, IndexError)):
        made.restore(record)
    assert made.children(*S) == []


_STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "take", "start", "fail", "exit", "empty", "ack", "recall", "hangup", "resize"]),
              st.integers(0, 5), st.integers(0, 2)),
    max_size=60,
)  # fmt: skip


def _play(steps: list[tuple[str, int, int]]) -> tuple[Machine, list[Any]]:
    made = Machine()
    for name, contain in (("t0", True), ("t1", False), ("t2", True)):
        made.register(Template(name, ["true"], {}, lane=None if name == "t2" else "lane", contain=contain))
    made.lane("lane", 2)
    records: list[Any] = [("head", 1, "boot", 0)]
    for step, number, kind in steps:
        some = made.children(*S)
        child = some[number % len(some)] if some else None
        if step == "ask":
            made.spawn(f"key{number}", f"key{number}.{kind}", f"t{kind}", None, None, None)
        elif step == "take":
            made.take(number, 1)
        elif step == "resize":
            made.lane("lane", number)
        elif step == "ack":
            made.ack(number)
        elif step == "recall":
            made.recall([f"key{number}"])
        elif step == "hangup":
            made.hangup()
        elif child is not None:
            if step == "start" and child.state is S.INTENDED:
                made.started(child, 10 + number, 1, 1)
            elif (step == "exit" and child.state is S.UP) or (step == "fail" and child.state is S.INTENDED):
                made.exited(child, {"code": 0})
            elif step == "empty" and child.state in (S.EMPTYING, S.ACKED) and child.contain:
                made.emptied(child, 0)
        records += made.records
        made.records = []
        used = [c.slot for c in made.children(S.INTENDED, S.UP, S.EMPTYING, S.ACKED) if c.lane is not None]
        assert len(used) == len(set(used)), "a slot is given once"
        assert None not in used
        keys = [c.key for c in made.children(S.WAITING, S.INTENDED, S.UP, S.EMPTYING, S.ACKED)]
        assert len(keys) == len(set(keys)), "a key is held once"
    return made, records


def _known(made: Machine) -> dict[str, Any]:
    """A restored child with a pid is INTENDED until it has been looked for."""
    return {
        c.instance: (
            c.key,
            S.UP if c.state is S.INTENDED and c.pid else c.state,
            c.seq,
            c.pid if c.state is not S.ENDED else 0,
            c.exit,
        )
        for c in made.children(*(state for state in S if state is not S.WAITING))
    }


@given(_STEPS)
def test_whatever_happens_the_journal_and_its_compaction_say_what_is_known(steps: list[tuple[str, int, int]]) -> None:
    made, records = _play(steps)
    assert _known(_restored(records)) == _known(made)
    assert _known(_restored(list(made.snapshot("boot")))) == _known(made)


def test_the_controller_is_restarted_at_once_then_ever_later_up_to_5_s() -> None:
    delays = [restart_delay_s(failures) for failures in range(1, 10)]
    assert delays[:4] == [0.0, 0.1, 0.2, 0.4]
    assert delays[-1] == 5.0


def test_a_controller_that_served_and_was_killed_is_replaced_at_once_however_often() -> None:
    assert failures_after(7, served=True, ran_s=0.1, killed=True) == 0
    assert failures_after(7, served=True, ran_s=0.1, killed=False) == 8
    assert failures_after(7, served=True, ran_s=11, killed=False) == 0
    assert failures_after(7, served=False, ran_s=11, killed=True) == 8
