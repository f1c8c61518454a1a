"""The daemon's own settings as they are in force: read at the start and at every rescan; a wrong file changes nothing."""

from __future__ import annotations

import logging
from typing import Any

from reconciler.clock import Clock
from reconciler.errors import Invalid
from reconciler.loading.configuration import configuration
from reconciler.policies.budget import HostBudget
from reconciler.resources.configuration import Configuration
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.runtime.budgets import Budgets
from reconciler.store.base import Store

log = logging.getLogger("reconciler")

DAEMON = Key("Daemon", "reconciler")


class Configured:
    """What `up --config` names; without it, the defaults."""

    def __init__(self, path: str, budgets: Budgets, store: Store, clock: Clock) -> None:
        self.problem = ""
        """Why the file as it stands is not in force; empty when it is."""
        self._path = path
        self._budgets = budgets
        self._store = store
        self._clock = clock
        self._now: Configuration | None = None
        self.read()

    def read(self) -> None:
        """Takes over what can change while the daemon runs."""
        if not self._path:
            return
        try:
            found = configuration(self._path)
        except Invalid as error:
            self.problem = f"{self._path} is not in force: {error.message}"
            log.warning("%s", self.problem)
            self._say("ConfigurationInvalid", self.problem, warning=True)
            return
        mended = bool(self.problem)
        self.problem, before, self._now = "", self._now, found
        budget = found.spec.start_budget
        self._budgets.host = HostBudget(budget.rate, budget.burst)
        if before is not None and (mended or before.spec != found.spec):
            late = (
                "; its sources apply at the next `reconciler up`" if before.spec.sources != found.spec.sources else ""
            )
            message = f"{self._path} is in force as it stands now{late}"
            log.info("%s", message)
            self._say("ConfigurationChanged", message)

    def report(self) -> dict[str, Any]:
        """As `status` shows it."""
        budget = {"rate": self._budgets.host.rate, "burst": self._budgets.host.burst}
        return {"path": self._path or None, "startBudget": budget}

    def _say(self, word: str, message: str, warning: bool = False) -> None:
        self._store.add_event(event(DAEMON, word, message, self._clock.now(), warning=warning))
