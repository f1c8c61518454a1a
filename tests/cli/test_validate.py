"""validate and explain as people and CI use them: forms, exit codes, words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.loading.report import FORMATS
from reconciler.loading.rules import RULES

GOOD = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: 2
  template: {command: [sleep, "1000"]}
"""
BAD = GOOD.replace("replicas: 2", "replicas: two")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("form", FORMATS)
def test_validate_ends_with_0_for_valid_and_1_for_invalid_in_every_form(cli: Any, tree: Path, form: str) -> None:
    (tree / "good.yaml").write_text(GOOD)
    (tree / "bad.yaml").write_text(BAD)

    assert cli("validate", "good.yaml", "--format", form).returncode == 0
    refused = cli("validate", ".", "--format", form)
    assert refused.returncode == 1
    assert b"type" in refused.stdout and b"bad.yaml" in refused.stdout


def test_validate_ends_with_2_for_what_is_not_there_and_for_an_unknown_form(cli: Any, tree: Path) -> None:
    assert cli("validate", "nowhere").returncode == 2
    (tree / "good.yaml").write_text(GOOD)
    assert cli("validate", "good.yaml", "--format", "xml").returncode == 2


def test_strict_makes_a_warning_an_error(cli: Any, tree: Path) -> None:
    (tree / "empty.yaml").write_text("# nothing yet\n")

    assert cli("validate", "empty.yaml").returncode == 0
    assert cli("validate", "empty.yaml", "--strict").returncode == 1
    assert cli("validate", "empty.yaml", "--strict", "-q").stdout == b""


def test_code_hosts_get_paths_from_the_directory_that_ci_runs_in(cli: Any, tree: Path) -> None:
    (tree / "bad.yaml").write_text(BAD)

    for path in ("bad.yaml", "./bad.yaml", str(tree / "bad.yaml")):
        assert b"::error file=bad.yaml,line=5," in cli("validate", path, "--format", "github").stdout


def test_standard_input_is_a_file_too(cli: Any, tree: Path) -> None:
    result = cli("validate", "-", "--format", "json", stdin=BAD.encode())

    assert (result.returncode, json.loads(result.stdout)["problems"][0]["file"]) == (1, "stdin")


def test_explain_lists_everything_and_says_all_of_a_rule(cli: Any) -> None:
    listed = cli("explain").stdout.decode()
    assert all(f"\n{rule} " in listed for rule in RULES)
    assert "\npool " in listed

    page = cli("explain", "duration").stdout.decode()
    for part in ("why:", "mend:", "wrong\n", "right\n", "gracePeriod: 30s"):
        assert part in page
    assert json.loads(cli("explain", "duration", "-o", "json").stdout)["layer"] == "schema"


def test_every_rule_has_a_page_that_fits_a_terminal(cli: Any) -> None:
    for rule in RULES:
        page = cli("explain", rule).stdout.decode()
        assert page.startswith(f"{rule} (")
        assert all(len(line) <= 100 and line.isprintable() for line in page.splitlines())


def test_explain_says_all_of_a_field(cli: Any) -> None:
    page = cli("explain", "pool.spec.restart").stdout.decode()
    assert "OnFailure" in page and "applied in place" in page and "maxRestarts" in page
    assert json.loads(cli("explain", "gracePeriod", "-o", "json").stdout)["default"] == "30s"


def test_explain_knows_what_it_does_not_know(cli: Any) -> None:
    result = cli("explain", "replcas")

    assert result.returncode == 4
    assert b"did you mean replicas?" in result.stderr
