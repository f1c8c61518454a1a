"""plan and diff: what is printed, and with which code they end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

WEB = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: %d
  template: {command: [sleep, "1000"]}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(WEB % 2)
    return path


def test_plan_shows_what_would_happen_and_does_nothing(house: Any, cli: Any, manifest: Path) -> None:
    planned = cli("plan", str(manifest))
    assert planned.returncode == 0
    assert planned.stdout.decode() == (
        "+ pool/web  create: it is not there yet: 2 workers are started\n    workers: web-0 web-1\n\n"
        "1 to create; 0 objects unchanged\n"
    )
    assert cli("get", "pools/web").returncode == 4


def test_plan_ends_with_1_only_when_asked_for_and_something_changes(house: Any, cli: Any, manifest: Path) -> None:
    assert cli("plan", str(manifest), "--exit-code").returncode == 1
    cli("apply", "-f", str(manifest))
    same = cli("plan", str(manifest), "--exit-code")
    assert (same.returncode, same.stdout) == (0, b"nothing would change (1 object)\n")
    manifest.write_text("[")
    assert cli("plan", str(manifest)).returncode == 1
    assert cli("plan", str(manifest), "--exit-code").returncode == 2
    assert cli("plan", "/does/not/exist").returncode == 2


def test_plan_as_json_has_fields_effect_and_reason(house: Any, cli: Any, manifest: Path) -> None:
    cli("apply", "-f", str(manifest))
    manifest.write_text(WEB % 5)
    (change,) = json.loads(cli("plan", str(manifest), "-o", "json").stdout)["changes"]
    assert (change["object"], change["action"], change["effect"]) == ("pool/web", "update", "live")
    assert change["fields"] == [{"path": "spec.replicas", "old": 2, "new": 5, "change": "live"}]
    assert change["reason"]


def test_plan_offline_needs_no_daemon(cli: Any, house: Any, manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_STATE", str(manifest.parent / "nobody"))
    assert cli("plan", str(manifest)).returncode == 3
    planned = cli("plan", str(manifest), "--offline", "-o", "json")
    assert planned.returncode == 0
    assert [c["action"] for c in json.loads(planned.stdout)["changes"]] == ["create"]


def test_diff_prints_a_unified_diff_and_ends_as_diff_does(house: Any, cli: Any, manifest: Path) -> None:
    cli("apply", "-f", str(manifest))
    assert (cli("diff", str(manifest)).returncode, cli("diff", str(manifest)).stdout) == (0, b"")
    manifest.write_text(WEB % 3)
    differs = cli("diff", str(manifest))
    assert differs.returncode == 1
    text = differs.stdout.decode()
    assert text.startswith("--- pool/web (now)\n+++ pool/web (declared)\n")
    assert "-  replicas: 2\n+  replicas: 3\n" in text
    manifest.write_text("[")
    assert cli("diff", str(manifest)).returncode == 2


def test_diff_with_prune_shows_what_would_be_deleted(house: Any, cli: Any, manifest: Path) -> None:
    cli("apply", "-f", str(manifest))
    manifest.write_text((WEB % 1).replace("web", "other"))
    assert "--- pool/web (now)" not in cli("diff", str(manifest)).stdout.decode()
    assert "--- pool/web (now)" in cli("diff", str(manifest), "--prune").stdout.decode()
