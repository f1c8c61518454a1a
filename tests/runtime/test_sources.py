"""A directory is kept applied: whole or not at all, the last good set otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from reconciler.clock import SystemClock
from reconciler.loading.variant import Wanted
from reconciler.resources.pool import Pool
from reconciler.runtime.sources import DirectorySource
from reconciler.store.memory import MemoryStore

GOOD = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec: {replicas: %d, template: {command: [serve]}}
"""


class Place:
    """A source over a store in memory, running."""

    def __init__(self, root: Path, store: MemoryStore | None = None, **options: Any) -> None:
        self.root = root
        clock = SystemClock()
        self.store = store or MemoryStore(clock.now)
        prune = options.pop("prune", False)
        self.source = DirectorySource(str(root), prune, self.store, clock, self.committed, **options)

    def committed(self) -> asyncio.Future[None]:
        self.store.commit()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def pools(self) -> list[str]:
        """Those that nobody has asked to be gone."""
        return [pool.name for pool in self.store.all(Pool) if pool.metadata.deleted_at is None]

    def generation(self) -> int:
        pool = self.store.get(Pool, "web")
        return 0 if pool is None else pool.metadata.generation

    def replicas(self) -> int | None:
        pool = self.store.get(Pool, "web")
        return None if pool is None else pool.spec.replicas

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.02)


def story(root: Path, tell: Callable[[Place], Awaitable[None]], **options: Any) -> None:
    async def run() -> None:
        place = Place(root, **options)
        task = asyncio.create_task(_run(place.source.run()))
        try:
            await place.source.first.wait()
            await tell(place)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(work: Coroutine[Any, Any, None]) -> None:
        await work

    asyncio.run(run())


def test_what_stands_in_the_directory_is_applied_and_a_saved_change_follows(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 2)

    async def tell(place: Place) -> None:
        assert place.replicas() == 2
        assert place.source.last_applied == place.source.last_attempted != ""
        (tmp_path / "web.yaml").write_text(GOOD % 3)
        await place.until(lambda: place.replicas() == 3)

    story(tmp_path, tell)


def test_fault_M1_a_broken_file_keeps_the_last_good_set_and_says_where(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 2)

    async def tell(place: Place) -> None:
        (tmp_path / "other.yaml").write_text("apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: [\n")
        await place.until(lambda: place.source.error != "")
        assert "other.yaml:" in place.source.error
        assert place.replicas() == 2 and place.source.last_applied != place.source.last_attempted
        (events,) = [e for e in place.store.events() if e.reason == "ManifestInvalid"]
        assert events.count == 1
        (tmp_path / "other.yaml").unlink()
        await place.until(lambda: place.source.error == "")

    story(tmp_path, tell)


def test_a_missing_directory_is_an_error_and_never_an_empty_one(tmp_path: Path) -> None:
    root = tmp_path / "config"
    root.mkdir()
    (root / "web.yaml").write_text(GOOD % 2)

    async def tell(place: Place) -> None:
        (root / "web.yaml").unlink()
        root.rmdir()
        place.source.rescan()
        await place.until(lambda: place.source.error != "")
        assert place.replicas() == 2

    story(root, tell)


def test_a_single_file_is_a_source_too_and_its_neighbours_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 2)
    (tmp_path / "broken.yaml").write_text("[")

    async def tell(place: Place) -> None:
        assert place.replicas() == 2 and place.source.error == ""
        deep = tmp_path / "deep"
        deep.mkdir()
        (deep / "x").write_text("x")
        (tmp_path / "web.yaml").write_text(GOOD % 5)
        await place.until(lambda: place.replicas() == 5)

    story(tmp_path / "web.yaml", tell)


def test_a_name_that_is_no_utf8_does_not_end_the_watching(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 2)

    async def tell(place: Place) -> None:
        bad = bytes(tmp_path) + b"/\xff.txt"
        with open(bad, "wb") as file:
            file.write(b"x")
        (tmp_path / "web.yaml").write_text(GOOD % 4)
        place.source.rescan()
        await place.until(lambda: place.replicas() == 4)

    story(tmp_path, tell)


@pytest.mark.parametrize("count", [20])
def test_many_saves_in_a_row_end_with_the_last_one(tmp_path: Path, count: int) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 1)

    async def tell(place: Place) -> None:
        for number in range(1, count + 1):
            (tmp_path / "web.yaml").write_text(GOOD % number)
            await asyncio.sleep(0)
        await place.until(lambda: place.replicas() == count)
        pool = place.store.get(Pool, "web")
        assert pool is not None and pool.metadata.generation < count

    story(tmp_path, tell)


def test_a_source_is_what_its_overlay_and_values_make_of_it_and_follows_them(tmp_path: Path) -> None:
    root, more = tmp_path / "m", tmp_path / "more.values"
    (root / "overlays" / "prod").mkdir(parents=True)
    (root / "web.yaml").write_text((GOOD % 1).replace("replicas: 1", 'replicas: "${{ n }}"'))
    (root / "overlays" / "prod" / "values.yaml").write_text("n: 2")
    more.write_text("m: 1")

    async def tell(place: Place) -> None:
        assert place.replicas() == 2
        (root / "overlays" / "prod" / "values.yaml").write_text("n: 3")
        await place.until(lambda: place.replicas() == 3)
        more.write_text("n: 4")  # not watched, but read with every look
        place.source.rescan()
        await place.until(lambda: place.replicas() == 4)
        more.unlink()
        place.source.rescan()
        await place.until(lambda: "more.values" in place.source.error)
        assert place.replicas() == 4

    story(root, tell, wanted=Wanted("prod", (str(more),)))


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 2 ** 28 }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ ().__class__ }}",
        "{{ missing }}",
        "{% if %}",
    ],
)
def test_fault_M21_M22_M23_a_bad_template_keeps_the_last_good_set_and_the_loop_runs_on(
    tmp_path: Path, template: str
) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 2)

    async def tell(place: Place) -> None:
        (tmp_path / "more.yaml.j2").write_text(f"a: 1\n{template}\n")
        await place.until(lambda: "more.yaml.j2:" in place.source.error)
        assert place.replicas() == 2
        (tmp_path / "more.yaml.j2").write_text((GOOD % 3).replace("web", "more"))
        await place.until(lambda: place.pools() == ["more", "web"])

    story(tmp_path, tell)
