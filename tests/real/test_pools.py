"""Pools end to end: scale, rollout, backoff, reload, sockets, cleanup."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from itertools import pairwise

import pytest

from tests.real.house import House, alive, eventually, made_at_s, processes_of, worker


def test_scaling_starts_the_lowest_free_ordinals_and_stops_the_highest_first(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"), replicas=2, grace="1m")
    two = shared.living(name, 2)
    assert shared.cli("scale", f"pool/{name}", "--replicas", "4").returncode == 0
    four = shared.living(name, 4)
    assert {worker: four[worker] for worker in two} == two
    assert sorted(four) == [f"{name}-{ordinal}" for ordinal in range(4)]
    assert shared.cli("scale", f"pool/{name}", "--replicas", "1").returncode == 0
    eventually(lambda: sorted(shared.workers(name)) == [f"{name}-0"])
    assert shared.pids(name) == {f"{name}-0": two[f"{name}-0"]}
    assert sorted(line.slot for line in shared.ledger("stop") if line.slot.startswith(name)) == [
        f"{name}-1",
        f"{name}-2",
        f"{name}-3",
    ]


def test_a_changed_template_replaces_workers_one_after_another(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"), replicas=3)
    before = shared.living(name, 3)
    shared.apply(name, worker("ledger"), replicas=3, env={"NEW": "1"})

    seen = []

    def replaced() -> bool:
        status = shared.workers(name)
        seen.append(sum(1 for s in status.values() if s["state"] == "Ready"))
        return (
            all(s["state"] == "Ready" and s.get("pid") != before[w] for w, s in status.items())
            and shared.pool(name)["updatedReplicas"] == 3
        )

    eventually(replaced)
    assert min(seen) >= 2, "more than one was missing at once"
    pids = shared.living(name, 3)
    starts = [line for line in shared.ledger("start") if line.slot.startswith(f"{name}-")][3:]
    assert len(starts) == 3
    gaps = [later - earlier for earlier, later in pairwise(sorted(map(made_at_s, pids.values())))]
    assert min(gaps) >= 0.99, gaps  # each is to have been up for a second
    eventually(lambda: shared.condition(name, "Progressing").get("status") != "False")


def test_a_rollout_stops_at_the_first_worker_that_does_not_stay_up(shared: House, name: str) -> None:
    marker = shared.path / "marker"
    marker.touch()
    shared.apply(name, worker("ledger"), replicas=3)
    before = shared.living(name, 3)
    shared.apply(name, worker("crash-once", marker), replicas=3, strategy={"minReady": "1m"})

    condition = eventually(
        lambda: (c := shared.condition(name, "Progressing")).get("status") == "False" and c, what="a failed rollout"
    )
    assert condition["reason"] == "RolloutFailed"
    kept = {w: pid for w, pid in before.items() if alive(pid)}
    assert len(kept) == 2, "the rollout went on after its first failure"
    assert {w: pid for w, pid in shared.pids(name).items() if w in kept} == kept

    shared.apply(name, worker("ledger"), replicas=3, env={"MENDED": "1"})
    eventually(lambda: shared.pool(name)["updatedReplicas"] == 3, what="a mended rollout")
    shared.living(name, 3)


def test_labels_and_live_fields_restart_nothing(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"))
    before = shared.living(name, 1)
    wanted = shared.pool_manifest(name, worker("ledger"), grace="2s")
    wanted["metadata"]["labels"] = {"team": "a"}
    wanted["spec"]["restart"] = {"policy": "OnFailure"}
    assert shared.api("PUT", f"/api/v1/pools/{name}", wanted)[0] == 200
    found = shared.get("pools", name)
    eventually(lambda: shared.pool(name)["observedGeneration"] == found["metadata"]["generation"])
    assert shared.living(name, 1) == before


def test_I6_restarts_keep_their_distance(shared: House, name: str) -> None:
    backoff = {"initial": "200ms", "factor": 2, "max": "800ms", "jitter": 0}
    shared.apply(name, worker("exit-n", 3), restart={"backoff": backoff})
    starts = shared.starts(f"{name}-0", 6)
    gaps = [later.at - earlier.at for earlier, later in pairwise(starts)]
    for gap, wanted in zip(gaps, (0, 0.2, 0.4, 0.8, 0.8), strict=True):
        assert wanted - 0.02 <= gap <= wanted + 30, gaps
    status = shared.worker(f"{name}-0")
    assert status["restarts"] >= 5
    assert (status["lastExit"]["code"], status["lastExit"]["reason"]) == (3, "Exited")
    eventually(lambda: shared.condition(name, "Degraded").get("status") == "True")


@pytest.mark.parametrize(
    ("policy", "code", "state"),
    [("OnFailure", 0, "Completed"), ("Never", 0, "Completed"), ("Never", 44, "Failed")],
)
def test_fault_P12_the_policy_decides_what_an_exit_means(
    shared: House, name: str, policy: str, code: int, state: str
) -> None:
    shared.apply(name, worker("exit-n", code), restart={"policy": policy})
    status = eventually(lambda: (s := shared.worker(f"{name}-0")).get("state") == state and s)
    assert status["lastExit"]["code"] == code
    assert len(shared.ledger("start", f"{name}-0")) == 1


def test_too_many_restarts_within_the_window_fail_the_worker(shared: House, name: str) -> None:
    backoff = {"initial": "10ms", "max": "20ms", "jitter": 0}
    shared.apply(name, worker("exit-n", 1), restart={"maxRestarts": 2, "window": "1m", "backoff": backoff})
    eventually(lambda: shared.worker(f"{name}-0").get("state") == "Failed")
    assert len(shared.ledger("start", f"{name}-0")) == 3


def test_the_backoff_outlives_the_controller(shared: House, name: str) -> None:
    backoff = {"initial": "1500ms", "max": "1500ms", "jitter": 0}
    shared.apply(name, worker("exit-n", 1), restart={"backoff": backoff})
    starts = shared.starts(f"{name}-0", 2)
    shared.kill_controller()
    starts = shared.starts(f"{name}-0", 3)
    assert starts[2].at - starts[1].at >= 1.4


def test_fault_P33_a_worker_that_somebody_kills_comes_back_at_once_and_says_so(shared: House, name: str) -> None:
    backoff = {"initial": "10m", "max": "10m"}  # which the first restart does not wait for
    shared.apply(name, worker("ledger"), restart={"backoff": backoff})
    (pid,) = shared.living(name, 1).values()
    os.kill(pid, signal.SIGKILL)
    status = eventually(lambda: (s := shared.worker(f"{name}-0"))["state"] == "Ready" and s["pid"] != pid and s)
    assert status["lastExit"]["signal"] == "SIGKILL" and status["lastExit"]["reason"] == "KilledExternally"
    reasons = {event["reason"] for event in shared.events(f"worker/{name}-0")}
    assert "Started" in reasons


def test_one_held_socket_serves_through_restarts_of_its_workers(shared: House, name: str) -> None:
    path = shared.path / "web.sock"
    sockets = [{"name": "web", "listen": str(path)}]
    shared.apply(name, worker("serve-socket"), replicas=2, template={"sockets": sockets})
    pids = shared.ready(name, 2)

    def ask() -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(path))
            return int(client.recv(100))

    assert ask() in pids.values()
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
        eventually(lambda pid=pid: not alive(pid))
    answer = ask()  # connected at once: the socket is held; answered by whoever comes next
    assert answer not in pids.values()
    shared.delete(name)
    eventually(lambda: not _connects(path), what="the socket to be closed")


def _connects(path: os.PathLike[str]) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        try:
            client.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # held, and its backlog is full
            return True
        return True


def test_declared_files_are_removed_after_every_end(shared: House, name: str) -> None:
    left = shared.path / f"{name}-0.sock"
    go = shared.path / f"{name}.go"
    command = ["/bin/sh", "-c", f"touch {left}; until [ -e {go} ]; do sleep 0.05; done; exit 1"]
    template = {"cleanup": {"files": [f"{shared.path}/$(RECONCILER_WORKER).sock"]}}
    shared.apply(name, command, template=template, restart={"policy": "Never"})
    eventually(left.exists)
    go.touch()
    eventually(lambda: shared.worker(f"{name}-0").get("state") == "Failed")
    eventually(lambda: not left.exists())


def test_logs_of_the_instance_before_are_kept(shared: House, name: str) -> None:
    command = ["/bin/sh", "-c", 'echo "I am $RECONCILER_INSTANCE"; exec sleep 1000']
    shared.apply(name, command)
    (pid,) = shared.ready(name, 1).values()
    first = shared.worker(f"{name}-0")["instance"]
    eventually(lambda: shared.cli("logs", f"worker/{name}-0").stdout == f"I am {first}\n")
    os.kill(pid, signal.SIGKILL)
    second = eventually(
        lambda: (s := shared.worker(f"{name}-0"))["state"] == "Ready" and s["instance"] != first and s["instance"]
    )
    eventually(lambda: f"I am {second}" in shared.cli("logs", f"worker/{name}-0").stdout)
    assert shared.cli("logs", f"worker/{name}-0", "--previous").stdout == f"I am {first}\n"
    assert shared.cli("logs", f"worker/{name}-0", "--tail", "1").stdout == f"I am {second}\n"


def test_wait_ends_when_the_condition_holds_and_with_124_when_time_is_up(shared: House, name: str) -> None:
    shared.apply(name, worker("ledger"))
    assert shared.cli("wait", f"pool/{name}", "--for", "ready", "--timeout", "30s").returncode == 0
    assert shared.cli("wait", f"pool/{name}", "--for", "deleted", "--timeout", "300ms").returncode == 124
    assert shared.cli("delete", f"pool/{name}").returncode == 0
    assert shared.cli("wait", f"pool/{name}", "--for", "deleted", "--timeout", "30s").returncode == 0


def test_fault_C31_one_pool_that_fails_for_ever_delays_no_other(shared: House, name: str) -> None:
    backoff = {"initial": "1ms", "max": "1ms", "jitter": 0}
    shared.apply(f"{name}-bad", ["/nowhere/program"], replicas=5, restart={"backoff": backoff})
    eventually(lambda: shared.worker(f"{name}-bad-0").get("lastExit"))
    shared.apply(name, worker("ledger"), replicas=2)
    shared.ready(name, 2)
    shared.delete(f"{name}-bad")


# --- manifests on disk ---


def test_fault_M1_I12_a_broken_manifest_changes_nothing_that_runs(house: House) -> None:
    web = house.manifest("web", worker("ledger"), replicas=2)
    house.up()
    before = house.living("web", 2)
    good = web.read_text()

    house.write("web.yaml", good[: len(good) // 2])
    eventually(lambda: (s := house.api("GET", "/api/v1/status")[1])["sources"][0].get("error") and s)
    problems = house.cli("status").stdout
    assert "web.yaml" in problems
    assert house.pids("web") == before
    source = house.api("GET", "/api/v1/status")[1]["sources"][0]
    assert source["lastAttempted"] != source["lastApplied"]

    os.kill(before["web-0"], signal.SIGKILL)  # the last good set is still kept up
    eventually(lambda: (s := house.worker("web-0"))["state"] == "Ready" and s["pid"] != before["web-0"])

    house.kill_launcher()
    house.up()  # and outlives a restart of everything
    assert house.pids("web")["web-1"] == before["web-1"]

    house.manifest("web", worker("ledger"), replicas=3)
    house.living("web", 3)
    assert house.pids("web")["web-1"] == before["web-1"]
    assert not house.api("GET", "/api/v1/status")[1]["sources"][0].get("error")

    refused = house.cli("scale", "pool/web", "--replicas", "1")
    assert refused.returncode == 5 and "--override" in refused.stderr
    assert house.cli("scale", "pool/web", "--replicas", "1", "--override").returncode == 0
    eventually(lambda: len(house.workers("web")) == 1)
    assert house.cli("scale", "pool/web", "--replicas", "2", "--override=1s").returncode == 0
    house.living("web", 3)  # the override has run out: what is declared holds again
    said = [event["message"] for event in house.events("pool/web") if event["reason"] == "Scaled"]
    assert said[-1].startswith("from 1 to 2 (override until "), said
    assert house.cli("scale", "pool/web", "--replicas", "1", "--override").returncode == 0
    eventually(lambda: len(house.workers("web")) == 1)

    house.signal(signal.SIGHUP)  # a rescan keeps the override
    house.write("other.yaml", "# nothing yet\n")
    assert len(house.workers("web")) == 1
    (house.manifests / "web.yaml").unlink()  # without --prune nothing is taken away
    eventually(lambda: house.api("GET", "/api/v1/status")[1]["sources"][0]["lastApplied"] != source["lastApplied"])
    assert house.pool("web")


def test_graceful_stop_leaves_an_empty_tree_whatever_the_cast_does(house: House) -> None:
    cast = {
        "ignore": worker("ignore-term"),
        "stopped": worker("stop-self"),
        "forking": worker("double-fork"),
        "tree": worker("fork-tree", 2, 2),
        "slow": worker("slow-exit", 0.3),
        "wiped": worker("wipe-environ"),
        "holding": worker("leave-children", 1),
        "leaderless": worker("thread-leader-exit"),
    }
    for pool, command in cast.items():
        grace = "1m" if pool in ("slow", "stopped", "wiped") else "1s"  # these end by themselves, in their time
        house.manifest(pool, command, grace=grace, restart={"backoff": {"initial": "50ms", "max": "50ms"}})
    house.up()
    eventually(lambda: len({line.slot for line in house.ledger("start")}) == len(cast))
    eventually(lambda: len(house.ledger("leaf")) == 4 and house.ledger("daemon"))
    began = time.monotonic()
    house.down()
    assert time.monotonic() - began < 30
    assert house.processes() == {}
    assert {line.slot for line in house.ledger("stop")} >= {"slow-0", "stopped-0", "wiped-0"}
    house.assert_single()
    assert processes_of(str(house.path)) == {}


def test_following_a_worker_over_a_restart_of_the_controller_misses_nothing(house: House) -> None:
    count = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done"
    house.manifest("web", ["sh", "-c", count])
    house.up()
    eventually(lambda: house.worker("web-0")["state"] == "Ready")
    with house.follow("logs", "-f", "worker/web-0") as follow:
        assert follow.stdout is not None
        try:
            seen = [follow.stdout.readline() for _ in range(20)]
            house.kill_controller()
            seen += [follow.stdout.readline() for _ in range(150)]
        finally:
            follow.kill()
    first = int(seen[0].split()[1])
    assert seen == [f"line {number}\n" for number in range(first, first + len(seen))]


def test_what_a_pool_depends_on_is_started_before_it_and_stopped_after_it(house: House) -> None:
    ready = house.path / "db.ready"
    probe = {"exec": {"command": ["/usr/bin/test", "-e", str(ready)]}, "period": "1s", "timeout": "1s"}
    house.up()
    house.apply("db", worker("ledger"), grace="1m", template={"probes": {"readiness": probe}})
    house.apply("web", worker("slow-exit", "0.5"), grace="1m", replicas=2, dependsOn=[{"kind": "Pool", "name": "db"}])
    eventually(lambda: house.worker("db-0").get("state") == "Running")
    eventually(lambda: house.condition("web", "Progressing").get("reason") == "Waiting")
    assert house.condition("web", "Progressing")["message"] == "waits for pool/db to be Available"
    assert house.worker("web-0")["state"] == "Pending"
    ready.touch()
    house.living("web", 2)
    os.kill(house.pids("db")["db-0"], signal.SIGKILL)
    house.starts("db-0", 2)
    assert len(house.ledger("start")) == 4, "a crash of what it depends on restarts nobody else"
    status, body = house.api("DELETE", "/api/v1/pools/db")
    assert status == 409 and "pool/web" in body["error"]["message"], (status, body)
    house.ready("db", 1)
    house.down()
    stops = [line.slot for line in house.ledger("stop")]
    assert sorted(stops[:2]) == ["web-0", "web-1"] and stops[2:] == ["db-0"], stops


AFTER_DB = [{"kind": "Pool", "name": "db", "condition": "Available"}]


def test_what_is_pruned_together_goes_at_once_and_in_reverse(house: House) -> None:
    house.manifest("db", worker("ledger"))
    house.manifest("web", worker("ledger"), dependsOn=AFTER_DB)
    house.up("--prune")
    house.living("db", 1)
    house.living("web", 1)
    (house.manifests / "db.yaml").unlink()
    (house.manifests / "web.yaml").unlink()
    eventually(lambda: json.loads(house.cli("get", "pools", "-o", "json").stdout)["items"] == [], what="no pool")


def test_up_does_not_wait_for_what_an_operator_has_stopped(house: House) -> None:
    house.manifest("db", worker("ledger"))
    house.manifest("web", worker("ledger"), dependsOn=AFTER_DB)
    house.up()
    house.living("web", 1)
    assert house.cli("stop", "pool/db", "--override", "--wait").returncode == 0
    assert house.cli("down").returncode == 0
    house.ended()
    said = house.up()
    assert (said.adopted, said.started) == (0, 0)
