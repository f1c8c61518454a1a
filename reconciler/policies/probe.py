"""What the answers of probes mean: which are asked, how often, and from when on an answer counts.

    begin -> started? --startup succeeds--> readiness, liveness asked
               |                              ready <-> not ready, by thresholds
               +--startup fails too often---> dead <--liveness fails too often

A probe that has not succeeded yet is asked more often than its period (0.1 s doubled), so that nobody waits for a whole
period because the first try came a moment too early; of these tries only those count as failures that are a period apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zlib import crc32

from reconciler.resources.probe import Health, Kind, Notify, Probe, Probes
from reconciler.resources.units import format_duration
from reconciler.resources.words import in_a_row

EAGER_S = 0.1
"""The first wait of a probe that has not succeeded yet; doubled each time up to its period."""


@dataclass(frozen=True, slots=True)
class Tally:
    """The answers in a row of one probe of one start."""

    successes: int = 0
    failures: int = 0
    tries: int = 0
    """Since it last was as it should be: they make the wait longer."""
    counted_at: datetime | None = None
    """When a failure last counted."""


def begin(probes: Probes, instance: str, was_ready: bool, since: datetime | None) -> Health:
    """What is known before the first answer; one that was ready before it had probes stays so until they say otherwise."""
    started = probes.startup is None or was_ready
    ready = was_ready or (started and probes.readiness is None)
    return Health(instance=instance, started=started, ready=ready, ready_since=since if ready else None)


def follow(health: Health, probes: Probes, now: datetime) -> Health:
    """The same with what follows from it: where nobody asks, or asks any more, it is taken for good."""
    started = health.started or _holds(probes.startup, health)
    ready = health.ready or (started and _holds(probes.readiness, health))
    if (started, ready) == (health.started, health.ready):
        return health
    return health.changed(started=started, ready=ready, ready_since=now if ready else None, message="")


def _holds(probe: Probe | None, health: Health) -> bool:
    """Whether nothing has to be asked for it: nobody asks, or the worker has said so by itself."""
    return probe is None or (probe.notify is not None and health.notified)


def asked(probes: Probes, health: Health) -> tuple[Kind, ...]:
    """The probes that are due in turn now."""
    if health.dead:
        return ()
    if not health.started:
        return (Kind.STARTUP,)
    return tuple(kind for kind in (Kind.READINESS, Kind.LIVENESS) if probes.of(kind) is not None)


def first_at(
    probe: Probe, kind: Kind, started_at: datetime, begins_at: datetime, instance: str, known: bool
) -> datetime:
    """When it is asked first. `known`: it was up before this controller was, and a thousand such are not asked at once."""
    if known:
        return begins_at + timedelta(seconds=probe.period_s * (crc32(f"{instance} {kind}".encode()) / 2**32))
    return max(begins_at, started_at + timedelta(seconds=probe.initial_delay_s))


def wait_s(probe: Probe, kind: Kind, tally: Tally, good: bool) -> float:
    """Seconds from the begin of one try to the next. `good`: it is as the probe wants it to be."""
    if good or kind is Kind.LIVENESS or not tally.tries:
        return probe.period_s
    return min(probe.period_s, EAGER_S * 2.0 ** min(tally.tries - 1, 16))


def good(health: Health, kind: Kind) -> bool:
    """Whether it is as the probe wants it to be."""
    return health.ready if kind is Kind.READINESS else kind is Kind.LIVENESS


def count(tally: Tally, probe: Probe, kind: Kind, ok: bool, now: datetime) -> Tally:
    """The tally with one more answer."""
    if ok:
        return Tally(successes=tally.successes + 1)
    tries = tally.tries + 1
    soon = tally.counted_at is not None and now < tally.counted_at + timedelta(seconds=probe.period_s * 0.99)
    if kind is not Kind.LIVENESS and soon:
        return replace(tally, successes=0, tries=tries)
    return Tally(failures=tally.failures + 1, tries=tries, counted_at=now)


def after(health: Health, probe: Probe, kind: Kind, tally: Tally, ok: bool, said: str, now: datetime) -> Health:
    """What is known after that answer; `said`: the answer in words."""
    passed = ok and tally.successes >= probe.success_threshold
    failed = not ok and tally.failures >= probe.failure_threshold
    match kind:
        case Kind.STARTUP if passed:
            return health.changed(started=True, message="")
        case Kind.READINESS if passed and not health.ready:
            return health.changed(ready=True, ready_since=now, message="")
        case Kind.READINESS if failed and health.ready:
            return health.changed(ready=False, ready_since=None, message=f"readiness: {said}")
        case Kind.STARTUP | Kind.LIVENESS if failed:
            return health.changed(dead=f"{kind} probe failed {in_a_row(tally.failures)}: {said}")
        case _ if not ok and not good(health, kind):
            return health.changed(message=f"{kind}: {said}")
        case _:
            return health


def silence_ends_at(probe: Probe, started_at: datetime) -> datetime:
    """When a worker that was to say by itself that it has started has been silent too long."""
    return started_at + timedelta(seconds=probe.initial_delay_s + probe.period_s * probe.failure_threshold)


def silent(probe: Probe, health: Health) -> Health:
    """What is known of such a worker."""
    longest = format_duration(probe.initial_delay_s + probe.period_s * probe.failure_threshold)
    what = "READY=1" if probe.notify is Notify.SYSTEMD else "newline on NOTIFY_FD"
    return health.changed(dead=f"startup probe failed: no {what} within {longest}")
