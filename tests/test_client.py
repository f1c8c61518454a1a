"""The client for asyncio does what the other does, and several calls at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.client import AsyncClient
from reconciler.errors import NotFound
from tests.real.house import House, new_house


@pytest.fixture
def house() -> Iterator[House]:
    with new_house() as house:
        house.up()
        house.apply("batch", replicas=2)
        yield house


def test_tasks_are_submitted_waited_for_and_seen_by_many_calls_at_once(house: House) -> None:
    async def story() -> None:
        async with AsyncClient(str(house.state / "run" / "api.sock")) as client:
            one = await client.submit("batch", {"command": ["true"]})
            many = await client.submit_many("batch", [{"command": ["true"]}] * 3)
            names = [f"task/{task['metadata']['name']}" for task in (one, *many)]
            found = await asyncio.gather(*(client.wait([name], timeout_s=30) for name in names))
            assert [answer["results"][0]["status"]["state"] for answer in found] == ["Succeeded"] * 4
            assert len((await client.find("tasks", pool="batch"))["items"]) == 4

            late = await client.submit("batch", {"command": ["sleep", "60"]})
            await client.cancel(late["metadata"]["name"])
            ended = await client.wait([f"task/{late['metadata']['name']}"], timeout_s=30)
            assert ended["results"][0]["status"]["state"] == "Cancelled"

            pool = await client.get("pools", "batch")
            with pytest.raises(NotFound):
                await client.get("pools", "nobody")
            watching = aiter(client.watch("pools", str(pool["metadata"]["resourceVersion"]), "batch"))
            changed = asyncio.ensure_future(anext(watching))
            await client.submit("batch", {"command": ["true"]})
            assert (await asyncio.wait_for(changed, 30))["object"]["metadata"]["name"] == "batch"

    asyncio.run(story())


def test_the_example_of_the_readme_runs(house: House) -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text()
    code = next(part for part in text.split("```python\n")[1:] if "import Client" in part).partition("```")[0]

    done = subprocess.run(
        [sys.executable, "-c", code.replace("STATE", str(house.state))], capture_output=True, text=True, timeout=60
    )

    assert (done.stdout, done.returncode) == ("Succeeded 1001\n", 0), done.stderr
