"""The order that a policy asks for."""

from __future__ import annotations

from reconciler.policies.ordering.base import Live, Ordering
from reconciler.policies.ordering.fifo import Fifo
from reconciler.policies.ordering.priority import Priority
from reconciler.resources.scheduling import SchedulingPolicySpec, SchedulingType


def ordering_of(spec: SchedulingPolicySpec, live: Live) -> Ordering:
    """An empty order of that policy; `live` has every task that will be in it."""
    match spec.type:
        case SchedulingType.PRIORITY:
            return Priority(live, spec.bands, spec.aging)
        case _:
            return Fifo()
