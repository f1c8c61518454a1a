"""The unit file for systemd."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli.install import quoted, verify


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path)
    return parser


def test_fault_L16_a_crash_of_the_daemon_does_not_take_the_workers_along(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "reconciler.service"
    (tmp_path / "my manifests").mkdir()
    done = cli("install", "--systemd", str(tmp_path / "my manifests"), "--output", str(path))
    said = f"{path} written: it brings up {tmp_path}/my manifests\n"
    assert (done.returncode, done.stdout.decode()) == (0, said), done.stderr
    service = unit(path)["Service"]
    assert (service["KillMode"], service["Delegate"], service["Type"]) == ("process", "yes", "notify")
    assert service["ExecStart"].endswith("--state " + quoted(str(Path(service["ExecStart"].split()[-1]))))
    assert f'up "{tmp_path}/my manifests" --state' in service["ExecStart"]
    assert unit(path)["Install"]["WantedBy"]


def test_systemd_accepts_the_unit(cli: Any, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    path = tmp_path / "reconciler.service"
    assert cli("install", "--systemd", str(tmp_path), "--output", str(path)).returncode == 0
    path.write_text(path.read_text().replace("KillMode=process", "KillMode=nonsense"))
    assert "kill mode" in verify(path, system=True)  # so it was looked at


def test_words_mean_themselves_in_a_unit() -> None:
    assert [quoted(word) for word in ("/a/b", "a b", "50%", "$HOME", 'say "x"')] == [
        "/a/b", '"a b"', "50%%", "$$HOME", '"say \\"x\\""',
    ]  # fmt: skip


def test_it_can_be_printed_only(cli: Any) -> None:
    done = cli("install", "--systemd", "/", "--output", "-")
    assert done.stdout.startswith(b"# Written by `reconciler install --systemd`.\n[Unit]\n")
    assert cli("install").returncode == 2


def test_it_says_what_it_will_bring_up_and_refuses_to_bring_up_nothing(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unit = tmp_path / "reconciler.service"
    refused = cli("install", "--systemd", "--output", str(unit))
    assert refused.returncode == 2 and b"what shall it bring up?" in refused.stderr and not unit.exists()
    (tmp_path / "manifests").mkdir()
    done = cli("install", "--systemd", "--output", str(unit))
    assert done.returncode == 0 and f"it brings up {tmp_path}/manifests\n" in done.stdout.decode(), done
    assert f" up {tmp_path}/manifests " in unit.read_text()


def test_the_unit_brings_up_the_same_variant_and_the_same_settings(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop/overlays/prod").mkdir(parents=True)
    (tmp_path / "big.yaml").write_text("replicas: 9\n")
    head = "apiVersion: reconciler/v1\nkind: Configuration\nmetadata: {name: host}\n"
    (tmp_path / "host.yaml").write_text(f"{head}spec: {{sources: [{{path: {tmp_path}/more}}]}}\n")
    given = ["--overlay", "prod", "--values", "big.yaml", "--set", "name=a b", "--config", "host.yaml"]

    done = cli("install", "--systemd", "shop", *given, "--output", "unit.service")

    assert (done.returncode, done.stderr) == (0, b"")
    assert f"it brings up {tmp_path}/shop {tmp_path}/more\n" in done.stdout.decode()
    words = f'--overlay=prod --values={tmp_path}/big.yaml "--set=name=a b" --config={tmp_path}/host.yaml'
    assert unit(tmp_path / "unit.service")["Service"]["ExecStart"].endswith(words)
    assert cli("install", "--systemd", "--config", "host.yaml", "--output", "-").returncode == 0
    for bad in (["--overlay", "test"], ["--values", "none.yaml"], ["--config", "big.yaml"]):
        assert cli("install", "--systemd", "shop", *bad, "--output", "-").returncode == 2, bad
