"""examples/06-tasks as its README says."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.house import House, eventually, new_house

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "06-tasks"


@pytest.fixture
def house() -> Iterator[House]:
    with new_house() as house:
        yield house


def commands() -> list[list[str]]:
    """What the README has typed after `up`, word by word."""
    lines = [line.strip() for line in (EXAMPLE / "README.md").read_text().splitlines() if line.startswith("    ")]
    return [shlex.split(line, comments=True)[1:] for line in lines[1:]]


def test_the_commands_of_the_readme_do_what_it_says(house: House) -> None:
    shutil.copy(EXAMPLE / "manifests" / "batch.yaml", house.manifests)
    house.up()
    said = {}
    for words in commands():
        answer = house.cli(*[str(ROOT / word) if word.startswith("examples/") else word for word in words])
        assert answer.returncode == 0, (words, answer)
        said[words[0]] = answer.stdout
    assert "night" in said["get"] and "research" in said["get"]
    (late,) = house.get("tasks", query="?pool=quotes")
    assert house.task_ended(late["metadata"]["name"])["state"] == "Expired"

    tasks = house.get("tasks", query="?pool=night")
    assert {task["status"]["state"] for task in tasks} == {"Succeeded"} and len(tasks) == 4


def test_another_policy_is_taken_over_while_tasks_wait(house: House) -> None:
    text = (EXAMPLE / "manifests" / "batch.yaml").read_text()
    house.write("batch.yaml", text)
    house.up()
    assert house.cli("pause", "pool/shared").returncode == 0, "no field of the source is changed, no override is needed"
    drained = house.cli("drain", "pool/shared").stdout
    assert drained.startswith("pool/shared drained; it is no longer paused by ")
    assert house.cli("pause", "pool/shared").returncode == 0
    ids = [house.submit("shared", ["true"], priority=priority) for priority in (100, 250)]
    house.write("batch.yaml", text.replace("type: FairShare, weights: {research: 2}", "type: Priority"))
    eventually(lambda: house.get("schedulingpolicies", "fair-by-team")["spec"]["type"] == "Priority")
    assert [house.task(id_)["state"] for id_ in ids] == ["Pending", "Pending"]
    assert house.cli("resume", "pool/shared").returncode == 0
    assert {house.task_ended(id_)["state"] for id_ in ids} == {"Succeeded"}
