"""What workers can do to their output: nothing of it holds up, ends or hides anything else."""

from __future__ import annotations

from tests.real.house import House, cpu_s, eventually, worker

MANY = 50 << 20


def flooded(house: House, pool: str) -> None:
    eventually(lambda: any(line.slot == f"{pool}-0" for line in house.ledger("flooded")), 30, f"all of {pool}'s output")


def test_fault_P23_P24_a_line_of_50_megabytes_blocks_nobody_and_is_kept_small(shared: House, name: str) -> None:
    shared.apply(name, worker("no-newline", MANY), template={"logs": {"maxSize": "1Mi", "maxFiles": 2}})
    flooded(shared, name)
    instance = shared.worker(f"{name}-0")["instance"]
    files = shared.state / "logs" / "w"
    eventually(lambda: 0 < sum(file.stat().st_size for file in files.glob(f"{instance}.log*")) <= MANY, what="rotation")
    found = shared.cli("logs", f"worker/{name}-0", "--tail", "1")
    assert found.returncode == 0 and set(found.stdout) == {"y"}


def test_fault_P25_bytes_that_are_no_text_are_kept_as_they_are(shared: House, name: str) -> None:
    shared.apply(name, worker("garbage"))
    shared.living(name, 1)
    _, body = eventually(lambda: (said := shared.api("GET", f"/api/v1/workers/{name}-0/logs"))[1] and said)
    assert "\x1b[2J" in body
    path = shared.state / "logs" / "w" / f"{shared.worker(f'{name}-0')['instance']}.log"
    assert path.read_bytes() == b"\x1b[2J\x1b]0;owned\x07\xff\xfe\x00bad\n"


def test_fault_P26_closing_its_output_is_not_an_end(shared: House, name: str) -> None:
    shared.apply(name, worker("close-stdio"))
    pid = shared.living(name, 1)
    assert shared.cli("logs", f"worker/{name}-0").returncode == 0
    assert shared.ready(name, 1) == pid and shared.worker(f"{name}-0")["restarts"] == 0


def test_fault_P27_a_flood_does_not_keep_others_waiting(shared: House, name: str) -> None:
    shared.apply(name, worker("flood", MANY), template={"logs": {"maxSize": "1Mi", "maxFiles": 2}})
    slowest_s, controller = 0.0, shared.controller()
    while not any(line.slot == f"{name}-0" for line in shared.ledger("flooded")):
        began_s = cpu_s(controller)
        assert shared.api("GET", "/api/v1/pools")[0] == 200
        slowest_s = max(slowest_s, cpu_s(controller) - began_s)
    assert slowest_s < 2, "the API had much to do before it answered"
    shared.ready(name, 1)
