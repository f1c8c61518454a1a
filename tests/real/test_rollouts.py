"""rollout history, undo, pause and resume, as an operator meets them."""

from __future__ import annotations

import contextlib
import json

from tests.real.house import House, eventually

SLEEP = ["sleep", "1000"]


def colours(house: House, pool: str) -> list[str]:
    """What each worker was started with."""
    found = []
    for pid in house.pids(pool).values():
        with contextlib.suppress(OSError), open(f"/proc/{pid}/environ") as file:  # it may be gone by now
            found += [word[7:] for word in file.read().split("\0") if word.startswith("COLOUR=")]
    return found


def test_an_earlier_template_comes_back_and_the_history_tells_it(shared: House, name: str) -> None:
    for colour in ("red", "green"):
        shared.apply(name, SLEEP, env={"COLOUR": colour})
        eventually(lambda: colours(shared, name) == [colour])  # noqa: B023
    done = shared.cli("rollout", "undo", f"pool/{name}", "--reason", "green is slow")
    assert (done.returncode, done.stdout) == (0, f"pool/{name} undone\n"), done.stderr
    eventually(lambda: colours(shared, name) == ["red"])
    items = json.loads(shared.cli("rollout", "history", f"pool/{name}", "-o", "json").stdout)["items"]
    assert [(one["revision"], one["current"], one["workers"]) for one in items] == [
        (2, False, []),
        (3, True, [f"{name}-0"]),
    ]
    (change,) = items[1]["changes"]
    assert (change["path"], change["old"], change["new"]) == ("spec.template.env[1].value", "green", "red")
    assert items[1]["cause"]["actor"].startswith("user ")
    shown = shared.cli("rollout", "history", f"pool/{name}").stdout
    assert "3 (now)" in shown and "template.env[1].value" in shown
    assert "Undone" in [event["reason"] for event in shared.events(f"pool/{name}")]
    assert shared.cli("rollout", "undo", f"pool/{name}", "--to-revision", "9").returncode == 4
    assert shared.cli("rollout", "undo", f"pool/{name}", "--to-revision", "3").returncode == 5


def test_a_paused_rollout_stands_until_it_is_resumed(shared: House, name: str) -> None:
    shared.apply(name, SLEEP, env={"COLOUR": "red"}, replicas=2)
    shared.ready(name, 2)
    assert shared.cli("rollout", "pause", f"pool/{name}", "--reason", "freeze").returncode == 0
    shared.apply(name, SLEEP, env={"COLOUR": "green"}, replicas=2)
    eventually(lambda: shared.condition(name, "Progressing")["reason"] == "RolloutPaused")
    status = shared.cli("rollout", "status", f"pool/{name}")
    assert status.returncode == 1 and "freeze; it goes on with: reconciler rollout resume" in status.stdout
    assert colours(shared, name) == ["red", "red"]
    assert shared.cli("rollout", "resume", f"pool/{name}").returncode == 0
    eventually(lambda: colours(shared, name) == ["green", "green"])


def test_what_a_source_declares_is_undone_only_over_it(house: House) -> None:
    house.manifest("web", SLEEP, env={"COLOUR": "red"})
    house.up(str(house.manifests))
    house.ready("web", 1)
    house.manifest("web", SLEEP, env={"COLOUR": "green"})
    eventually(lambda: colours(house, "web") == ["green"])
    refused = house.cli("rollout", "undo", "pool/web")
    assert refused.returncode == 5
    assert "web.yaml" in refused.stderr and "rollout undo pool/web --to-revision 1 --override" in refused.stderr
    assert house.cli("rollout", "undo", "pool/web", "--override=1h").returncode == 0
    eventually(lambda: colours(house, "web") == ["red"])
    note = "spec.template is overridden until what is declared for it changes"
    assert note in house.cli("rollout", "status", "pool/web").stdout
    assert f"note: pool/web: {note}" in house.cli("status").stdout
    assert f"note: pool/web: {note}" in house.cli("plan", str(house.manifests)).stdout
    assert house.cli("rollout", "undo", "pool/web", "--override=0s").returncode == 0
    eventually(lambda: colours(house, "web") == ["green"])

    assert house.cli("rollout", "undo", "pool/web", "--override").returncode == 0
    eventually(lambda: colours(house, "web") == ["red"])
    house.manifest("web", SLEEP, env={"COLOUR": "blue"})
    eventually(lambda: colours(house, "web") == ["blue"], what="the edited file to end the override")
    assert house.get("pools", "web")["metadata"].get("overrides", {}) == {}


def test_a_template_that_does_not_stay_up_is_taken_back(shared: House, name: str) -> None:
    strategy = {"onFailure": "Rollback"}
    slow = {"backoff": {"initial": "1h", "max": "1h"}}
    shared.apply(name, SLEEP, env={"COLOUR": "red"}, strategy=strategy, restart=slow)
    shared.ready(name, 1)
    eventually(lambda: shared.pool(name).get("templateHash"), what="the first template to be known as good")
    strategy["minReady"] = "1m"  # it ends sooner than that, however busy the machine is
    shared.apply(name, ["sh", "-c", "exit 3"], env={"COLOUR": "green"}, strategy=strategy, restart=slow)
    eventually(lambda: shared.condition(name, "Progressing")["reason"] == "RolloutFailed")
    eventually(lambda: colours(shared, name) == ["red"])
    assert "RolloutFailed" in [event["reason"] for event in shared.events(f"pool/{name}")]
