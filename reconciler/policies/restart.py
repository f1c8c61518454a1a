"""What follows the end of a worker's process.

            exit code 0    any other end    stopped by us
Always      Restart        Restart          Restart
OnFailure   Complete       Restart          Restart
Never       Complete       Fail             Restart         (started again once it is wanted again)
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from reconciler.resources.restart import Policy
from reconciler.resources.worker import LastExit, Reason


class Next(StrEnum):
    """What an end leads to."""

    RESTART = "Restart"
    COMPLETE = "Complete"
    FAIL = "Fail"


def after(policy: Policy, end: LastExit) -> Next:
    """What the policy wants after this end."""
    if end.reason is Reason.STOPPED or policy is Policy.ALWAYS:
        return Next.RESTART
    if end.reason is Reason.EXITED and end.code == 0:
        return Next.COMPLETE
    return Next.RESTART if policy is Policy.ON_FAILURE else Next.FAIL


def within(restarts: tuple[datetime, ...], window_s: float, now: datetime) -> tuple[datetime, ...]:
    """The restarts of the last `window_s` seconds, as in OTP's supervisor: one more is allowed while they are few enough."""
    since = now - timedelta(seconds=window_s)
    return tuple(at for at in restarts if at > since)
