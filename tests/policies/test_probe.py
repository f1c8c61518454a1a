"""What the answers of probes mean, as values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from reconciler.policies import probe as policy
from reconciler.resources.probe import Health, Kind, Probe, Probes

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def probe(**fields: Any) -> Probe:
    return Probe.model_validate({"tcpSocket": {"port": 80}, **fields})


def later(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def answers(asked: Probe, kind: Kind, health: Health, *said: bool) -> Health:
    """After these answers, a period apart."""
    tally = policy.Tally()
    for index, ok in enumerate(said):
        at = later(index * asked.period_s)
        tally = policy.count(tally, asked, kind, ok, at)
        health = policy.after(health, asked, kind, tally, ok, "no", at)
    return health


def test_without_startup_and_readiness_it_is_ready_from_the_start() -> None:
    health = policy.begin(Probes(liveness=probe()), "i1", False, NOW)
    assert health.started and health.ready and health.ready_since == NOW


def test_a_worker_that_was_ready_before_it_had_probes_stays_so() -> None:
    health = policy.begin(Probes(startup=probe(), readiness=probe()), "i1", True, NOW)
    assert health.ready and policy.asked(Probes(readiness=probe()), health) == (Kind.READINESS,)


def test_startup_gates_the_others() -> None:
    probes = Probes(startup=probe(), readiness=probe(), liveness=probe())
    health = policy.begin(probes, "i1", False, NOW)
    assert policy.asked(probes, health) == (Kind.STARTUP,)
    assert policy.asked(probes, answers(probe(), Kind.STARTUP, health, True)) == (Kind.READINESS, Kind.LIVENESS)


def test_one_that_is_to_be_stopped_is_asked_nothing_any_more() -> None:
    probes = Probes(liveness=probe())
    health = answers(probe(), Kind.LIVENESS, policy.begin(probes, "i1", False, NOW), False, False, False)
    assert health.dead == "liveness probe failed 3 times in a row: no"
    assert policy.asked(probes, health) == ()


def test_a_probe_that_is_taken_away_is_taken_for_good() -> None:
    health = policy.begin(Probes(readiness=probe()), "i1", False, NOW)
    assert not policy.follow(health, Probes(readiness=probe()), later(1)).ready
    assert policy.follow(health, Probes(liveness=probe()), later(1)).ready_since == later(1)


def test_fault_P46_a_flapping_answer_changes_nothing_below_the_threshold() -> None:
    asked = probe(failureThreshold=3)
    ready = policy.begin(Probes(liveness=asked), "i1", False, NOW)
    for kind in (Kind.READINESS, Kind.LIVENESS):
        assert answers(asked, kind, ready, False, False, True, False, False, True, False) == ready


def test_success_counts_from_its_threshold_on() -> None:
    asked = probe(successThreshold=2)
    health = policy.begin(Probes(readiness=asked), "i1", False, NOW)
    assert not answers(asked, Kind.READINESS, health, True, False, True).ready
    assert answers(asked, Kind.READINESS, health, False, True, True).ready


def test_early_tries_count_once_a_period_so_that_startup_has_the_time_that_is_written() -> None:
    asked = probe(period="1s", failureThreshold=3)
    health = policy.begin(Probes(startup=asked), "i1", False, NOW)
    tally, at = policy.Tally(), 0.0
    while not health.dead:
        tally = policy.count(tally, asked, Kind.STARTUP, False, later(at))
        health = policy.after(health, asked, Kind.STARTUP, tally, False, "no", later(at))
        if not health.dead:
            at += policy.wait_s(asked, Kind.STARTUP, tally, False)
    assert 2.0 <= at <= 4.0


def test_liveness_is_asked_once_a_period_and_what_is_not_ready_more_often_at_first() -> None:
    asked = probe(period="10s")
    failed = policy.count(policy.Tally(), asked, Kind.READINESS, False, NOW)
    assert policy.wait_s(asked, Kind.LIVENESS, failed, good=True) == 10
    assert policy.wait_s(asked, Kind.READINESS, failed, good=True) == 10
    assert policy.wait_s(asked, Kind.READINESS, failed, good=False) == 0.1


@given(st.integers(1, 100_000), st.floats(0.05, 3600))
def test_no_wait_is_longer_than_the_period(tries: int, period_s: float) -> None:
    asked = probe().changed(period_s=period_s)
    assert 0 < policy.wait_s(asked, Kind.STARTUP, policy.Tally(tries=tries), good=False) <= period_s


@given(st.text(min_size=1, max_size=20))
def test_after_a_start_of_the_daemon_first_tries_are_spread_over_a_period(instance: str) -> None:
    asked = probe(period="10s")
    at = policy.first_at(asked, Kind.LIVENESS, NOW, later(50), instance, known=True)
    assert later(50) <= at <= later(60)


def test_a_new_worker_is_asked_at_once_or_after_its_initial_delay() -> None:
    assert policy.first_at(probe(), Kind.READINESS, NOW, later(1), "i1", known=False) == later(1)
    assert policy.first_at(probe(initialDelay="5s"), Kind.READINESS, NOW, later(1), "i1", known=False) == later(5)
