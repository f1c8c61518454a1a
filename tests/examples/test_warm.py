"""examples/08-warm as its README says, in a directory of the test's own."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.house import House, new_house

EXAMPLE = Path(__file__).parents[2] / "examples" / "08-warm"


@pytest.fixture
def house() -> Iterator[House]:
    with new_house() as house:
        yield house


def test_both_languages_answer_as_the_readme_says(house: House, tmp_path: Path) -> None:
    for name in ("score.py", "shout.sh"):
        shutil.copy(EXAMPLE / name, tmp_path)
    text = (EXAMPLE / "warm.yaml").read_text()
    text = text.replace("/opt/hello-warm/bin/python", sys.executable).replace("/opt/hello-warm", str(tmp_path))
    house.write("warm.yaml", text)
    house.up()

    lines = (EXAMPLE / "README.md").read_text().splitlines()
    typed = [line for line in lines if line.startswith("    reconciler submit")]
    answers: list[Any] = []
    for line in typed:
        done = house.cli(*shlex.split(line)[1:])
        assert done.returncode == 0, (line, done)
        answers.append(json.loads(done.stdout)["status"]["result"])

    refused = house.cli("submit", "--pool", "shout", "--payload", "null", "--wait", "-o", "json")
    assert "must be a string" in json.loads(refused.stdout)["status"]["message"], refused
    assert house.get("workers", "shout-0")["status"]["restarts"] == 0
    empty = house.cli("logs", f"task/{json.loads(refused.stdout)['metadata']['name']}")
    assert (empty.stdout, "reconciler logs worker/shout-0" in empty.stderr) == ("", True), empty
    assert answers == [{"score": 168}, {"score": 71}, "HELLO"]
