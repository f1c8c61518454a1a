"""The order that a policy asks for."""

from __future__ import annotations

from typing import assert_never

from reconciler.policies.ordering.base import Live, Ordering
from reconciler.policies.ordering.deadline import EarliestDeadlineFirst
from reconciler.policies.ordering.fairshare import FairShare
from reconciler.policies.ordering.feedback import MultiLevelFeedback
from reconciler.policies.ordering.fifo import Fifo
from reconciler.policies.ordering.priority import Priority
from reconciler.resources.scheduling import OnMiss, SchedulingPolicySpec, SchedulingType


def ordering_of(spec: SchedulingPolicySpec, live: Live) -> Ordering:
    """An empty order of that policy; `live` has every task that will be in it."""
    match spec.type:
        case SchedulingType.FIFO:
            return Fifo()
        case SchedulingType.PRIORITY:
            return Priority(live, spec.bands, spec.aging)
        case SchedulingType.MULTI_LEVEL_FEEDBACK:
            return MultiLevelFeedback(live, spec.quanta, spec.boost_interval_s)
        case SchedulingType.FAIR_SHARE:
            return FairShare(live, spec.key, spec.weights, spec.default_weight)
        case SchedulingType.EARLIEST_DEADLINE_FIRST:
            return EarliestDeadlineFirst(live, spec.on_miss is OnMiss.EXPIRE, spec.estimate_s)
        case _:
            assert_never(spec.type)
