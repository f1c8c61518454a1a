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


def test_workers_that_follow_their_cpu_begin_with_the_least_and_are_shown_like_others(shared: House, name: str) -> None:
    shared.write(
        f"{name}.yaml",
        f"apiVersion: reconciler/v1\nkind: Pool\nmetadata: {{name: {name}}}\nspec:\n"
        "  autoscale: {min: 1, max: 3, metrics: [{type: CPU, target: 70}]}\n"
        "  template: {command: [sleep, '1000']}\n",
    )
    shared.ready(name, 1)
    eventually(lambda: shared.pool(name)["readyReplicas"] == 1)
    shown = shared.cli("get", f"pool/{name}")
    assert shown.returncode == 0 and "1/1" in shown.stdout, shown.stderr
    assert shared.cli("rollout", "status", f"pool/{name}").returncode == 0
    assert shared.cli("top", "pools").returncode == 0
    text = shared.cli("get", f"pool/{name}", "-o", "yaml").stdout
    assert "autoscale:" in text and " replicas: 1\n" not in text.partition("status:")[0]
    (shared.manifests / f"{name}.yaml").unlink()
