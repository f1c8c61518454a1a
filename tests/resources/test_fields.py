"""What a field is, in a person's words."""

from __future__ import annotations

import pytest

from reconciler.resources.fields import Field, find, places
from reconciler.resources.kinds import WRITABLE


def test_a_field_has_its_type_default_and_what_a_change_does() -> None:
    field = find("pool.spec.template.stop.gracePeriod")

    assert (field.type, field.default, field.change) == ("duration", "30s", "live")
    assert field.example == "spec:\n  template:\n    stop:\n      gracePeriod: 30s"


def test_a_kind_and_a_map_list_what_is_in_them() -> None:
    assert [field.name for field in find("Pools").fields] == ["apiVersion", "kind", "metadata", "spec"]
    policy = next(field for field in find("pool.spec.restart").fields if field.name == "policy")
    assert "OnFailure" in policy.values


@pytest.mark.parametrize("path", ["pool.spec.template.env[0].name", "pool.spec.template.env[].name", "pool.spec.template.env.name"])  # fmt: skip
def test_items_of_a_list_are_named_with_or_without_their_place(path: str) -> None:
    assert (find(path).required, find(path).change) == (True, "template")


def test_a_name_that_is_there_once_is_enough_and_others_are_offered() -> None:
    assert find("gracePeriod") == find("pool.spec.template.stop.gracePeriod")
    with pytest.raises(LookupError, match=r"several places.*pool\.spec\.restart\.backoff"):
        find("backoff")
    with pytest.raises(LookupError, match="did you mean replicas"):
        find("replcas")
    with pytest.raises(LookupError, match=r"pool\.spec has no field 'restar'; did you mean restart"):
        find("pool.spec.restar")


def test_labels_may_have_any_name() -> None:
    assert (find("pool.metadata.labels.team").type, find("pool.metadata.labels.team").change) == ("string", "cosmetic")


@pytest.mark.parametrize("kind", WRITABLE)
def test_every_field_of_every_kind_is_found_and_described(kind: str) -> None:
    paths = [path for name in {path.rpartition(".")[2] for path in places_of(kind)} for path in places(name)]

    assert len(paths) > 5
    for path in paths:
        field = find(path)
        assert isinstance(field, Field) and field.path == path
        assert field.description or field.name in ("apiVersion", "kind"), path
        assert field.to_json()["path"] == path


def places_of(kind: str) -> list[str]:
    def below(field: Field) -> list[str]:
        return [field.path, *(path for one in field.fields for path in below(find(one.path)))]

    return below(find(kind))
