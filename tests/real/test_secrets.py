"""Secrets reach the process that needs them and nothing else: not a file of ours, not an answer, not a command line."""

from __future__ import annotations

import json
import os
import sys

from tests.real.house import House, alive, eventually, files_below, worker

CANARY = "c4n4ry-0f-the-s3cret"
SHOWS_ITS_SECRETS = """
import os, sys, time
with open(os.environ["LEDGER"] + "/" + os.environ["RECONCILER_POOL"] + ".seen", "w") as file:
    file.write(" ".join(os.environ.get(name, "-") for name in ("KEY", "URL", "FROM_FILE", "OF_UP")))
time.sleep(1000)
"""


def seen(house: House, pool: str) -> str:
    path = house.path / f"{pool}.seen"
    return path.read_text() if path.exists() else ""


def secrets(house: House) -> dict[str, object]:
    (house.path / "key").write_text(f"{CANARY}\n")
    (house.path / "web.env").write_text(f"# of the shop\nFROM_FILE='{CANARY} 2'\n")
    return {
        "envFrom": [{"file": f"{house.path}/web.env"}],
        "env": [
            {"name": "LEDGER", "value": str(house.path)},
            {"name": "KEY", "valueFrom": {"file": f"{house.path}/key"}},
            {"name": "URL", "value": "http://me:$(KEY)@db"},
            {"name": "OF_UP", "valueFrom": {"env": "SHOP_SECRET"}},
        ],
    }


def test_fault_H15_a_secret_stands_in_the_environment_of_its_process_and_nowhere_else(house: House) -> None:
    program = [sys.executable, "-c", SHOWS_ITS_SECRETS]
    house.manifest("web", program, template=secrets(house))
    house.manifest("batch", template=secrets(house))
    house.up(env={"SHOP_SECRET": f"{CANARY} 3"})
    house.ready("web", 1)
    wanted = f"{CANARY} http://me:{CANARY}@db {CANARY} 2 {CANARY} 3"
    eventually(lambda: seen(house, "web") == wanted, what="the secrets in place")
    task = house.submit("batch", program)
    eventually(lambda: seen(house, "batch") == wanted, what="a task's secrets in place")
    assert house.cli("exec", "worker/web-0", "--", "printenv", "KEY").stdout == f"{CANARY}\n"
    os.kill(house.pids("web")["web-0"], 9)
    eventually(lambda: house.worker("web-0")["restarts"] == 1)
    house.kill_controller()
    eventually(house.serving)

    said = [house.output(), house.cli("status").stdout, house.cli("describe", "worker/web-0").stdout]
    said += [json.dumps(house.get(kind)) for kind in ("pools", "workers", "revisions", "tasks", "events")]
    said += [house.cli("plan", str(house.manifests)).stdout, house.cli("get", "pools", "-o", "yaml").stdout]
    assert not [text for text in said if CANARY in text]
    for path, content in files_below(house.state):
        assert CANARY.encode() not in content, path
    lines = house.processes()
    assert house.launcher in lines and not [line for line in lines.values() if CANARY in line]
    assert house.cli("cancel", f"task/{task}").returncode == 0
    house.down()
    for path, content in files_below(house.state):
        assert CANARY.encode() not in content, path


def test_fault_M42_a_missing_secret_keeps_a_worker_waiting_and_ends_none_that_runs(house: House) -> None:
    house.manifest("web", worker("ledger"), template=secrets(house))
    house.up(env={"SHOP_SECRET": "x"})
    pid = house.living("web", 1)["web-0"]
    template = secrets(house) | {"envFrom": []}
    (house.path / "key").unlink()
    house.manifest("other", worker("ledger"), template=template)
    message = house.failed_start("other-0")
    assert message.startswith(f"secret: {house.path}/key: No such file"), message
    assert alive(pid) and house.pids("web") == {"web-0": pid}
    (house.path / "key").write_text("found again")
    house.ready("other", 1)


def test_fault_H16_a_secret_is_refused_in_a_command_line_which_all_can_read(shared: House, name: str) -> None:
    (shared.path / f"{name}.env").write_text(f"KEY={CANARY}\n")
    envs = {"envFrom": [{"file": f"{shared.path}/{name}.env"}], "env": [{"name": "A", "value": "$(KEY)"}]}
    status, _ = shared.api("POST", "/api/v1/pools", shared.pool_manifest(name, ["echo", "$(A)"], template=envs))
    assert status == 201  # what the file holds is not known yet
    message = shared.failed_start(f"{name}-0")
    assert "is a secret" in message and CANARY not in message


def test_exec_makes_the_environment_again_where_a_program_has_written_over_it(shared: House, name: str) -> None:
    (shared.path / f"{name}.key").write_text(CANARY)
    title = """
import ctypes, os, sys, time
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
first, last = int(fields[47]), int(fields[48])
ctypes.memset(first, ord("x"), last - first)
open(os.environ["LEDGER"] + "/" + os.environ["RECONCILER_POOL"] + ".seen", "w").write("written over")
time.sleep(1000)
"""
    template = {
        "env": [
            {"name": "LEDGER", "value": str(shared.path)},
            {"name": "KEY", "valueFrom": {"file": f"{shared.path}/{name}.key"}},
        ]
    }
    shared.apply(name, [sys.executable, "-c", title], template=template)
    shared.ready(name, 1)
    eventually(lambda: seen(shared, name) == "written over")
    found = shared.cli("exec", f"worker/{name}-0", "--", "sh", "-c", "echo $KEY $RECONCILER_WORKER")
    assert found.stdout == f"{CANARY} {name}-0\n", found.stderr
