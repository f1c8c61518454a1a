"""Tables, ages and what a terminal is spared."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from reconciler.cli import jsonpath
from reconciler.cli.columns import rows
from reconciler.cli.show import age, harmless, structured, table
from reconciler.cli.waiting import task_code

NOW = datetime(2026, 11, 23, 18, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"), (45.9, "45s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (7200, "120m"),
        (3 * 3600, "3h"), (3 * 3600 + 1200, "3h20m"), (30 * 3600, "30h"), (52 * 3600, "2d4h"), (20 * 86400, "20d"),
    ],
)  # fmt: skip
def test_an_age_has_one_or_two_units(seconds: float, shown: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown


def test_an_unknown_age_is_a_dash() -> None:
    assert age(None) == "-"


def test_columns_are_three_spaces_apart() -> None:
    assert table(["NAME", "READY"], [["a-long-name", "1/1"], ["b", "0/1"]]) == (
        "NAME          READY\na-long-name   1/1\nb             0/1\n"
    )


def test_fault_H12_a_cell_cannot_break_its_line() -> None:
    assert table(["MESSAGE"], [["a\nb\x1b[2J"]]) == "MESSAGE\na\\nb\\x1b[2J\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("Grüße 漢字 🎉\n", "Grüße 漢字 🎉\n"),
        ("\x1b[31mred\x1b[0m\n", "\\x1b[31mred\\x1b[0m\n"),
        ("\x1b]0;title\x07\n", "\\x1b]0;title\\x07\n"),
        ("99%\rdone\n", "99%\\rdone\n"),
        ("dos\r\n", "dos\n"),
        ("\u009b2J", "\\x9b2J"),
        ("a\u202eb", "a\\u202eb"),
        ("\x08\x7f", "\\x08\\x7f"),
    ],
)
def test_fault_H12_output_cannot_steer_a_terminal(text: str, shown: str) -> None:
    assert harmless(text) == shown


PODS: Any = {"items": [{"metadata": {"name": "a"}, "n": 1}, {"metadata": {"name": "b"}, "n": 2}], "ok": True}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("{.items[*].metadata.name}", "a b\n"),
        ("{.items[0].n}", "1\n"),
        ("{.items[-1].n}", "2\n"),
        ("{.items[0]['metadata']}", '{"name": "a"}\n'),
        ("{.ok}", "true\n"),
        (".ok", "true\n"),
        ("{.none.there}", "\n"),
        ('{.ok}:{.items[5].n}{"\\n"}', "true:\n"),
    ],
)
def test_a_path_finds_what_it_leads_to(path: str, found: str) -> None:
    assert jsonpath.render(path, PODS) == found


@pytest.mark.parametrize("path", ["{.items[}", "{.a b}", '{"x}', "{.items[?(@.n)]}"])
def test_a_path_that_cannot_be_read_is_an_error_of_usage(path: str) -> None:
    with pytest.raises(click.UsageError):
        jsonpath.render(path, PODS)


def test_json_and_yaml_say_the_same() -> None:
    import yaml

    assert json.loads(structured(PODS, "json")) == yaml.safe_load(structured(PODS, "yaml")) == PODS


def test_a_pool_of_slots_counts_its_tasks() -> None:
    pool = {
        "kind": "Pool",
        "metadata": {"name": "batch"},
        "spec": {"replicas": 4, "tasks": {}},
        "status": {"tasks": {"running": 3, "pending": 7}},
    }
    headers, (row,) = rows("Pool", [pool])
    assert dict(zip(headers, row, strict=True))["TASKS"] == "3 running, 7 pending"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ({"state": "Succeeded", "exitCode": 0}, 0),
        ({"state": "Failed", "exitCode": 3, "reason": "Exited"}, 3),
        ({"state": "DeadLettered", "signal": "SIGKILL", "reason": "Signalled"}, 137),
        ({"state": "Failed", "signal": "SIGTERM", "reason": "TimedOut"}, 143),
        ({"state": "Cancelled", "exitCode": 0}, 125),
        ({"state": "Unknown"}, 125),
        ({"state": "Expired"}, 125),
        ({"state": "Failed", "reason": "StartFailed", "message": "exec: /x: No such file or directory (ENOENT)"}, 127),
        ({"state": "Failed", "reason": "StartFailed", "message": "exec: /x: Permission denied (EACCES)"}, 126),
        ({"state": "Failed", "reason": "ExitUnknown"}, 125),
    ],
)
def test_a_task_ends_the_command_with_its_own_code(status: dict[str, Any], code: int) -> None:
    assert task_code(status) == code
