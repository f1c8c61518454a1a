"""The Tab key, and the schemas on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("reconciler roll", {"rollout"}),
        ("reconciler rollout ", {"history", "pause", "restart", "resume", "status", "undo"}),
        ("reconciler validate --form", {"--format"}),
        ("reconciler validate --format g", {"github", "gitlab"}),
    ],
)
def test_a_shell_is_offered_commands_options_and_their_words(line: str, offered: set[str]) -> None:
    words = line.split(" ")
    asked = {"_RECONCILER_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    command = [sys.executable, "-m", "reconciler"]
    done = subprocess.run(
        command, env={**os.environ, **asked}, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {each.partition(",")[2] for each in done.stdout.splitlines()} == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_its_script(shell: str, cli: Any) -> None:
    script = cli("completion", shell).stdout.decode()
    assert f"_RECONCILER_COMPLETE={shell}_complete" in script


def test_schemas_are_printed_as_they_are_published(cli: Any) -> None:
    assert cli("schema").stdout == (ROOT / "schemas" / "all.json").read_bytes()
    for word in ("pool", "Pools"):
        assert cli("schema", word).stdout == (ROOT / "schemas" / "pool.json").read_bytes()
    refused = cli("schema", "worker")
    assert refused.returncode == 4 and b"there is no kind 'worker' that people write" in refused.stderr
