"""The published schemas are those of the models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reconciler.resources.schema import DRAFT, schemas

PUBLISHED = Path(__file__).parents[2] / "schemas"


def test_the_published_schemas_are_fresh() -> None:
    published = {file.name: file.read_text() for file in PUBLISHED.glob("*.json")}

    assert published == schemas(), "run: python -m reconciler.resources.schema schemas"


@pytest.mark.parametrize("name", ["pool.json", "all.json"])
def test_every_reference_leads_somewhere_and_has_no_siblings(name: str) -> None:
    schema = json.loads(schemas()[name])
    assert schema["$schema"] == DRAFT

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                assert list(node) == ["$ref"]
                assert node["$ref"].removeprefix("#/definitions/") in schema["definitions"]
            for item in node.values():
                walk(item)
        elif isinstance(node, list):
            for item in node:
                walk(item)

    walk(schema)


def test_a_schema_is_closed_and_keeps_what_a_change_does() -> None:
    pool = json.loads(schemas()["pool.json"])

    assert pool["additionalProperties"] is False
    assert all(
        definition["additionalProperties"] is False
        for definition in pool["definitions"].values()
        if definition["type"] == ["object", "string"]  # ${{ an expression }} can stand for it
    )
    assert pool["definitions"]["PoolSpec"]["properties"]["replicas"]["x-change"] == "live"
    assert list(pool["properties"]["metadata"]["properties"]) == ["name", "labels", "annotations"]
    assert "status" not in pool["properties"]


def test_defaults_are_written_as_people_write_them() -> None:
    definitions = json.loads(schemas()["pool.json"])["definitions"]

    assert definitions["Stop"]["properties"]["gracePeriod"]["default"] == "30s"
    assert definitions["Logs"]["properties"]["maxSize"]["default"] == "10Mi"


def test_a_list_of_durations_has_its_default_as_people_write_it() -> None:
    spec = json.loads(schemas()["schedulingpolicy.json"])["definitions"]["SchedulingPolicySpec"]

    assert spec["properties"]["quanta"]["default"] == ["100ms", "500ms", "2s", "10s"]
