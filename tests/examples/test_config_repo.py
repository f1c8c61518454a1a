"""examples/03-config-repo as its README says: checked in CI, pulled on the host, followed by the daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.real.house import House, eventually, new_house

EXAMPLE = Path(__file__).parents[2] / "examples" / "03-config-repo"
WORKFLOW = ".github/workflows/validate.yaml"

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def git(directory: Path, *words: str) -> None:
    settings = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *settings, "-C", directory, *words], check=True, capture_output=True, timeout=300)


def commit(repository: Path, file: str, old: str, new: str) -> None:
    """A change as somebody merges it."""
    path = repository / "manifests" / file
    assert path.read_text().count(old) == 1
    path.write_text(path.read_text().replace(old, new))
    git(repository, "commit", "--all", "--message", "change")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The example as a repository of its own."""
    made = tmp_path / "config"
    shutil.copytree(EXAMPLE, made)
    git(made, "init", "--quiet")
    git(made, "add", "--all")
    git(made, "commit", "--message", "first")
    return made


def checks(repository: Path) -> list[subprocess.CompletedProcess[str]]:
    """The steps of the workflow that are ours, run as they stand there."""
    steps = yaml.safe_load((repository / WORKFLOW).read_text())["jobs"]["validate"]["steps"]
    commands = [step["run"] for step in steps if step.get("run", "").startswith("reconciler ")]
    assert len(commands) == 3
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path}
    return [
        subprocess.run(
            ["sh", "-c", command], cwd=repository, env=environment, capture_output=True, text=True, timeout=300
        )
        for command in commands
    ]


def test_the_workflow_lets_a_good_repository_pass(repository: Path) -> None:
    for done in checks(repository):
        assert done.returncode == 0, done


def test_the_workflow_refuses_a_wrong_manifest_and_names_its_line(repository: Path) -> None:
    commit(repository, "crawler.yaml", "replicas: 3", "replicas: three")

    valid, _, plan = checks(repository)

    assert valid.returncode == 1
    assert "file=manifests/crawler.yaml,line=7" in valid.stdout
    assert plan.returncode != 0


@pytest.fixture
def house(repository: Path) -> Iterator[House]:
    """A host that has cloned the repository."""
    with new_house() as house:
        clone = house.path / "clone"
        git(repository, "clone", "--quiet", str(repository), str(clone))
        house.manifests = clone / "manifests"
        yield house


def problems(house: House) -> list[str]:
    """What `reconciler status` has to say."""
    return list(house.api("GET", "/api/v1/status")[1]["problems"])


def test_a_merge_is_a_deployment_and_a_wrong_one_changes_nothing(house: House, repository: Path) -> None:
    clone = house.manifests.parent
    house.up("--prune")
    before = house.ready("crawler", 3)

    commit(repository, "crawler.yaml", "replicas: 3", "replicas: 4")
    git(clone, "pull", "--ff-only")
    more = house.ready("crawler", 4)
    assert before.items() <= more.items(), "a worker that need not change was touched"

    commit(repository, "crawler.yaml", "replicas: 4", "replicas: four")
    git(clone, "pull", "--ff-only")
    eventually(lambda: any("crawler.yaml:7" in one for one in problems(house)), what="the error to be told")
    assert house.ready("crawler", 4) == more

    git(repository, "revert", "--no-edit", "HEAD")
    git(clone, "pull", "--ff-only")
    eventually(lambda: not problems(house), what="all to be well again")
    assert house.ready("crawler", 4) == more

    (repository / "manifests" / "batch.yaml").unlink()
    (repository / "manifests" / "overlays" / "staging" / "small.yaml").unlink()
    git(repository, "commit", "--all", "--message", "without batch")
    git(clone, "pull", "--ff-only")
    eventually(lambda: house.get("pools", "batch") is None, what="batch to be gone")
    assert house.ready("crawler", 4) == more


def test_the_staging_host_runs_less(house: House) -> None:
    house.up("--overlay", "staging")
    house.ready("crawler", 1)
