"""An overlay: patches merged into the documents of the same kind and name.

    manifests/web.yaml                  kind: Pool  name: web  spec: {replicas: 6, template: {env: [{name: A, ...}]}}
    manifests/overlays/dev/web.yaml     kind: Pool  name: web  spec: {replicas: 1, autoscale: null}

Maps merge, `null` deletes, lists whose items all have a name merge by it, anything else replaces. A patch that matches
nothing is an error: nobody would notice the misspelt name of what should have been changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from reconciler.loading.document import Document, Places, Text, numbered
from reconciler.loading.problem import Problem

RULE = "overlay"


def merge(base: Sequence[Document], patches: Sequence[Document]) -> list[Problem]:
    """Merges each patch, in order, into the documents it names."""
    problems: list[Problem] = []
    for patch in patches:
        if patch.value is None:
            continue
        name = _identity(patch)
        if name is None:
            message = "an overlay's document needs a kind and a metadata.name"
            problems.append(patch.problem(patch.span, RULE, (), message, "write those of what it changes"))
            continue
        same = [document for document in base if _identity(document) == name]
        if not same:
            problems.append(_unmatched(patch, name, base))
        for document in same:
            problems += _Merge(document, patch).run()
    return problems


def _identity(document: Document) -> tuple[str, str] | None:
    value = document.value
    if not isinstance(value, dict) or not isinstance(value.get("metadata"), dict):
        return None
    kind, name = value.get("kind"), value["metadata"].get("name")
    return (kind, name) if isinstance(kind, str) and isinstance(name, str) else None


def _unmatched(patch: Document, name: tuple[str, str], base: Sequence[Document]) -> Problem:
    known = [f"{kind.lower()}/{other}" for kind, other in filter(None, map(_identity, base))]
    wanted = f"{name[0].lower()}/{name[1]}"
    close = difflib.get_close_matches(wanted, known, 1, 0.7)
    path = ("metadata", "name")
    help = f"did you mean {close[0]}?" if close else "an overlay changes what is there: add new objects beside it"
    return patch.problem(patch.value_span(path), RULE, path, f"there is no {wanted} to change", help)


class _Merge:
    """One patch into one document."""

    def __init__(self, base: Document, patch: Document) -> None:
        self._base, self._patch = base, patch
        self._problems: list[Problem] = []
        base.others.append(Text(patch.file, patch.lines))
        number = len(base.others)
        self._theirs: dict[int, Places] = {
            container: {step: (numbered(key, number), numbered(value, number)) for step, (key, value) in places.items()}
            for container, places in patch.places.items()
        }

    def run(self) -> list[Problem]:
        base = self._base
        base.places.update(self._theirs)  # what is taken over as it stands keeps its places
        base.value = self._map(base.value, self._patch.value, ())
        return self._problems

    def _value(self, old: Any, new: Any, path: tuple[str | int, ...]) -> Any:
        """`new` on top of `old`, both there and not null."""
        if isinstance(new, dict):
            return self._map(old if isinstance(old, dict) else {}, new, path)
        if isinstance(new, list) and isinstance(old, list) and _named(old) and _named(new):
            return self._list(old, new, path)
        return new

    def _map(self, old: dict[str, Any], new: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
        merged = dict(old)  # the old one may stand in several places by an alias
        places = dict(self._base.places.get(id(old), {})) if old else {}
        theirs = self._theirs.get(id(new), {})
        for name, value in new.items():
            here = (*path, name)
            if value is None:
                if name not in merged:
                    message = "null deletes a field, and there is none"
                    span = self._patch.key_span(here)
                    self._problems.append(self._patch.problem(span, RULE, here, message, "remove the line"))
                merged.pop(name, None)
                places.pop(name, None)
                continue
            both = isinstance(value, dict) and isinstance(merged.get(name), dict)
            merged[name] = self._value(merged.get(name), value, here)
            if name in theirs and not (both and name in places):
                places[name] = theirs[name]
        self._base.places[id(merged)] = places
        return merged

    def _list(self, old: list[Any], new: list[Any], path: tuple[str | int, ...]) -> list[Any]:
        merged = list(old)
        places = dict(self._base.places.get(id(old), {}))
        theirs = self._theirs.get(id(new), {})
        at = {item["name"]: index for index, item in enumerate(old)}
        for index, item in enumerate(new):
            if item["name"] in at:
                target = at[item["name"]]
                merged[target] = self._map(merged[target], item, (*path, index))
            else:
                if index in theirs:
                    places[len(merged)] = theirs[index]
                merged.append(self._map({}, item, (*path, index)))
        self._base.places[id(merged)] = places
        return merged


def _named(items: list[Any]) -> bool:
    """Whether each item is a map with a name of its own."""
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    return bool(names) and all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
