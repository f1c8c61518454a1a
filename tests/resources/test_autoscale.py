"""An autoscaled pool as it is written, and how many it has."""

from __future__ import annotations

import json

from reconciler.resources.check import findings
from reconciler.resources.pool import Pool, PoolStatus, revision_hash


def pool(**spec: object) -> Pool:
    return Pool.model_validate({"kind": "Pool", "metadata": {"name": "batch"}, "spec": spec})


def test_what_is_shown_of_it_can_be_applied_again() -> None:
    shown = pool(autoscale={"max": 8}, tasks={}).spec.to_json()

    assert "replicas" not in shown
    again = pool(**json.loads(json.dumps(shown)))
    assert findings(again) == [] and again.spec.to_json() == shown


def test_it_has_what_was_decided_within_its_bounds() -> None:
    one = pool(autoscale={"min": 2, "max": 8}, tasks={})

    assert [one.changed(status=PoolStatus(desired_replicas=n)).replicas for n in (0, 5, 50)] == [2, 5, 8]
    assert pool(replicas=3).replicas == 3


def test_other_bounds_replace_no_worker() -> None:
    cpu = [{"type": "CPU", "target": 70}]
    hashes = {
        revision_hash(pool(autoscale={"max": most, "metrics": cpu}, template={"command": ["serve"]})) for most in (2, 8)
    }
    assert hashes == {revision_hash(pool(template={"command": ["serve"]}))}
