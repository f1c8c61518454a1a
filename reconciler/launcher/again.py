"""When the controller is started again: at once if it served, later and later if it does not come up. Pure."""

from __future__ import annotations

RESTART_BASE_S, RESTART_CAP_S, STEADY_S = 0.1, 5.0, 10.0


def restart_delay_s(failures: int) -> float:
    """Seconds before the controller is started again after so many failures in a row; the first waits nothing."""
    if failures <= 1:
        return 0.0
    return min(RESTART_CAP_S, RESTART_BASE_S * 2.0 ** min(failures - 2, 16))


def failures_after(failures: int, served: bool, ran_s: float, killed: bool) -> int:
    """How many failures in a row are counted once a controller has ended.

    One that served and was killed from outside counts as none, so that it is replaced at once, however often.
    """
    if served and (killed or ran_s >= STEADY_S):
        return 0
    return failures + 1
