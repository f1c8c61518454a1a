"""The kernel's hints arrive, with the number of what they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from reconciler.backends import inotify
from reconciler.backends.inotify import Inotify


async def until(heard: list[tuple[int, int]], count: int) -> None:
    async with asyncio.timeout(30):
        while len(heard) < count:
            await asyncio.sleep(0.005)


def test_a_change_is_heard_of_once_or_always_as_it_was_asked_for(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    def hear(events: Sequence[tuple[int, int]]) -> None:
        heard.extend(events)

    async def run() -> None:
        watches = Inotify(hear)
        file = tmp_path / "x"
        file.write_text("1")
        once = watches.add(str(file), inotify.MODIFY | inotify.ONCE)
        always = watches.add(str(tmp_path), inotify.CLOSE_WRITE)
        for count in (3, 4):
            with file.open("a") as out:
                out.write("2")
            await until(heard, count)
        assert sorted(heard) == sorted(
            [(once, inotify.MODIFY), (once, inotify.IGNORED), *[(always, inotify.CLOSE_WRITE)] * 2]
        )
        watches.close()

    asyncio.run(run())


def test_what_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    async def run() -> None:
        watches = Inotify(lambda events: None)
        with pytest.raises(FileNotFoundError, match="nothing"):
            watches.add(str(tmp_path / "nothing"), inotify.MODIFY)
        watches.close()

    asyncio.run(run())
