"""What a field is, read from the schemas: its type in a person's words, its default, and what a change of it does.

pool.spec.restart.backoff.max   ->   Field(type="duration", default="1m", change="live", ...)
gracePeriod                     ->   the same as its whole path, when it is the only one of that name
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from reconciler.resources.kinds import DECLARED
from reconciler.resources.schema import of_kind

_DEEPEST = 20
"""A model may contain itself."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field, or a kind itself."""

    path: str
    type: str
    description: str
    required: bool = False
    default: Any = None
    values: tuple[str, ...] = ()
    limits: str = ""
    change: str = ""
    """template, live or cosmetic; empty where it is not said."""
    example: str = ""
    """Lines of a manifest."""
    fields: tuple[Field, ...] = ()
    """What is in it, one level down."""

    @property
    def name(self) -> str:
        """The last step of its path."""
        return self.path.rpartition(".")[2]

    def to_json(self) -> dict[str, Any]:
        """For programs; what is not so is left out."""
        names = ("path", "type", "description", "required", "default", "limits", "change", "example")
        found: dict[str, Any] = {
            name: value for name in names if (value := getattr(self, name)) not in (None, "", False)
        }
        if self.values:
            found["values"] = list(self.values)
        if self.fields:
            found["fields"] = [field.to_json() for field in self.fields]
        return found


def find(text: str) -> Field:
    """The field of that path; items of lists may be written as [0], [] or not at all. Raises LookupError."""
    steps = ["".join(step.split("[")[:1]) for step in text.strip(".").split(".")]
    kind = next((kind for kind, model in DECLARED.items() if steps[0].lower() in (kind.lower(), model.plural)), None)
    if kind is None:
        return _by_name(".".join(steps))
    schema = _schema(kind)
    node, path, change, required = schema, kind.lower(), "", True
    outline: list[str] = []
    for step in steps[1:]:
        inside = _inside(node, schema)
        known = inside.get("properties", {})
        if step not in known and isinstance(inside.get("additionalProperties"), dict):
            known = {step: inside["additionalProperties"]}
        if step not in known:
            close = difflib.get_close_matches(step, known, 1)
            mend = f"did you mean {close[0]}?" if close else f"it has: {', '.join(known) or 'no fields'}"
            raise LookupError(f"{path} has no field {step!r}; {mend}")
        required = step in inside.get("required", ())
        item = "- " if outline and "items" in _resolved(node, schema) else ""
        outline.append(f"{'  ' * len(outline)}{item}{step}:")
        node, path = known[step], f"{path}.{step}"
        change = _resolved(node, schema).get("x-change", change)
    found = _field(node, schema, path, change, required, deep=True)
    sample = _sample(node, schema)
    return found if sample is None or not outline else replace(found, example="\n".join(outline) + f" {sample}")


def places(name: str) -> list[str]:
    """Every path that ends with it, in the order of the schemas."""
    return [path for path in _all_paths() if path == name or path.endswith(f".{name}")]


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    return of_kind(DECLARED[kind])


def _by_name(name: str) -> Field:
    found = places(name)
    if len(found) == 1:
        return find(found[0])
    if found:
        raise LookupError(f"{name!r} is in several places; give one of: {', '.join(found[:12])}")
    close = difflib.get_close_matches(name, {step for path in _all_paths() for step in path.split(".")}, 1)
    raise LookupError(f"there is no rule and no field {name!r}" + (f"; did you mean {close[0]}?" if close else ""))


def _all_paths() -> Iterator[str]:
    for kind in DECLARED:
        yield kind.lower()
        schema = _schema(kind)
        yield from _paths(schema, schema, kind.lower(), _DEEPEST)


def _paths(node: dict[str, Any], schema: dict[str, Any], path: str, left: int) -> Iterator[str]:
    if left:
        for name, item in _inside(node, schema).get("properties", {}).items():
            yield f"{path}.{name}"
            yield from _paths(item, schema, f"{path}.{name}", left - 1)


def _field(node: dict[str, Any], schema: dict[str, Any], path: str, change: str, required: bool, deep: bool) -> Field:
    found = _resolved(node, schema)
    inside = _inside(node, schema)
    values = [str(value) for value in found.get("enum", [found["const"]] if "const" in found else [])]
    default = found.get("default")
    below = inside.get("properties", {}) if deep else {}
    return Field(
        path=path,
        type=_word(found, schema),
        description=found.get("description", ""),
        required=required,
        default=None if default in ([], {}) or isinstance(default, dict) else default,
        values=tuple(values),
        limits=_limits(found),
        change=change,
        fields=tuple(
            _field(
                item,
                schema,
                f"{path}.{name}",
                _resolved(item, schema).get("x-change", change),
                name in inside.get("required", ()),
                deep=False,
            )
            for name, item in below.items()
        ),
    )


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The node with what it refers to; its own words (description, default) win."""
    if "$ref" in node:
        return _resolved(schema["definitions"][node["$ref"].rpartition("/")[2]], schema)
    rest = {name: value for name, value in node.items() if name not in ("allOf", "anyOf")}
    options = [option for option in node.get("anyOf", ()) if option.get("type") != "null"]
    parts = [*node.get("allOf", ()), *(options if len(options) == 1 else ())]
    for part in parts:
        rest = {**_resolved(part, schema), **rest}
    return {**rest, "options": options} if len(options) > 1 else rest


def _sample(node: dict[str, Any], schema: dict[str, Any]) -> str | None:
    """A value that fits, as it is written; None where its fields are the better answer."""
    found = _resolved(node, schema)
    if "items" in found:
        inner = _sample(found["items"], schema)
        return None if inner is None else f"[{inner}]"
    candidates = (found.get("default"), found.get("const"), *found.get("enum", ()), *found.get("examples", ()))
    for value in (*candidates, found.get("minimum")):
        if value is not None and not isinstance(value, list | dict):
            return json.dumps(value) if not isinstance(value, str) or not value.isalnum() else value
    return None


def _inside(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The node whose properties are the fields below: of a list its item, of a union all of them together."""
    found = _resolved(node, schema)
    if "items" in found:
        return _inside(found["items"], schema)
    properties: dict[str, Any] = {}
    for option in found.get("options", found.get("oneOf", ())):
        properties |= _inside(option, schema).get("properties", {})
    return {**found, "properties": properties} if properties else found


def _word(found: dict[str, Any], schema: dict[str, Any]) -> str:
    """The type as a person says it."""
    if "items" in found:
        return f"list of {_word(_resolved(found['items'], schema), schema)}"
    if "options" in found or "oneOf" in found:
        words = (_word(_resolved(one, schema), schema) for one in found.get("options", found.get("oneOf", ())))
        return " or ".join(dict.fromkeys(words))
    if "enum" in found or "const" in found:
        return "word"
    pattern = str(found.get("pattern", ""))
    if "ms|" in pattern:
        return "duration"
    if "Ki|" in pattern:
        return "size"
    names = {"integer": "whole number", "boolean": "true or false", "object": "map"}
    return names.get(str(found.get("type")), str(found.get("type", "any value")))


def _limits(found: dict[str, Any]) -> str:
    """Bounds of a number, a text or a list."""
    for low, high, unit in (
        ("minimum", "maximum", ""), ("minLength", "maxLength", " characters"), ("minItems", "maxItems", " items"),
    ):  # fmt: skip
        if low in found and high in found:
            return f"{found[low]:g} to {found[high]}{unit}"
        if low in found:
            return f"at least {found[low]}{unit}"
        if high in found:
            return f"at most {found[high]}{unit}"
    return ""
