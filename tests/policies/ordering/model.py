"""A task as an order sees it, and the plainest machine that tries an order against a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Task:
    """What an order may know of a task."""

    submitted_ms: int = 0
    priority: int = 100
    tenant: str | None = None
    key: str | None = None
    deadline_ms: int = 0
