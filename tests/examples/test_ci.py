"""The example of CI: its steps, run as they are written, on a good and on a bad manifest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "04-ci"


@pytest.fixture(params=["good", "bad"])
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the example, with a mistake in the bad one."""
    place = tmp_path / str(request.param)
    shutil.copytree(EXAMPLE, place)
    if request.param == "bad":
        web = place / "manifests" / "web.yaml"
        web.write_text(web.read_text().replace("replicas: 2", "replicas: two"))
    return place


def run(command: str, place: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", command], cwd=place, env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def loaded(file: Path) -> Any:
    # read as YAML 1.2, as the code hosts do: `on` is a word
    return yaml.load(file.read_text(), Loader=yaml.BaseLoader)


def test_the_steps_of_the_workflow_mark_the_line_and_hand_over_a_report(repository: Path) -> None:
    steps = loaded(repository / ".github" / "workflows" / "validate.yml")["jobs"]["manifests"]["steps"]
    commands = {step["name"]: step["run"] for step in steps if "run" in step}
    bad = repository.name == "bad"

    checked = run(commands["validate"], repository)
    assert checked.returncode == bad, checked.stderr
    assert ("::error file=manifests/web.yaml,line=6," in checked.stdout) == bad
    assert run(commands["report"], repository).returncode == 0
    (report,) = json.loads((repository / "reconciler.sarif").read_text())["runs"]
    assert [result["ruleId"] for result in report["results"]] == ["type"] * bad


def test_the_other_pipeline_hands_over_its_two_reports_and_fails_when_it_should(repository: Path) -> None:
    job = loaded(repository / ".gitlab-ci.yml")["validate"]
    bad = repository.name == "bad"

    codes = [run(command, repository).returncode for command in job["script"]]
    assert codes == [0, 0, int(bad)]
    reports = job["artifacts"]["reports"]
    assert len(json.loads((repository / reports["codequality"]).read_text())) == bad
    assert ElementTree.parse(repository / reports["junit"]).getroot().get("failures") == str(int(bad))


def test_the_hook_checks_the_whole_directory_and_has_the_id_that_the_example_names(repository: Path) -> None:
    (hook,) = loaded(ROOT / ".pre-commit-hooks.yaml")
    ((named,),) = [repo["hooks"] for repo in loaded(repository / ".pre-commit-config.yaml")["repos"]]

    assert named["id"] == hook["id"] and hook["pass_filenames"] == "false" and hook["language"] == "python"
    assert run(" ".join([hook["entry"], *hook["args"]]), repository).returncode == (repository.name == "bad")
