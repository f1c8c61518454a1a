"""What a tree of processes uses, from two looks at /proc."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.monitoring.usage import (
    HISTORY,
    History,
    Look,
    Root,
    Sample,
    Stat,
    identified,
    orphans,
    sample,
    stat,
    total,
    trees,
    used_ticks,
)

AT = datetime(2026, 11, 23, 18, 10, tzinfo=UTC)
INIT, LAUNCHER, WEB, BATCH = 1, 10, 100, 200
ROOTS = {WEB: Root("worker/web-0", "u.1", WEB, "web"), BATCH: Root("task/7", "s.7.1", BATCH, "batch")}


def one(parent: int = LAUNCHER, session: int = 0, start: int = 5000, **more: Any) -> Stat:
    fields: dict[str, Any] = {
        "own_ticks": 0,
        "waited_ticks": 0,
        "threads": 1,
        "virtual_bytes": 8192,
        "resident_pages": 1,
        "zombie": False,
    }
    return Stat(start, parent, session, **{**fields, **more})


def look(at_s: float, stats: Mapping[int, Stat], key: str = "worker/web-0", members: list[int] | None = None) -> Look:
    return Look(at_s, stats, {key: sorted(stats) if members is None else members}, {})


def test_a_program_may_call_itself_anything() -> None:
    line = b"7 (a) R (b) S 1 2) S 10 7 7 0 -1 4194560 9 9 0 0 3 4 5 6 20 0 2 0 777 8192 33 18446744073709551615 1 1\n"

    assert stat(line) == Stat(777, 10, 7, 7, 11, 2, 8192, 33, False)


def test_a_tree_is_a_session_what_descends_from_it_and_what_carries_its_token() -> None:
    stats = {
        INIT: one(parent=0, session=1),
        LAUNCHER: one(parent=INIT, session=10),
        WEB: one(session=WEB),
        101: one(parent=WEB, session=WEB),
        102: one(parent=LAUNCHER, session=WEB),  # its parent has ended
        103: one(parent=101, session=103),
        104: one(parent=LAUNCHER, session=104),  # left its session and lost its parent: a daemon
        105: one(parent=104, session=104),
        BATCH: one(session=BATCH),
        300: one(parent=INIT, session=300),
    }

    assert orphans(stats, ROOTS) == [LAUNCHER, 104, 300]
    assert trees(stats, ROOTS, {104: "u.1", 300: "somebody-else"}) == {
        "worker/web-0": [WEB, 101, 102, 103, 104, 105],
        "task/7": [BATCH],
    }


def test_a_worker_within_the_tree_of_a_worker_is_its_own() -> None:
    stats = {WEB: one(session=WEB), 150: one(parent=WEB, session=WEB), BATCH: one(parent=150, session=BATCH)}

    assert trees(stats, ROOTS, {}) == {"worker/web-0": [WEB, 150], "task/7": [BATCH]}


@given(
    st.dictionaries(st.integers(1, 12), st.tuples(st.integers(0, 12), st.integers(0, 12))), st.sets(st.integers(1, 12))
)
def test_whatever_a_look_finds_each_process_has_one_owner_at_most(
    found: dict[int, tuple[int, int]], chosen: set[int]
) -> None:
    """Numbers given away during the look can make circles of parents."""
    stats = {pid: one(parent=parent, session=session) for pid, (parent, session) in found.items()}
    roots = {pid: Root(f"worker/{pid}", f"u{pid}", pid, "p") for pid in chosen}

    members = trees(stats, roots, {})

    owned = [pid for pids in members.values() for pid in pids]
    assert len(owned) == len(set(owned))
    assert members.keys() == {root.key for root in roots.values()}
    for pid in chosen & found.keys():
        assert pid in members[f"worker/{pid}"]


def test_a_pid_that_has_become_somebody_elses_is_not_sampled() -> None:
    before = {WEB: one(session=WEB, start=5000)}
    mine, starts = identified(before, ROOTS.values(), {})
    assert list(mine) == [WEB]

    reused = {WEB: one(session=WEB, start=9000)}
    assert identified(reused, ROOTS.values(), starts) == ({}, {})


def test_a_pid_that_leads_no_session_is_not_what_was_started() -> None:
    assert identified({WEB: one(session=INIT)}, ROOTS.values(), {}) == ({}, {})


def test_what_an_ended_worker_has_left_behind_is_still_its_own() -> None:
    _, starts = identified({WEB: one(session=WEB)}, ROOTS.values(), {})
    left = {101: one(session=WEB)}

    mine, starts = identified(left, ROOTS.values(), starts)

    assert trees(left, mine, {}) == {"worker/web-0": [101]}
    assert starts == {"u.1": 5000}


def test_cpu_is_what_was_used_between_two_looks() -> None:
    before = look(100.0, {WEB: one(own_ticks=500)})
    now = look(110.0, {WEB: one(own_ticks=1000)})

    found = sample(ROOTS[WEB], before, now, AT, 100, 4096)

    assert found is not None
    assert found.cpu_percent == 50.0


def test_cpu_of_the_first_sample_is_that_since_the_start() -> None:
    found = sample(ROOTS[WEB], None, look(110.0, {WEB: one(start=10_500, own_ticks=100)}), AT, 100, 4096)

    assert found is not None
    assert found.cpu_percent == 20.0


def test_a_worker_that_began_between_two_looks_has_used_its_cpu_since_then() -> None:
    now = look(110.0, {WEB: one(start=10_800, own_ticks=100)})

    found = sample(ROOTS[WEB], look(100.0, {}), now, AT, 100, 4096)

    assert found is not None
    assert found.cpu_percent == 50.0


def test_right_after_a_start_no_percentage_means_anything() -> None:
    found = sample(ROOTS[WEB], None, look(110.0, {WEB: one(start=10_995, own_ticks=4)}), AT, 100, 4096)

    assert found is not None
    assert found.cpu_percent is None


def test_cpu_of_a_child_that_has_ended_is_counted_once() -> None:
    before = look(100.0, {WEB: one(), 101: one(parent=WEB, own_ticks=300)})
    now = look(110.0, {WEB: one(waited_ticks=400)})

    assert used_ticks(before, now, "worker/web-0") == 100


def test_a_reused_pid_brings_no_cpu_of_its_former_owner() -> None:
    before = look(100.0, {WEB: one(), 101: one(parent=WEB, own_ticks=300, start=6000)})
    now = look(110.0, {WEB: one(waited_ticks=300), 101: one(parent=WEB, own_ticks=7, start=10_500)})

    assert used_ticks(before, now, "worker/web-0") == 7


class Machine:
    """Processes of one tree that burn CPU, fork, end and are waited for; and the truth about what they have used."""

    def __init__(self) -> None:
        self.stats = {WEB: one()}
        self.used = 0
        self.lost = False
        self._next = 101

    def step(self, what: str, which: int, ticks: int) -> None:
        pid = sorted(self.stats)[which % len(self.stats)]
        here = self.stats[pid]
        if what == "burn":
            self.stats[pid] = here._replace(own_ticks=here.own_ticks + ticks)
            self.used += ticks
        elif what == "fork":
            self.stats[self._next] = one(parent=pid, start=self._next)
            self._next += 1
        elif pid != WEB:
            for child, its in list(self.stats.items()):
                if its.parent == pid:  # it loses its parent; whoever waits for it then is outside of the tree
                    self.stats[child] = its._replace(parent=LAUNCHER)
                    self.lost = True
            del self.stats[pid]
            parent = self.stats.get(here.parent)
            if parent is not None and what == "end":
                more = here.own_ticks + here.waited_ticks
                self.stats[here.parent] = parent._replace(waited_ticks=parent.waited_ticks + more)
            else:
                self.lost = True


STEPS = st.lists(
    st.tuples(st.sampled_from(["burn", "burn", "fork", "end", "vanish"]), st.integers(0, 20), st.integers(1, 50))
)


@given(STEPS, STEPS)
def test_cpu_is_never_more_than_was_used_and_all_of_it_unless_a_child_was_not_waited_for(
    first: list[tuple[str, int, int]], second: list[tuple[str, int, int]]
) -> None:
    machine = Machine()
    for step in first:
        machine.step(*step)
    before, used, machine.lost = look(100.0, dict(machine.stats)), machine.used, False
    for step in second:
        machine.step(*step)
    now = look(110.0, dict(machine.stats))

    found = used_ticks(before, now, "worker/web-0")

    assert 0 <= found <= machine.used - used
    if not machine.lost:
        assert found == machine.used - used


def test_memory_and_threads_are_those_of_the_whole_tree() -> None:
    stats = {
        WEB: one(session=WEB, threads=3, resident_pages=10),
        101: one(parent=WEB, resident_pages=5),
        102: one(parent=WEB, zombie=True, resident_pages=0, virtual_bytes=0),  # has ended, and nobody has asked how
        103: one(parent=WEB, zombie=True, threads=4),  # its first thread has ended, three live on
    }
    now = Look(100.0, stats, {"worker/web-0": [*stats]}, {"worker/web-0": 12})

    found = sample(ROOTS[WEB], None, now, AT, 100, 4096)

    assert found is not None
    assert (found.memory_bytes, found.threads, found.open_files, found.processes) == (16 * 4096, 7, 12, 3)


def test_a_pool_uses_what_its_workers_use() -> None:
    a = Sample(AT, 10.0, 100, 1000, 1, 3, 1)
    b = Sample(AT, None, 200, 2000, 2, 4, 2)

    assert total([a, b]) == Sample(AT, 10.0, 300, 3000, 3, 7, 3)
    assert total([b]) == b
    assert total([]) is None


@given(st.integers(0, 3 * HISTORY))
def test_a_history_has_the_last_hundred_samples_in_order(count: int) -> None:
    samples = [Sample(AT + timedelta(seconds=10 * n), n / 2 if n % 3 else None, n, n, n, n, n) for n in range(count)]
    history = History("u.1")
    for each in samples:
        history.add(each)

    assert history.samples() == samples[-HISTORY:]
