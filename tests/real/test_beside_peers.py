"""What other supervisors are known to get wrong, done to ours; `benchmarks/` shows theirs beside it (figures M1 to M3)."""

from __future__ import annotations

import json
import os
import signal

from tests.proc import environ_of
from tests.real.house import House, eventually, files_below, worker

CANARY = "c4n4ry-0f-the-shell"


def test_a_harmless_value_of_one_pool_replaces_no_worker_where_supervisord_restarts_the_group(house: House) -> None:
    house.manifest("web", worker("ledger"), replicas=2)
    house.manifest("api", worker("ledger"), replicas=2)
    house.up()
    before = house.living("web", 2) | house.living("api", 2)

    house.manifest("web", worker("ledger"), replicas=2, grace="2s", restart={"policy": "OnFailure"})
    assert house.cli("source", "sync").returncode == 0
    wanted = house.get("pools", "web")
    assert wanted["spec"]["template"]["stop"]["gracePeriod"] == "2s"
    eventually(lambda: house.pool("web")["observedGeneration"] == wanted["metadata"]["generation"])
    assert house.pids() == before
    assert len(house.ledger("start")) == 4, house.ledger("start")


def test_a_slow_stop_of_one_pool_delays_no_restart_of_another_where_circus_waits(shared: House, name: str) -> None:
    slow, quick = f"{name}-slow", f"{name}-quick"
    try:
        shared.apply(slow, worker("ignore-term"), grace="1h")
        shared.apply(quick, worker("ledger"))
        deaf, before = shared.living(slow, 1), shared.living(quick, 1)
        assert shared.cli("stop", f"pool/{slow}").returncode == 0
        eventually(lambda: shared.worker(f"{slow}-0")["state"] == "Stopping")

        os.kill(before[f"{quick}-0"], signal.SIGKILL)
        eventually(lambda: shared.pids(quick) and shared.pids(quick) != before, what="the next of quick")
        assert shared.living(quick, 1) != before
        assert shared.worker(f"{slow}-0")["state"] == "Stopping" and shared.pids(slow) == deaf
        shared.apply(quick, worker("ledger"), replicas=2)
        shared.living(quick, 2)
        assert shared.pids(slow) == deaf, "the slow one was still stopping all the while"
    finally:
        for pid in shared.pids(slow).values():
            os.kill(pid, signal.SIGKILL)
        shared.delete(slow)
        shared.delete(quick)


def test_the_environment_of_up_is_in_no_file_and_no_answer_where_pm2_saves_it(house: House) -> None:
    env = [{"name": "LEDGER", "value": str(house.path)}, {"name": "KEY", "valueFrom": {"env": "SHOP_SECRET"}}]
    house.manifest("web", worker("ledger"), template={"env": env})
    house.manifest("batch", template={"env": env})
    house.up(env={"SHOP_SECRET": CANARY, "OTHER_SECRET": CANARY})  # one is declared, one only happens to be there
    pid = house.living("web", 1)["web-0"]
    task = house.submit("batch", ["true"])
    assert house.cli("wait", f"task/{task}", "--for", "finished").returncode == 0
    environ = environ_of(pid)
    assert environ["KEY"] == CANARY and "OTHER_SECRET" not in environ
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: house.worker("web-0")["restarts"] == 1)

    commands = ("status", "events -o json", "source status -o json", f"describe task/{task}", "describe pool/web")
    commands += ("why worker/web-0 -o json", "logs worker/web-0", f"logs task/{task}", "rollout history pool/web")
    commands += (f"plan {house.manifests} -o json", f"diff {house.manifests}", f"render {house.manifests}")
    for command in commands:
        done = house.cli(*command.split())
        assert CANARY not in done.stdout + done.stderr, command
    for path, said in answers(house).items():
        assert CANARY not in said, path
    assert CANARY not in house.output()

    house.down()
    written = dict(files_below(house.path))
    assert any(path.suffix == ".db" for path in written)
    assert not [path for path, content in written.items() if CANARY.encode() in content]


def answers(house: House) -> dict[str, str]:
    """What the API answers of every object there is, and of all."""
    paths = ["/api/v1/status", "/api/v1/events", "/api/v1/sources"]
    for kind in ("pools", "workers", "revisions", "tasks"):
        names = [item["metadata"]["name"] for item in house.get(kind)]
        assert names, kind
        paths += [
            f"/api/v1/{kind}",
            *(f"/api/v1/{kind}/{name}{more}" for name in names for more in ("", "/logs", "/why")),
        ]
    return {path: json.dumps(house.api("GET", path)[1]) for path in paths}
