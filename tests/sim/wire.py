"""The socketpair between controller and launcher: in order, with latency, and with the fate of what is under way.

controller dies   what it had sent still arrives (or is lost, where that is tried), then the launcher sees the end
launcher dies     nothing more arrives, and the controller sees the end
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reconciler.launcher.protocol import Decoder, Message, frame
from tests.sim.timeline import Timeline


class Wire:
    """One life of a connection; `latency_s` and `doubles` are asked for each frame, `loses` when the controller dies."""

    def __init__(
        self,
        timeline: Timeline,
        latency_s: Callable[[], float],
        loses: Callable[[], bool] = lambda: False,
        doubles: Callable[[], bool] = lambda: False,
    ) -> None:
        self.to_launcher: Callable[[list[list[Any]]], None] | None = None
        self.to_controller: Callable[[list[list[Any]]], None] | None = None
        self.controller_gone: Callable[[], None] | None = None
        self.launcher_gone: Callable[[], None] | None = None
        self._timeline = timeline
        self._latency_s = latency_s
        self._loses = loses
        self._doubles = doubles
        self._lost = False
        self._up_at_us = self._down_at_us = 0
        self._up, self._down = Decoder(), Decoder()

    def send_up(self, messages: Sequence[Message]) -> None:
        """From the controller to the launcher."""
        self._timeline.after(self._delay_s(up=True), self._arrives_up, frame(messages))

    def send_down(self, messages: Sequence[Message]) -> None:
        """From the launcher to the controller."""
        self._timeline.after(self._delay_s(up=False), self._arrives_down, frame(messages))

    def close_controller(self) -> None:
        """The controller's end is gone."""
        self.to_controller = self.launcher_gone = None
        self._lost = self._loses()
        self._timeline.after(self._delay_s(up=True), self._end_of_controller)

    def close_launcher(self) -> None:
        """The launcher's end is gone."""
        self.to_launcher = self.controller_gone = None
        self._timeline.after(self._delay_s(up=False), self._end_of_launcher)

    def _delay_s(self, up: bool) -> float:
        at = self._timeline.now_us + round(self._latency_s() * 1e6)
        if up:
            at = self._up_at_us = max(at, self._up_at_us)
        else:
            at = self._down_at_us = max(at, self._down_at_us)
        return (at - self._timeline.now_us) / 1e6

    def _arrives_up(self, data: bytes) -> None:
        if self.to_launcher is not None and not self._lost:
            self.to_launcher(list(self._up.feed(data)))

    def _arrives_down(self, data: bytes) -> None:
        if self.to_controller is not None:
            messages = list(self._down.feed(data))
            self.to_controller(messages)
            if self._doubles():
                self.to_controller(messages)

    def _end_of_controller(self) -> None:
        if self.controller_gone is not None:
            self.controller_gone()

    def _end_of_launcher(self) -> None:
        if self.launcher_gone is not None:
            self.launcher_gone()
