"""up --config FILE: the daemon's own settings, checked like a manifest, read anew at SIGHUP."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from tests.real.house import House, eventually, worker

HEAD = "apiVersion: reconciler/v1\nkind: Configuration\nmetadata: {name: this-host}\n"


def settings(house: House, spec: str) -> Path:
    path = house.path / "settings.yaml"
    path.write_text(f"{HEAD}spec: {spec}\n")
    return path


def status(house: House) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(house.cli("status", "-o", "json").stdout)
    return found


def test_its_sources_are_watched_and_its_budget_is_in_force_and_follows_the_file(house: House) -> None:
    house.manifest("web", worker("ledger"))
    source = f"{{path: {house.manifests}, prune: true}}"
    path = settings(house, f"{{sources: [{source}], startBudget: {{rate: 5, burst: 7}}}}")
    house.up("--config", str(path))
    house.ready("web", 1)
    said = status(house)
    assert said["configuration"] == {"path": str(path), "startBudget": {"rate": 5.0, "burst": 7}}
    assert [one["path"] for one in said["sources"]] == [str(house.manifests)]

    settings(house, f"{{sources: [{source}], startBudget: {{rate: 0.5}}}}")
    os.kill(house.launcher, signal.SIGHUP)
    eventually(lambda: status(house)["configuration"]["startBudget"] == {"rate": 0.5, "burst": 200})
    eventually(lambda: f"{path} is in force as it stands now" in house.said.read_text())

    settings(house, "{startBudget: {rate: fast}}")
    os.kill(house.launcher, signal.SIGHUP)
    (problem,) = eventually(lambda: [p for p in status(house)["problems"] if "settings.yaml" in p])
    assert "settings.yaml:4:28: error[type]: spec.startBudget.rate" in problem
    assert status(house)["configuration"]["startBudget"]["rate"] == 0.5

    said = house.said.read_text()
    settings(house, f"{{sources: [{source}], startBudget: {{rate: 0.5}}}}")
    os.kill(house.launcher, signal.SIGHUP)
    eventually(lambda: f"{path} is in force as it stands now" in house.said.read_text()[len(said) :])
    assert not [problem for problem in status(house)["problems"] if "settings.yaml" in problem]

    (house.manifests / "web.yaml").unlink()
    eventually(lambda: house.get("pools", "web") is None, what="what its source declares no longer to be pruned")


def test_a_wrong_one_is_refused_at_its_place_before_anything_starts(house: House) -> None:
    path = settings(house, "{startBudget: {rate: 0}, roles: {}}")
    refused = house.cli("up", "--config", str(path), str(house.manifests))
    assert refused.returncode == 2
    assert "settings.yaml:4:28: error[range]: spec.startBudget.rate" in refused.stderr
    assert "settings.yaml:4:32: error[unknown-field]: spec.roles" in refused.stderr
    pool = house.manifest("web", worker("ledger"))
    refused = house.cli("up", "--config", str(pool))
    assert (refused.returncode, "one Configuration was expected" in refused.stderr) == (2, True)


def test_it_is_no_part_of_a_source(house: House) -> None:
    path = settings(house, "{}")
    assert house.cli("validate", str(path)).returncode == 0
    house.up()
    refused = house.cli("apply", "-f", str(path))
    assert refused.returncode != 0 and "reconciler up --config FILE" in refused.stderr
