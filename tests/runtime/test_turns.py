"""The loop is turned when something wants it, once for many wakes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from reconciler.backends.local import LocalHost
from reconciler.clock import SystemClock
from reconciler.launcher.protocol import Message
from reconciler.resources.event import event
from reconciler.resources.meta import Key
from reconciler.runtime.loop import Loop
from reconciler.runtime.turns import Turns
from reconciler.store.memory import MemoryStore


class Wire:
    """What would go to a launcher."""

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, messages: Sequence[Message]) -> None:
        self.sent += messages


class Place:
    """A loop that has heard from its launcher, and its turns."""

    def __init__(self, directory: Path) -> None:
        clock = SystemClock()
        self.turned = 0
        self.turns = Turns(clock)
        self.store = MemoryStore(clock.now)
        self.loop = Loop(self.store, Wire(), LocalHost(str(directory)), clock, self.turns.wake)
        self.turns.drive(self.loop, self.after)
        self.loop.receive([["children", []]])

    def after(self) -> None:
        self.turned += 1

    async def rests(self) -> None:
        """Returns when no turn is planned for now."""
        await self.until(lambda: bool(self.turned) and self.loop.idle)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0)


def story(directory: Path, tell: Callable[[Place], Awaitable[None]]) -> None:
    async def run() -> None:
        place = Place(directory)
        await place.rests()
        await tell(place)

    asyncio.run(run())


def test_many_wakes_make_one_turn(tmp_path: Path) -> None:
    async def tell(place: Place) -> None:
        before = place.turned
        for _ in range(10):
            place.turns.wake()
        await place.until(lambda: place.turned > before)
        await place.rests()
        assert place.turned == before + 1

    story(tmp_path, tell)


def test_a_wake_for_now_is_not_held_up_by_one_for_later(tmp_path: Path) -> None:
    async def tell(place: Place) -> None:
        place.turns.wake(3600.0)
        place.turns.wake()
        before = place.turned
        await place.until(lambda: place.turned > before)

    story(tmp_path, tell)


def test_what_is_staged_by_who_hears_of_a_commit_is_durable_soon_not_with_the_next_tick(tmp_path: Path) -> None:
    async def tell(place: Place) -> None:
        def done() -> None:
            place.store.add_event(event(Key("Daemon", "reconciler"), "Said", "in a callback", SystemClock().now()))
            place.loop.wake()

        place.store.add_event(event(Key("Daemon", "reconciler"), "Said", "before", SystemClock().now()))
        place.loop.when_durable(done, lambda error: None)
        before = place.turned
        await place.until(lambda: place.turned > before)
        await place.until(lambda: not place.store.staged)

    story(tmp_path, tell)
