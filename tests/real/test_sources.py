"""A directory of manifests and what runs: only what a change says is touched, and nothing outlives its manifest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.real.house import House, alive, eventually, worker


def labelled(house: House, name: str, replicas: int, **labels: str) -> None:
    wanted = house.pool_manifest(name, worker("ledger"), replicas=replicas)
    wanted["metadata"]["labels"] = labels
    house.write(f"{name}.yaml", json.dumps(wanted, indent=1))


def applied(house: House) -> str:
    return str(json.loads(house.cli("source", "status", "-o", "json").stdout)[0]["lastApplied"])


def test_a_change_of_one_pool_touches_that_pool_only_and_a_cosmetic_one_touches_nothing(house: House) -> None:
    house.manifest("a", worker("ledger"), replicas=2)
    house.manifest("b", worker("ledger"), replicas=2)
    house.up()
    a, b = house.living("a", 2), house.living("b", 2)

    house.manifest("a", worker("ledger"), replicas=2, env={"NEW": "1"})
    eventually(lambda: len(house.pids("a")) == 2 and not set(house.pids("a").values()) & set(a.values()))
    assert house.pids("b") == b

    now = house.living("a", 2)
    labelled(house, "b", 2, team="shop")
    eventually(lambda: house.get("pools", "b")["metadata"]["labels"] == {"team": "shop"})
    assert house.cli("source", "sync").returncode == 0
    before, path = applied(house), house.manifests / "b.yaml"
    house.write("b.yaml", f"# a comment\n\n{path.read_text()}")
    eventually(lambda: applied(house) not in ("", before))
    assert (house.pids("a"), house.pids("b")) == (now, b)
    assert len(house.ledger("start")) == 6, house.ledger("start")


def test_plan_says_what_then_happens(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2, grace="1m")
    house.up()
    before = house.living("web", 2)
    elsewhere = house.path / "elsewhere"
    elsewhere.mkdir()
    changed = house.pool_manifest("web", worker("ledger"), replicas=2, grace="1m", env={"NEW": "1"})
    (elsewhere / "web.yaml").write_text(json.dumps(changed))

    planned = house.cli("plan", str(elsewhere), "-o", "json", "--exit-code")
    assert planned.returncode == 1, planned.stderr
    (change,) = json.loads(planned.stdout)["changes"]
    assert (change["action"], change["effect"], change["workers"]) == ("replace", "rolling", ["web-0", "web-1"])
    assert house.cli("diff", str(elsewhere)).returncode == 1
    assert house.cli("diff", str(house.manifests)).returncode == 0
    assert house.pids("web") == before

    os.rename(elsewhere / "web.yaml", house.manifests / "web.yaml")
    eventually(lambda: not set(house.pids("web").values()) & set(before.values()))
    order = [line.slot for line in house.ledger("stop")]
    assert order == change["workers"]


def test_a_source_is_suspended_over_a_restart_of_the_controller_and_resumed(house: House) -> None:
    house.manifest("web", worker("ledger"))
    house.up()
    house.living("web", 1)
    assert (
        house.cli(
            "source", "suspend", house.cli("get", "sources", "-o", "name").stdout.strip(), "--reason", "night"
        ).returncode
        == 0
    )
    house.kill_controller()
    eventually(house.serving)
    house.manifest("web", worker("ledger"), replicas=3)
    status = house.cli("source", "status")
    assert "suspended" in status.stdout
    refused = house.cli("source", "sync", str(house.manifests))
    assert refused.returncode == 5 and "source resume" in refused.stderr
    pid = house.pids("web")["web-0"]
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: house.ready("web", 1)["web-0"] != pid, what="a restart: that is not suspended")

    assert house.cli("source", "resume", str(house.manifests)).returncode == 0
    house.living("web", 3)
    found = json.loads(house.cli("source", "status", "-o", "json").stdout)[0]
    assert (found["path"], found["suspended"], found["error"]) == (str(house.manifests), False, "")
    assert found["lastApplied"] == found["lastAttempted"] != ""
    assert house.cli("source", "status", "nobody").returncode == 4


def test_a_prune_of_most_waits_for_a_person(house: House) -> None:
    for name in ("a", "b", "c", "d"):
        house.manifest(name, worker("ledger"))
    house.up("--prune")
    before = {name: house.living(name, 1)[f"{name}-0"] for name in ("a", "b", "c", "d")}
    for name in "abc":
        (house.manifests / f"{name}.yaml").unlink()
    synced = house.cli("source", "sync")
    assert synced.returncode == 1 and "3 of the 4 objects" in synced.stderr, synced
    assert "would be pruned" in house.cli("status").stdout
    assert all(alive(pid) for pid in before.values())
    assert house.cli("plan", str(house.manifests)).stdout.count("delete") == 4  # three of them, and their count

    assert house.cli("source", "sync", "--confirm").returncode == 0
    eventually(lambda: [pool["metadata"]["name"] for pool in house.get("pools")] == ["d"])
    assert [name for name, pid in before.items() if alive(pid)] == ["d"]
    assert house.cli("source", "sync", "--confirm").returncode == 5


def test_fault_M36_a_manifest_deleted_while_its_process_starts_and_ends_leaves_no_orphan(house: House) -> None:
    house.manifest("stays", worker("ledger"))
    house.up("--prune")
    house.living("stays", 1)
    for round_ in range(3):
        path: Path = house.manifest("comes", worker("ignore-term"), replicas=2, grace="300ms")
        if round_ == 0:
            eventually(lambda: house.get("pools", "comes"))  # just declared: its processes are being started
        else:
            house.ready("comes", 2)
        path.unlink()
        eventually(lambda: house.get("pools", "comes") is None, what="the pool to be gone")
        eventually(lambda: not [c for c in house.children().values() if "ignore-term" in c], what="no orphan")
    assert len(house.pids("stays")) == 1
    house.assert_single()


def test_fault_M33_where_nothing_can_be_watched_that_is_said_once_and_a_look_is_enough(house: House) -> None:
    no_watches = ("unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"', "sh")
    if subprocess.run([*no_watches, "true"], capture_output=True).returncode != 0:
        pytest.skip("needs a user namespace of its own, to have no inotify in it")
    house.manifest("web", worker("ledger"))
    house.up(wrapper=no_watches)
    house.living("web", 1)
    eventually(lambda: "cannot be watched" in house.output(), what="a word about it")
    house.manifest("web", worker("ledger"), replicas=2)
    house.signal(signal.SIGHUP)
    house.living("web", 2)
    house.manifest("web", worker("ledger"), replicas=3)
    assert house.cli("source", "sync").returncode == 0
    house.living("web", 3)
    assert house.output().count("cannot be watched") == 1


def test_what_an_earlier_directory_declared_runs_on_and_is_named_until_it_is_removed(house: House) -> None:
    house.manifest("old", ["sleep", "inf"])
    house.up()
    before = house.worker("old-0")["instance"]
    house.cli("down", "--keep-workers")
    house.ended()
    house.manifests = house.path / "other"
    house.manifests.mkdir()
    house.manifest("new", ["sleep", "inf"])
    house.up()

    named = f"source {house.path / 'manifests'} is read no longer"
    assert f"note: {named}" in house.output()
    assert house.worker("old-0")["instance"] == before
    report = json.loads(house.cli("status", "-o", "json").stdout)
    assert [problem.partition(",")[0] for problem in report["problems"]] == [named]
    command = report["problems"][0].partition("`reconciler ")[2].rstrip("`")
    assert command == "delete pool/old"
    assert house.cli(*command.split(), "--wait").returncode == 0
    eventually(lambda: house.cli("status").returncode == 0)
