"""A Pool's template hash changes exactly when workers must be replaced."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import BaseModel

from reconciler.resources.meta import Change
from reconciler.resources.pool import PoolSpec, Template, template_hash
from reconciler.resources.restart import Backoff

TEMPLATE: dict[str, Any] = {"command": ["sleep", "inf"]}


def hash_with(**fields: Any) -> str:
    return template_hash(Template.model_validate({**TEMPLATE, **fields}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("command", ["sleep", "1"]),
        ("env", [{"name": "A", "value": "b"}]),
        ("user", "nobody"),
        ("workingDir", "/srv"),
        ("ports", [{"name": "http", "base": 8000}]),
        ("sockets", [{"name": "http", "listen": "127.0.0.1:80"}]),
    ],
)
def test_a_change_of_the_process_itself_changes_the_hash(field: str, value: Any) -> None:
    assert hash_with(**{field: value}) != hash_with()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stop", {"signal": "SIGINT", "gracePeriod": "5s"}),
        ("logs", {"maxSize": "1Mi", "maxFiles": 2}),
        ("cleanup", {"files": ["/run/a.sock"]}),
    ],
)
def test_what_is_applied_in_place_does_not_change_the_hash(field: str, value: Any) -> None:
    assert hash_with(**{field: value}) == hash_with()


def test_writing_out_a_default_does_not_change_the_hash() -> None:
    assert hash_with(workingDir="/", env=[], logs={"destination": "File"}, stop={}) == hash_with()


def test_the_hash_is_the_same_in_every_version_that_keeps_the_template() -> None:
    # a change of this number replaces every worker of every pool at an upgrade
    assert hash_with() == "3a9dbf1663"


def test_the_order_of_arguments_and_variables_counts() -> None:
    one, two = {"name": "A", "value": "1"}, {"name": "B", "value": "2"}

    assert hash_with(env=[one, two]) != hash_with(env=[two, one])
    assert len(hash_with()) == 10


def test_every_field_of_a_pool_says_what_its_change_does() -> None:
    for name, field in PoolSpec.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict) and Change(str(extra["x-change"])), name


def models_below(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and all that its fields are made of."""
    found = {model}
    pending: list[Any] = [field.annotation for field in model.model_fields.values()]
    while pending:
        annotation = pending.pop()
        pending += get_args(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found |= models_below(annotation)
    return found


def test_every_field_that_people_write_is_described() -> None:
    models = models_below(PoolSpec)

    assert Template in models and Backoff in models
    assert [
        f"{m.__name__}.{name}" for m in models for name, field in m.model_fields.items() if not field.description
    ] == []
