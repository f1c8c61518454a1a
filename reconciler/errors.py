"""The errors of the house: what is wrong, where, and how to mend it.

The class says what the loop does with one:

    Conflict         somebody was faster: read again, plan again
    Terminal         trying again cannot help: the object stalls and says why
    ReconcilerError  anything else that was foreseen: back off and try again
    (any other)      a defect: the traceback is shown and the controller restarts; workers live on

A client sees `status` as the HTTP status and `exit_code` as the command's own.
"""

from __future__ import annotations

from typing import ClassVar


class ReconcilerError(Exception):
    """An error a person can act on: `message` says what and where, `help` how to mend it."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    reason: ClassVar[str] = "Error"

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.message} ({self.help})" if self.help else self.message


class Terminal(ReconcilerError):
    """Trying again without a change cannot help."""

    reason = "Terminal"


class Invalid(Terminal):
    """What was asked for is malformed."""

    status = 400
    exit_code = 2
    reason = "Invalid"


class NotFound(Terminal):
    """There is no such object."""

    status = 404
    exit_code = 4
    reason = "NotFound"


class Forbidden(Terminal):
    """The caller may not do this."""

    status = 403
    exit_code = 5
    reason = "Forbidden"


class Conflict(ReconcilerError):
    """The object changed since it was read, or a name is taken."""

    status = 409
    exit_code = 5
    reason = "Conflict"


class Refused(ReconcilerError):
    """The request is understood and refused; the help says what would be accepted."""

    status = 409
    exit_code = 5
    reason = "Refused"


class LockLost(ReconcilerError):
    """The lock is not, or no longer, held by who says so."""

    status = 409
    exit_code = 125
    reason = "LockLost"


class Deadlock(Refused):
    """This wait would close a circle in which nobody could go on."""

    exit_code = 125
    reason = "Deadlock"


class Gone(ReconcilerError):
    """The revision asked for is no longer kept: list again, then watch from there."""

    status = 410
    exit_code = 1
    reason = "Gone"


class QueueFull(ReconcilerError):
    """The pool's queue has reached its limit."""

    status = 429
    exit_code = 5
    reason = "QueueFull"


class Unavailable(ReconcilerError):
    """Cannot be done at this moment (disk full, shutting down); the same call may succeed later."""

    status = 503
    exit_code = 1
    reason = "Unavailable"


class Unreachable(ReconcilerError):
    """No daemon answers."""

    status = 503
    exit_code = 3
    reason = "Unreachable"


class StoreBroken(Terminal):
    """The state on disk cannot be used: it is left as it is, and workers are left alone."""

    reason = "StoreBroken"
    exit_code = 2
