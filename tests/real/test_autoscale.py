"""Pools that choose their own size, with real processes."""

from __future__ import annotations

from tests.real.house import House, eventually


def test_a_pool_of_none_runs_a_task_at_once_and_says_why_it_grew(shared: House, name: str) -> None:
    shared.write(
        f"{name}.yaml",
        f"apiVersion: reconciler/v1\nkind: Pool\nmetadata: {{name: {name}}}\n"
        "spec: {autoscale: {min: 0, max: 4}, tasks: {mode: PerTask}}\n",
    )
    eventually(lambda: shared.get("pools", name), 30.0, "the pool")
    assert shared.cli("get", f"pool/{name}").returncode == 0
    assert shared.task_ended(shared.submit(name, ["true"]))["state"] == "Succeeded"
    said = [one["message"] for one in shared.events(f"pool/{name}") if one["reason"] == "ScaledUp"]
    assert said == ["from 0 to 1 slots: one task waits and there is no slot"]
    assert shared.get("pools", name)["status"]["desiredReplicas"] == 1

    done = shared.cli("scale", f"pool/{name}", "--replicas", "3")
    assert done.returncode == 5 and "has autoscale" in done.stderr
    (shared.manifests / f"{name}.yaml").unlink()
