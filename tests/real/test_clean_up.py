"""Nothing outlives a worker: its files, sockets and cgroup go with it, however it ended and whoever was dead then."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.real.house import House, alive, eventually, open_descriptors

LEAVES_THINGS = """
import os, socket, time
name = os.environ["LEDGER"] + "/" + os.environ["RECONCILER_WORKER"]
held = socket.socket(socket.AF_UNIX)
held.bind(name + ".sock")
open(name + ".lock", "w").close()
time.sleep(1000)
"""


def leaving(house: House, pool: str, replicas: int = 1) -> None:
    """A pool whose workers leave a socket and a file each; a socket in the way would end the next one with an error."""
    files = [f"$(LEDGER)/$(RECONCILER_WORKER).{end}" for end in ("sock", "lock")]
    command = [sys.executable, "-c", LEAVES_THINGS]
    house.manifest(pool, command, replicas=replicas, template={"cleanup": {"files": files}})


def left(house: House, *workers: str) -> bool:
    """Whether just these have things of theirs lying about."""
    return {path.name for path in house.path.iterdir() if path.suffix in (".sock", ".lock")} == {
        f"{worker}{end}" for worker in workers for end in (".sock", ".lock")
    }


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not alive(pid))


def test_what_a_worker_left_is_gone_before_the_next_one_starts_and_when_it_is_stopped(house: House) -> None:
    leaving(house, "web", 2)
    house.up()
    house.ready("web", 2)
    eventually(lambda: left(house, "web-0", "web-1"))
    for crash in range(3):
        kill(house.ready("web", 2)["web-0"])
        eventually(lambda wanted=crash + 1: house.worker("web-0")["restarts"] == wanted)
        eventually(lambda: left(house, "web-0", "web-1"))
    assert not {"Exited", "CleanupFailed"} & {event["reason"] for event in house.events("worker/web-0")}
    assert house.cli("scale", "pool/web", "--replicas", "1", "--override").returncode == 0
    eventually(lambda: left(house, "web-0"))
    house.down()
    assert left(house)


def test_what_a_worker_left_that_ended_while_the_daemon_was_dead_is_removed_by_the_next(house: House) -> None:
    leaving(house, "web", 2)
    leaving(house, "gone")
    house.up()
    pids = house.ready("web", 2) | house.ready("gone", 1)
    eventually(lambda: left(house, "gone-0", "web-0", "web-1"))
    leaves = len(house.cgroup_leaves())
    house.kill_launcher()
    (house.manifests / "gone.yaml").unlink()
    kill(pids["web-1"])
    kill(pids["gone-0"])
    assert left(house, "gone-0", "web-0", "web-1"), "nobody was there to tidy up"
    house.up("--prune")
    eventually(lambda: left(house, "web-0", "web-1"), what="the things of what is gone to go")
    assert house.ready("web", 2)["web-0"] == pids["web-0"]
    assert house.worker("web-1")["lastExit"]["reason"] in ("ExitUnknown", "KilledExternally", "Signalled")
    eventually(lambda: len(house.cgroup_leaves()) == (leaves and leaves - 1), what="the cgroup of what is gone to go")


def test_what_a_worker_left_that_ended_while_the_controller_was_dead_is_removed_by_the_next(house: House) -> None:
    leaving(house, "web")
    house.up()
    pid = house.ready("web", 1)["web-0"]
    eventually(lambda: left(house, "web-0"))
    os.kill(house.controller(), signal.SIGSTOP)  # it sees no end any more, and then it dies
    kill(pid)
    house.kill_controller()
    house.ready("web", 1)
    eventually(lambda: house.worker("web-0")["restarts"] == 1 and left(house, "web-0"))


def test_descriptors_of_the_daemon_are_what_they_were_when_workers_have_come_and_gone(house: House) -> None:
    house.up()
    says = "import os; os.write(int(os.environ['NOTIFY_FD']), b'\\n'); os._exit(3)"
    template = {
        "sockets": [{"name": "web", "listen": f"{house.path}/held"}],
        "probes": {"readiness": {"notify": "Newline"}},
    }

    def a_round() -> list[int]:
        house.apply("web", [sys.executable, "-c", says], replicas=5, restart={"policy": "Never"}, template=template)
        eventually(lambda: [one["state"] for one in house.workers().values()] == ["Failed"] * 5)
        house.delete("web")
        return [open_descriptors(pid) for pid in (house.launcher, house.controller())]

    before = a_round()
    eventually(lambda: a_round() <= before, 30, "as many descriptors as after the first round")
    eventually(lambda: not (house.path / "held").exists())


@pytest.mark.parametrize("confined", [False, True], ids=["plain", "sandbox"])
def test_a_temporary_directory_of_its_own_needs_no_right_and_goes_with_its_worker(
    house: House, as_nobody: list[str], confined: bool
) -> None:
    line = 'mkdir -p "$TMPDIR/a/b" && touch "$TMPDIR/a/b/c" && chmod 0 "$TMPDIR/a" && exec sleep 1000'
    sandbox = {"privateTmp": True} | ({"readWritePaths": []} if confined else {})
    house.manifest("web", ["sh", "-c", line], replicas=2, template={"sandbox": sandbox})
    house.up(wrapper=as_nobody)

    def held() -> set[str]:
        place = house.state / "tmp"
        return {name for name in os.listdir(place) if (place / name / "a/b/c").exists()}

    def instances() -> set[str]:
        return {status["instance"] for status in house.workers("web").values()}

    pids = house.ready("web", 2)
    eventually(lambda: held() == instances())
    kill(pids["web-0"])
    eventually(
        lambda: held() == instances() and house.worker("web-0")["restarts"] == 1, what="only the new one's things"
    )
    now = house.ready("web", 2)
    house.kill_launcher()
    kill(now["web-1"])
    house.up(wrapper=as_nobody)
    house.ready("web", 2)
    eventually(lambda: held() == instances() and house.worker("web-1")["restarts"] == 1)
    assert house.ready("web", 2)["web-0"] == now["web-0"]
    told = house.cli("exec", "worker/web-0", "--", "sh", "-c", 'ls "$TMPDIR"')
    assert told.stdout == "a\n", told.stderr
    house.down()
    assert not [*house.state.glob("tmp/*/*")]
