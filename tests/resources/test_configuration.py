"""The daemon's own settings have the defaults that are in force without them."""

from __future__ import annotations

from reconciler.policies.budget import HostBudget
from reconciler.resources.configuration import StartBudget
from reconciler.resources.kinds import DECLARED, WRITABLE


def test_without_a_file_the_budget_is_what_an_empty_file_says() -> None:
    default = StartBudget()
    assert HostBudget(default.rate, default.burst) == HostBudget()


def test_it_is_written_in_a_file_and_is_no_object_of_the_store() -> None:
    assert set(DECLARED) - set(WRITABLE) == {"Configuration"}
