"""What is deleted together is judged together: all of it goes, or nothing does."""

from __future__ import annotations

from typing import Any

import pytest

from reconciler.errors import NotFound, Refused


def pool(name: str, *needs: str) -> dict[str, Any]:
    after = [{"kind": "Pool", "name": one} for one in needs]
    spec = {"template": {"command": ["sleep", "1"]}, "dependsOn": after}
    return {"apiVersion": "reconciler/v1", "kind": "Pool", "metadata": {"name": name}, "spec": spec}


def going(client: Any) -> list[str]:
    return [one["metadata"]["name"] for one in client.find("pools")["items"] if "deletedAt" in one["metadata"]]


def test_pools_that_need_each_other_are_deleted_at_once_in_any_order(house: Any) -> None:
    with house.client() as client:
        for one in (pool("db"), pool("web", "db"), pool("shop", "web")):
            client.create("pools", one)
        with pytest.raises(Refused, match="pool/db is used by pool/web"):
            client.delete("pools", "db")
        with pytest.raises(Refused, match="pool/web is used by pool/shop"):
            client.delete_all(["pool/db", "pool/web"])
        with pytest.raises(NotFound):
            client.delete_all(["pool/shop", "pool/none"])
        assert going(client) == []

        gone = client.delete_all(["pool/db", "pool/web", "pools/shop", "pool/db"])
        assert [one["metadata"]["name"] for one in gone] == ["db", "web", "shop"]
        assert going(client) == ["db", "shop", "web"]
