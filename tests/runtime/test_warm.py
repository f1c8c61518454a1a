"""What a warm worker is given of a task."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reconciler.controllers import intake
from reconciler.resources.pool import Tasks
from reconciler.resources.task import Submission
from reconciler.runtime.warm import _payload

WARM = Tasks.model_validate({"mode": "Warm"})


@pytest.mark.parametrize(
    "payload", [0, None, False, "", "a\n\u2028", {"b": 1.5, "a": ["é"]}, {"pool": ',"pool":"batch"}'}]
)
@pytest.mark.parametrize(
    "more", [{}, {"tenant": ',"pool":"batch"}'}, {"key": "k"}, {"deadline": "1m"}, {"idempotencyKey": "i"}]
)
def test_the_payload_is_what_was_submitted_whatever_stands_beside_it(payload: Any, more: dict[str, Any]) -> None:
    given = Submission.model_validate({"payload": payload, **more})
    (record,) = intake.take("batch", WARM, [given], lambda pool, key: None, lambda: 1, 1_000).new
    assert record.spec is not None
    assert json.loads(_payload(record.spec, "batch")) == payload
