"""A source believes nothing too early, takes nothing away that nobody meant, and stops when it is told to."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from reconciler.clock import SystemClock
from reconciler.errors import Refused
from reconciler.loading.files import Scan, scan_still
from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Pool, PoolSpec
from reconciler.resources.source import Source
from reconciler.store.memory import MemoryStore
from tests.runtime.test_sources import GOOD, Place, story


def named(name: str, replicas: int = 1) -> str:
    return (GOOD % replicas).replace("web", name)


def fill(root: Path, *names: str) -> None:
    root.mkdir(exist_ok=True)
    for name in names:
        (root / f"{name}.yaml").write_text(named(name))


# -- settling


def test_fault_M2_a_file_that_is_still_open_for_writing_does_not_count_yet(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 10)

    async def tell(place: Place) -> None:
        with open(tmp_path / "web.yaml", "w") as half:
            half.write(GOOD % 1)  # of 10, and valid
            half.flush()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):
                    await place.source.sync()
            assert place.replicas() == 10
            half.seek(0)
            half.truncate()
            half.write(GOOD % 12)
        await place.until(lambda: place.replicas() == 12)
        assert place.generation() == 2

    story(tmp_path, tell)


def test_what_changes_between_two_looks_is_looked_at_again(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(GOOD % 1)
    contents = iter([GOOD % 2, GOOD % 3, GOOD % 4])

    def restless(root: str) -> Scan:
        """Somebody saves after each of the next scans."""
        found = scan_still(root)
        if armed.is_set() and (text := next(contents, None)) is not None:
            path.write_text(text)
        return found

    armed = threading.Event()

    async def tell(place: Place) -> None:
        armed.set()
        place.source.rescan()
        await place.until(lambda: place.replicas() == 4)
        assert place.generation() == 2, "what stood there for a moment was applied"

    story(tmp_path, tell, scan=restless)


def test_fault_M2_a_pool_that_loses_most_of_its_workers_is_looked_at_once_more(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(GOOD % 10)
    seen: list[str] = []

    def scan(root: str) -> Scan:
        """A slow writer: the rest of the number comes after two looks have found it alike, and nobody had it open."""
        found = scan_still(root)
        if b"replicas: 1," in found.files[0].data:
            seen.append("1")
            if len(seen) == 2:
                path.write_text(GOOD % 12)
        return found

    async def tell(place: Place) -> None:
        path.write_text(GOOD % 1)
        await place.until(lambda: place.replicas() == 12)
        assert place.generation() == 2, "nine workers were stopped for a moment"

    story(tmp_path, tell, scan=scan)


def test_fault_M38_a_change_that_is_taken_back_at_once_is_none(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 1)

    async def tell(place: Place) -> None:
        for replicas in (2, 1, 3, 1):
            (tmp_path / "web.yaml").write_text(GOOD % replicas)
        await place.source.sync()
        assert (place.replicas(), place.generation()) == (1, 1)

    story(tmp_path, tell)


def test_fault_M35_reading_that_hangs_is_an_error_and_ends_when_it_can(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 1)
    gone, back = threading.Event(), threading.Event()
    threads: list[str] = []

    def scan(root: str) -> Scan:
        if gone.is_set():
            threads.append("read")
            back.wait(60)
        return scan_still(root)

    async def tell(place: Place) -> None:
        gone.set()
        place.source._read_s = 0.3
        (tmp_path / "web.yaml").write_text(GOOD % 2)
        try:
            place.source.rescan()
            await place.until(lambda: "its file system hangs" in place.source.error)
            place.source.rescan()
            await asyncio.sleep(0)
            assert place.replicas() == 1
            assert len(threads) == 1, "each look would hold another thread"
        finally:
            gone.clear()
            place.source._read_s = 60.0  # how fast this machine is, is not what is tested
            back.set()
        await place.until(lambda: place.replicas() == 2)
        assert place.source.error == ""

    story(tmp_path, tell, scan=scan, read_s=60.0, poll_s=0.3)


# -- taking away


def test_what_is_no_longer_declared_goes_only_where_that_is_asked_for(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b")

    async def tell(place: Place) -> None:
        (tmp_path / "b.yaml").unlink()
        await place.source.sync()
        assert place.pools() == ["a", "b"]

    async def tell_pruning(place: Place) -> None:
        (tmp_path / "a.yaml").unlink()
        await place.until(lambda: place.pools() == [])

    story(tmp_path, tell)
    story(tmp_path, tell_pruning, prune=True)


def test_a_prune_of_most_is_refused_as_a_whole_until_it_is_confirmed(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c", "d")

    async def tell(place: Place) -> None:
        applied = place.source.last_applied
        for name in "abc":
            (tmp_path / f"{name}.yaml").unlink()
        (tmp_path / "d.yaml").write_text(named("d", 7))
        await place.until(lambda: place.source.error != "")
        assert "3 of the 4 objects" in place.source.error and "--confirm" in place.source.error
        assert place.pools() == ["a", "b", "c", "d"]
        assert place.store.get(Pool, "d").spec.replicas == 1, "half of it was applied"  # type: ignore[union-attr]
        assert place.source.last_applied == applied != place.source.last_attempted
        assert len([event for event in place.store.events() if event.reason == "PruneRefused"]) == 1

        await place.source.sync()
        assert place.pools() == ["a", "b", "c", "d"], "asking again is no confirmation"
        await place.source.sync(confirm=True)
        assert place.pools() == ["d"]
        assert place.source.error == ""

    story(tmp_path, tell, prune=True)


def test_a_confirmation_holds_for_what_was_refused_and_for_nothing_that_came_after(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "c", "d")

    async def tell(place: Place) -> None:
        for name in "abc":
            (tmp_path / f"{name}.yaml").unlink()
        await place.until(lambda: place.source.error != "")
        (tmp_path / "d.yaml").write_text(named("other"))
        await place.source.sync(confirm=True)
        assert place.pools() == ["a", "b", "c", "d"]
        assert "4 of the 4 objects" in place.source.error

    story(tmp_path, tell, prune=True)


def test_fault_M29_a_directory_that_was_removed_and_made_anew_is_watched_and_takes_nothing_away(tmp_path: Path) -> None:
    root = tmp_path / "config"
    fill(root, "web")

    async def tell(place: Place) -> None:
        (root / "web.yaml").unlink()
        root.rmdir()
        await place.until(lambda: place.source.error != "")
        assert place.pools() == ["web"]
        root.mkdir()
        await place.until(lambda: "made anew" in place.source.error)
        assert place.pools() == ["web"]
        fill(root, "web", "second")
        await place.until(lambda: place.pools() == ["second", "web"])
        assert place.source.error == ""
        (root / "second.yaml").write_text(named("third"))
        await place.until(lambda: place.pools() == ["third", "web"])

    story(root, tell, prune=True)


@pytest.mark.parametrize("prune", [True, False])
def test_a_directory_that_is_missing_at_the_start_is_an_error_until_it_is_there(tmp_path: Path, prune: bool) -> None:
    root = tmp_path / "config"

    async def tell(place: Place) -> None:
        assert place.source.error != ""
        fill(root, "web")
        await place.until(lambda: place.pools() == ["web"])
        (root / "web.yaml").write_text(GOOD % 4)
        await place.until(lambda: place.replicas() == 4)

    story(root, tell, prune=prune)


def test_fault_M37_deleted_and_declared_again_is_another_object(tmp_path: Path) -> None:
    fill(tmp_path, "web")

    async def tell(place: Place) -> None:
        before = place.store.get(Pool, "web")
        assert before is not None
        place.store.update(before.changed(metadata=before.metadata.changed(deleted_at=SystemClock().now())))
        (tmp_path / "web.yaml").write_text(GOOD % 3)
        await place.until(lambda: "still being deleted" in place.source.error)
        place.store.remove(before.key)
        await place.source.sync()
        after = place.store.get(Pool, "web")
        assert after is not None and after.metadata.uid != before.metadata.uid
        assert (after.metadata.generation, after.spec.replicas) == (1, 3)

    story(tmp_path, tell, prune=True)


def test_what_cannot_be_applied_now_is_tried_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from reconciler.loading import guard

    monkeypatch.setattr(guard, "FIRST_RETRY_S", 0.2)
    store = MemoryStore(SystemClock().now)
    store.create(Pool(metadata=Metadata(name="web", deleted_at=SystemClock().now()), spec=PoolSpec()))
    fill(tmp_path, "web")

    async def tell(place: Place) -> None:
        assert "still being deleted" in place.source.error
        place.store.remove(next(pool.key for pool in place.store.all(Pool)))
        await place.until(lambda: place.replicas() == 1)
        assert place.source.error == ""

    story(tmp_path, tell, store=store)


# -- suspending


def test_a_suspended_source_applies_nothing_also_after_a_restart_and_goes_on_when_resumed(tmp_path: Path) -> None:
    fill(tmp_path, "web")
    store = MemoryStore(SystemClock().now)

    def suspend(place: Place, suspended: bool) -> None:
        source = place.store.get(Source, place.source.name)
        assert source is not None
        place.store.update(source.changed(spec=source.spec.changed(suspended=suspended)))
        place.source.rescan()

    async def tell(place: Place) -> None:
        suspend(place, True)
        (tmp_path / "web.yaml").write_text(GOOD % 5)
        with pytest.raises(Refused, match="resume"):
            await place.source.sync()
        assert place.replicas() == 1

    async def tell_the_next(place: Place) -> None:
        assert place.source.report()["suspended"] is True
        assert place.replicas() == 1
        assert place.source.last_applied != ""
        suspend(place, False)
        await place.until(lambda: place.replicas() == 5)

    story(tmp_path, tell, store=store)
    story(tmp_path, tell_the_next, store=store)


# -- hostile directories


def test_fault_M28_a_configmaps_swap_of_its_data_link_is_seen(tmp_path: Path) -> None:
    for version in (1, 2):
        (tmp_path / f"..v{version}").mkdir()
        (tmp_path / f"..v{version}" / "web.yaml").write_text(GOOD % version)
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")

    async def tell(place: Place) -> None:
        assert place.replicas() == 1
        (tmp_path / "..data_tmp").symlink_to("..v2")
        os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
        await place.until(lambda: place.replicas() == 2)

    story(tmp_path, tell)


def test_fault_M26_a_rename_over_the_file_is_seen(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 1)

    async def tell(place: Place) -> None:
        for replicas in (2, 3):
            (tmp_path / ".web.yaml.new").write_text(GOOD % replicas)
            os.rename(tmp_path / ".web.yaml.new", tmp_path / "web.yaml")
            await place.until(lambda wanted=replicas: place.replicas() == wanted)

    story(tmp_path, tell)


def test_fault_M27_what_editors_leave_lying_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 1)

    async def tell(place: Place) -> None:
        digest = place.source.last_attempted
        for name in ("4913", ".web.yaml.swp", "web.yaml~", "web.yaml.tmp", ".#web.yaml", "#web.yaml#"):
            (tmp_path / name).write_text("[")
        await place.source.sync()
        assert (place.source.error, place.source.last_attempted) == ("", digest)

    story(tmp_path, tell)


def test_fault_M30_a_root_that_is_a_link_may_be_pointed_elsewhere(tmp_path: Path) -> None:
    for number in (1, 2):
        fill(tmp_path / f"release{number}")
        (tmp_path / f"release{number}" / "web.yaml").write_text(GOOD % number)
    root = tmp_path / "current"
    root.symlink_to("release1")

    async def tell(place: Place) -> None:
        (tmp_path / "next").symlink_to("release2")
        os.rename(tmp_path / "next", root)
        await place.until(lambda: place.replicas() == 2)
        (tmp_path / "release2" / "web.yaml").write_text(GOOD % 6)
        await place.until(lambda: place.replicas() == 6)

    story(root, tell)


def test_fault_M31_a_change_by_another_name_of_the_file_is_found_by_the_next_poll(tmp_path: Path) -> None:
    root = tmp_path / "config"
    fill(root, "web")
    os.link(root / "web.yaml", tmp_path / "elsewhere.yaml")

    async def tell(place: Place) -> None:
        (tmp_path / "elsewhere.yaml").write_text(GOOD % 8)  # makes no event below the root
        await place.until(lambda: place.replicas() == 8)

    story(root, tell, poll_s=0.5)


def test_fault_M33_thousands_of_files_at_once_are_all_seen(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(GOOD % 1)

    async def tell(place: Place) -> None:
        junk = tmp_path / "junk"
        junk.mkdir()
        for number in range(20_000):
            os.close(os.open(junk / f"{number}.txt", os.O_CREAT | os.O_WRONLY))
        (tmp_path / "web.yaml").write_text(GOOD % 9)
        await place.until(lambda: place.replicas() == 9)

    story(tmp_path, tell)


def test_fault_M34_the_content_decides_whatever_time_and_size_say(tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(GOOD % 1)
    stamp = path.stat()

    async def tell(place: Place) -> None:
        for replicas, mtime_s in ((2, stamp.st_mtime), (3, 0.0), (4, 4e9)):
            path.write_text(GOOD % replicas)
            os.utime(path, (mtime_s, mtime_s))
            assert path.stat().st_size == stamp.st_size
            await place.source.sync()
            assert place.replicas() == replicas

    story(tmp_path, tell)
