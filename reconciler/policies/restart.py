"""What follows the end of a worker's process.

    end -> rules, the first that matches -> its action
        -> none does:   exit code 0    any other end    stopped by us
           Always       Restart        Restart          Restart
           OnFailure    Complete       Restart          Restart
           Never        Complete       Fail             Restart         (started again once it is wanted again)

A rule never sees a stop of ours; `exitCodes` and `signals` see only what the process, or somebody outside, did: the
SIGTERM after a failed probe is not the SIGTERM of a person.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from reconciler.resources.restart import Match, Policy, RestartPolicySpec, RuleAction
from reconciler.resources.worker import LastExit, Reason


class Next(StrEnum):
    """What an end leads to."""

    RESTART = "Restart"
    COMPLETE = "Complete"
    FAIL = "Fail"


class Verdict(NamedTuple):
    """What follows an end, whether it counts for backoff and `maxRestarts`, and what said so."""

    next: Next
    counts: bool
    rule: str
    """`policy OnFailure` or `rules[1] (signals SIGTERM: Stop)`."""


_OF_RULES = {
    RuleAction.RESTART: (Next.RESTART, True),
    RuleAction.FAIL: (Next.FAIL, True),
    RuleAction.STOP: (Next.COMPLETE, False),
    RuleAction.IGNORE: (Next.RESTART, False),
}


def after(spec: RestartPolicySpec, end: LastExit) -> Verdict:
    """What the policy wants after this end."""
    if end.reason is Reason.STOPPED:
        return Verdict(Next.RESTART, False, "it was stopped by the reconciler")
    for place, rule in enumerate(spec.rules):
        if matches(rule, end):
            next_, counts = _OF_RULES[rule.action]
            return Verdict(next_, counts, f"rules[{place}] ({in_words(rule, rule.action)})")
    said = f"policy {spec.policy}"
    if spec.policy is not Policy.ALWAYS and end.reason is Reason.EXITED and end.code == 0:
        return Verdict(Next.COMPLETE, False, said)
    next_ = Next.FAIL if spec.policy is Policy.NEVER else Next.RESTART
    return Verdict(next_, end.reason is not Reason.HOST_REBOOTED, said)


class End(Protocol):
    """What a rule may know of an end."""

    @property
    def code(self) -> int | None: ...

    @property
    def signal(self) -> str | None: ...

    @property
    def reason(self) -> Reason: ...


def matches(rule: Match, end: End) -> bool:
    """Whether the rule is about this end."""
    if rule.exit_codes is not None:
        if end.reason is not Reason.EXITED or end.code is None:
            return False
        codes = rule.exit_codes
        return end.code in codes.in_ if codes.in_ is not None else end.code not in (codes.not_in or ())
    if rule.signals is not None:
        return end.reason in _FROM_OUTSIDE and end.signal in rule.signals
    return end.reason is rule.reason


_FROM_OUTSIDE = (Reason.SIGNALLED, Reason.KILLED_EXTERNALLY, Reason.OOM_KILLED)


def in_words(rule: Match, action: str) -> str:
    """`exitCodes in 1, 2: Fail`."""
    if rule.exit_codes is not None:
        codes = rule.exit_codes
        word, listed = ("in", codes.in_) if codes.in_ is not None else ("notIn", codes.not_in)
        what = f"exitCodes {word} {', '.join(map(str, listed or ()))}"
    elif rule.signals is not None:
        what = f"signals {', '.join(rule.signals)}"
    else:
        what = f"reason {rule.reason}"
    return f"{what}: {action}"


def within(restarts: tuple[datetime, ...], window_s: float, now: datetime) -> tuple[datetime, ...]:
    """The restarts of the last `window_s` seconds, as in OTP's supervisor: one more is allowed while they are few enough."""
    since = now - timedelta(seconds=window_s)
    return tuple(at for at in restarts if at > since)
