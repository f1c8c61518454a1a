"""What `why` prints, and where a wait for the next start is seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reconciler.cli.columns import state_of_worker
from reconciler.cli.why import page
from reconciler.resources.worker import Decision, State

NOW = datetime(2026, 11, 23, 18, 10, tzinfo=UTC)


@pytest.fixture
def web(house: Any) -> Any:
    step = Decision(at=NOW, action="Wait", message="next start in 4s", because="exit code 3", rule="policy Always")

    def build() -> None:
        house.daemon.add_pool("web")
        house.daemon.add_worker("web", 0, state=State.BACKOFF, failures=3, decisions=(step,), next_start_at=NOW)

    house.within(build)
    return house


def test_the_page_begins_with_the_verdict_and_ends_with_what_comes() -> None:
    found = {
        "object": "worker/web-0",
        "state": "Backoff",
        "message": "exit code 3",
        "declared": {"path": "web.yaml", "line": 3, "generation": 2, "source": "/srv", "revision": ""},
        "chain": [
            {
                "at": "2026-11-23T18:09:58.000Z",
                "action": "Wait",
                "message": "next start in 4s",
                "because": "exit code 3",
                "rule": "restartpolicy/steady: backoff after 3 in a row",
                "declared": "",
            }
        ],
        "next": {"what": "it is started again", "at": "2026-11-23T18:10:02.000Z"},
    }

    assert page(found, NOW) == (
        "worker/web-0 is Backoff: exit code 3\n"
        "declared at web.yaml:3, generation 2\n"
        "\n"
        "2026-11-23T18:09:58.000Z  (2s ago)  Wait: next start in 4s\n"
        "    because: exit code 3\n"
        "    by restartpolicy/steady: backoff after 3 in a row\n"
        "\n"
        "next: it is started again in 2s, at 2026-11-23T18:10:02.000Z\n"
    )


def test_why_of_a_worker_as_text_and_as_json(web: Any, cli: Any) -> None:
    text = cli("why", "worker/web-0").stdout.decode()
    found = json.loads(cli("why", "worker", "web-0", "-o", "json").stdout)

    assert text.startswith("worker/web-0 is Backoff\n")
    assert "Wait: next start in 4s\n    because: exit code 3\n    by policy Always\n" in text
    assert found["chain"][0]["because"] == "exit code 3"


def test_why_of_what_is_not_there_ends_with_4_and_without_a_name_with_2(web: Any, cli: Any) -> None:
    assert cli("why", "worker/web-9").returncode == 4
    assert cli("why", "web-0").returncode == 2


def test_a_crash_loop_is_shown_with_the_time_of_the_next_try(web: Any, cli: Any) -> None:
    assert "CrashLoop (now)" in cli("get", "workers").stdout.decode()
    described = cli("describe", "worker/web-0").stdout.decode()
    assert "Next start:  now, at 2026-11-23T18:10:00.000Z\n" in described
    assert "decisions" not in described


@pytest.mark.parametrize(("failures", "word"), [(1, "Backoff"), (2, "Backoff"), (3, "CrashLoop")])
def test_from_the_third_failure_in_a_row_a_wait_is_a_crash_loop(failures: int, word: str) -> None:
    at = (datetime.now(UTC) + timedelta(days=20, hours=12)).isoformat()
    status = {"state": "Backoff", "failures": failures, "nextStartAt": at}
    assert state_of_worker(status) == f"{word} (in 20d)"
