"""render, and the options that say what is to be made of manifests: every command sees the same."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from reconciler.loading.variant import Wanted
from reconciler.resources.pool import Pool

WEB = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: ${{ web.replicas }}
  template: {command: [sleep, "no", "1e3", "0o10", "${{ greeting }}"]}
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "overlays" / "prod").mkdir(parents=True)
    (tmp_path / "web.yaml").write_text(WEB)
    (tmp_path / "values.yaml").write_text("web: {replicas: 2}\ngreeting: hello\n")
    (tmp_path / "overlays" / "prod" / "web.yaml").write_text(
        "kind: Pool\nmetadata: {name: web}\nspec: {restart: {policy: OnFailure}}\n"
    )
    return tmp_path


def test_render_prints_what_would_be_loaded_and_it_loads_as_the_same(cli: Any, place: Path) -> None:
    done = cli("render", str(place), "--overlay", "prod", "--set", "web.replicas=3")

    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(f"# {place}/web.yaml:1\napiVersion: reconciler/v1\n".encode())
    loaded = yaml.safe_load(done.stdout)
    assert loaded["spec"] == {
        "replicas": 3,
        "template": {"command": ["sleep", "no", "1e3", "0o10", "hello"]},
        "restart": {"policy": "OnFailure"},
    }
    assert cli("validate", "-", stdin=done.stdout).returncode == 0
    listed = json.loads(cli("render", str(place), "--overlay", "prod", "--set", "web.replicas=3", "-o", "json").stdout)
    assert listed == {"kind": "List", "items": [loaded]}


def test_what_the_daemon_would_refuse_is_printed_and_said_with_1(cli: Any, place: Path) -> None:
    done = cli("render", str(place), "--set", "web.replicas=many")

    assert done.returncode == 1
    assert yaml.safe_load(done.stdout)["spec"]["replicas"] == "many"
    assert f"{place}/web.yaml:5:13: error[type]: spec.replicas: expected a whole number" in done.stderr.decode()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--overlay", "prd"], "there is no overlays/prd in what was given"),
        (["--values", "no-such-file"], "there is no file 'no-such-file'"),
        (["--set", "replicas"], "--set 'replicas' is not NAME=VALUE"),
        (["--set", "a=[1"], "--set a: "),
    ],
)
@pytest.mark.parametrize("verb", [["render"], ["validate"], ["plan"], ["diff"], ["up"], ["apply", "-f"]])
def test_what_cannot_be_meant_ends_with_2(
    cli: Any, place: Path, verb: list[str], options: list[str], said: str
) -> None:
    done = cli(*verb, str(place), *options)

    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_apply_and_plan_send_what_was_asked_for_and_the_daemon_makes_the_same_of_it(
    cli: Any, house: Any, place: Path, tmp_path: Path
) -> None:
    more = tmp_path / "more.values"
    more.write_text("web: {replicas: 4}\n")
    options = ["--overlay", "prod", "--values", str(more), "--set", "greeting=hi"]

    planned = json.loads(cli("plan", str(place), *options, "-o", "json").stdout)
    assert planned["changes"][0]["action"] == "create"
    assert cli("plan", "--offline", str(place), *options).returncode == 0
    done = cli("apply", "-f", str(place), *options)
    assert done.stdout == b"pool/web created\n", done.stderr

    pool = house.within(lambda: house.daemon.store.get(Pool, "web"))
    assert pool.spec.replicas == 4
    assert pool.spec.template.command[-1] == "hi"
    assert pool.spec.restart.to_json()["policy"] == "OnFailure"
    assert cli("diff", str(place), *options).returncode == 0
    assert cli("diff", str(place)).returncode == 1


def test_a_missing_value_is_said_before_anything_is_sent(cli: Any, place: Path) -> None:
    (place / "values.yaml").unlink()

    done = cli("apply", "-f", str(place))

    assert done.returncode == 1
    assert "there is no value 'greeting'" in done.stderr.decode()


def test_a_plan_of_a_source_that_the_daemon_reads_is_made_as_the_daemon_reads_it(
    cli: Any, house: Any, place: Path
) -> None:
    (place / "values.yaml").write_text("greeting: hello\n")
    source = SimpleNamespace(
        root=str(place), name="source", prune=False, wanted=Wanted("prod", (), ("web.replicas=5",))
    )
    house.within(lambda: house.daemon.sources.append(source))

    (change,) = json.loads(cli("plan", str(place), "-o", "json").stdout)["changes"]
    assert len(change["workers"]) == 5

    done = cli("plan", str(place), "--overlay", "prod")
    assert (done.returncode, b"there is no 'replicas'" in done.stderr or b"there is no value 'web'" in done.stderr) == (
        1,
        True,
    )
