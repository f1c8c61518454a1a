"""What workers and tasks use, as the whole product shows it."""

from __future__ import annotations

from typing import Any

from tests.real.house import House, eventually, worker

BUSY = ["python3", "-c", "kept = bytearray(64 << 20)\nwhile True: sum(range(1000))"]


def used(house: House, name: str) -> dict[str, Any] | None:
    """The status of a worker once it shows what it uses."""
    status = house.worker(name)
    return status if "memoryBytes" in status else None


def samples(house: House, name: str) -> list[dict[str, Any]]:
    return list(house.api("GET", f"/api/v1/workers/{name}/usage")[1]["samples"])


def test_cpu_memory_and_threads_are_sampled_unasked_and_again_after_both_have_died(house: House) -> None:
    house.manifest("busy", BUSY)
    house.up("--sample-every", "500ms")
    first = eventually(
        lambda: (s := used(house, "busy-0")) and s.get("cpuPercent", 0) > 5 and s["memoryBytes"] > 64 << 20 and s
    )
    assert first["threads"] == 1
    eventually(lambda: house.pool("busy")["availableReplicas"] == 1)
    revision = house.get("pools", "busy")["metadata"]["resourceVersion"]
    before = len(samples(house, "busy-0"))
    eventually(lambda: len(samples(house, "busy-0")) >= before + 2)
    assert house.get("pools", "busy")["metadata"]["resourceVersion"] == revision, "a sample has changed the store"

    house.kill_controller()
    eventually(lambda: used(house, "busy-0"))
    house.kill_launcher()
    assert house.up("--sample-every", "500ms").adopted == 1
    adopted = eventually(lambda: (s := used(house, "busy-0")) and s.get("cpuPercent", 0) > 5 and s)
    assert adopted["pid"] == first["pid"]


def test_top_shows_all_that_belongs_to_a_worker(shared: House, name: str) -> None:
    shared.apply(name, worker("fork-tree", 2, 2))
    shared.ready(name, 1)

    def look() -> bool:
        shown = shared.cli("top", "workers", "--pool", name).stdout.splitlines()
        return len(shown) == 2 and (count := shown[1].split()[-1]).isdigit() and int(count) >= 7

    eventually(look, what="seven processes")


def test_a_stopped_worker_uses_nothing(shared: House, name: str) -> None:
    shared.apply(name, ["sleep", "1000"])
    shared.ready(name, 1)
    shared.cli("top")
    eventually(lambda: used(shared, f"{name}-0"))
    shared.apply(name, ["sleep", "1000"], replicas=0)
    eventually(lambda: "memoryBytes" not in shared.pool(name) and not shared.workers(name) and shared.cli("top"))


def test_a_running_task_shows_what_it_uses(shared: House, name: str) -> None:
    shared.apply(name)
    id_ = shared.submit(name, ["sleep", "1000"])

    def look() -> bool:
        return id_ in shared.cli("top", "tasks", "--pool", name).stdout

    eventually(look)
    eventually(lambda: shared.task(id_).get("threads") == 1)  # listed as soon as it runs, measured at the next look
    shared.cli("cancel", f"task/{id_}")
    assert "threads" not in shared.task_ended(id_)
