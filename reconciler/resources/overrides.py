"""A field of a spec that an operator has set over what its source declares, and when the source's word holds again.

    metadata.overrides  {"spec.replicas": ""}    until when (RFC 3339); empty: until the source declares another value
    metadata.declared   {"spec.replicas": 3}     what the source declared, so that a change of it is seen

An override ends when the source declares another value for its field, at its time, or by hand: then the declared value
holds. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from reconciler.resources.meta import Model, Object
from reconciler.resources.units import moment

Kind = TypeVar("Kind", bound=Object)


def stands(until: str, now: datetime) -> bool:
    """Whether the end of an override is still ahead, or it has none."""
    return not until or moment(until) > now


def overridden(obj: Kind, path: str, value: Any, until: str) -> Kind:
    """The object with another value of one field, over its source's word.

    An override of an override keeps what the source declared; the declared value is no override: it ends one.
    """
    metadata = obj.metadata
    declared = metadata.declared.get(path, declares(obj.spec, path))
    changed = obj.changed(spec=obj.spec.changed(**{_name(path): value}))
    if _same(changed.spec, path, declared):
        return ended(obj, path)
    overrides = {**metadata.overrides, path: until}
    return changed.changed(
        metadata=metadata.changed(overrides=overrides, declared={**metadata.declared, path: declared})
    )


def ended(obj: Kind, path: str) -> Kind:
    """The object without the override of a field: what its source declares holds again."""
    metadata = obj.metadata
    spec = _with(obj.spec, path, metadata.declared[path]) if path in metadata.declared else obj.spec
    left = metadata.changed(overrides=_without(metadata.overrides, path), declared=_without(metadata.declared, path))
    return obj.changed(metadata=left, spec=spec)


def merged(old: Kind, new: Kind, now: datetime) -> Kind:
    """The live object with what its source declares now, but for the fields whose override still stands."""
    spec, was = new.spec, old.metadata
    overrides, declared = {}, {}
    for path, until in was.overrides.items():
        # one from before the declared value was kept: it is bound to what is declared now
        before = was.declared.get(path, declares(new.spec, path))
        if stands(until, now) and _same(new.spec, path, before):
            overrides[path], declared[path] = until, before
            spec = spec.changed(**{_name(path): getattr(old.spec, _name(path))})
    return old.changed(spec=spec, metadata=was.changed(overrides=overrides, declared=declared))


def declares(spec: Model, path: str) -> Any:
    """The value of a field as it is shown outside; None where there is none."""
    return spec.to_json().get(path.removeprefix("spec."))


def _same(spec: Model, path: str, value: Any) -> bool:
    """Whether a field has a value that was kept: also when a later version knows more fields, with defaults."""
    if declares(spec, path) == value:
        return True
    try:
        return bool(getattr(_with(spec, path, value), _name(path)) == getattr(spec, _name(path)))
    except ValidationError:
        return False  # kept by a version that knew other fields: it is not what is declared now


def _with(spec: Model, path: str, value: Any) -> Model:
    """The spec with a value as it was kept."""
    name = _name(path)
    read = type(spec).model_validate_json(json.dumps({**spec.to_json(), name: value}))
    return spec.changed(**{name: getattr(read, name)})


def _name(path: str) -> str:
    return path.removeprefix("spec.")  # the fields that can be overridden are one word


def _without(fields: Mapping[str, Any], path: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != path}
