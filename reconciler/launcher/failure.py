"""A start that failed: in which step, with which errno. Said to the controller as Exit.failed."""

from __future__ import annotations

import os


class StartFailed(Exception):
    """No process runs; `step` says where it ended, as in Exit.failed."""

    def __init__(self, step: str, number: int, text: str = "") -> None:
        super().__init__(step, number, text)
        self.step = step
        self.errno = number
        self.text = text or os.strerror(number)
