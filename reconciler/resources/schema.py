"""The models as JSON Schema (draft-07), for editors and other tools.

    pool.json    one kind, as it is written in a manifest
    all.json     every kind in one, chosen by `kind`: editors take one schema a file

Wherever a value stands in them, `${{ an expression }}` may stand: editors see manifests before the values are put in.

`python -m reconciler.resources.schema` prints all of them as one JSON object; with a directory it writes them there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from reconciler.resources.kinds import DECLARED, WRITABLE
from reconciler.resources.meta import API_VERSION, Metadata, Model, Object
from reconciler.resources.units import format_duration, format_size

DRAFT = "http://json-schema.org/draft-07/schema#"


def schemas() -> dict[str, str]:
    """The text of every schema by its file name."""
    kinds = {kind: of_kind(model) for kind, model in sorted(DECLARED.items())}
    for kind in WRITABLE:  # a Configuration has no values
        kinds[kind] = _with_expressions(kinds[kind])
    files = {f"{kind.lower()}.json": {"$schema": DRAFT, **schema} for kind, schema in kinds.items()}
    files["all.json"] = {"$schema": DRAFT, **_all(kinds)}
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in files.items()}


def of_kind(model: type[Object]) -> dict[str, Any]:
    """The schema of one kind as people write it: without status, with the three fields of metadata that are theirs."""
    kind = model.__name__
    spec_model = model.model_fields["spec"].annotation
    assert isinstance(spec_model, type) and issubclass(spec_model, Model)
    spec = _draft_07(spec_model.model_json_schema(ref_template=_REF))
    metadata = _draft_07(Metadata.model_json_schema(ref_template=_REF))["properties"]
    definitions = spec.pop("$defs", {})
    return {
        "title": kind,
        "description": model.__doc__ or "",
        "type": "object",
        "additionalProperties": False,
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": API_VERSION},
            "kind": {"const": kind},
            "metadata": {
                "description": "Its name, and words to find it by.",
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {name: metadata[name] for name in ("name", "labels", "annotations")},
            },
            "spec": {"$ref": _REF.format(model=spec_model.__name__)},
        },
        "definitions": {**definitions, spec_model.__name__: spec},
    }


_REF = "#/definitions/{model}"


def _all(kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    for kind, schema in kinds.items():
        definitions |= schema["definitions"]
        definitions[kind] = {name: value for name, value in schema.items() if name != "definitions"}
    return {
        "title": "Manifest",
        "type": "object",
        "required": ["apiVersion", "kind"],
        "properties": {"apiVersion": {"const": API_VERSION}, "kind": {"enum": list(kinds)}},
        "allOf": [
            {"if": {"properties": {"kind": {"const": kind}}}, "then": {"$ref": _REF.format(model=kind)}}
            for kind in kinds
        ],
        "definitions": definitions,
    }


def _with_expressions(kind: dict[str, Any]) -> dict[str, Any]:
    properties = kind["properties"]
    metadata = properties["metadata"]
    named = {name: _or_expression(field) for name, field in metadata["properties"].items()}
    return {
        **kind,
        "properties": {**properties, "metadata": {**metadata, "properties": named}},
        "definitions": {name: _or_expression(field) for name, field in kind["definitions"].items()},
    }


_EXPRESSION = r"\$\{\{"


def _or_expression(node: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value, or of text with an expression in it.

    The type is widened where others would write anyOf: so an editor still names the one thing that is wrong.
    """
    new = dict(node)
    for name in ("properties", "patternProperties"):
        if name in node:
            new[name] = {field: _or_expression(inner) for field, inner in node[name].items()}
    for name in ("items", "additionalProperties"):
        if isinstance(node.get(name), dict):
            new[name] = _or_expression(node[name])
    for name in ("anyOf", "allOf"):
        if name in node:
            new[name] = [_or_expression(inner) for inner in node[name]]
    type_, pattern = node.get("type"), node.get("pattern")
    if words := {name: new.pop(name) for name in ("const", "enum") if name in node}:
        new["anyOf"] = [words, {"pattern": _EXPRESSION}]
    elif isinstance(type_, str) and type_ not in ("string", "null"):
        article = "an" if type_[0] in "aio" else "a"
        new |= {"type": [type_, "string"], "pattern": _EXPRESSION}
        new["patternErrorMessage"] = f"expected {article} {type_}, or ${{{{ an expression }}}}"
    elif pattern is not None:
        new["pattern"] = f"(?:{pattern})|{_EXPRESSION}"
        new.pop("maxLength", None)  # of the value, which the pattern bounds
        if "examples" in node:
            new["patternErrorMessage"] = f"expected a value such as {', '.join(map(str, node['examples']))}"
    return new


def _draft_07(node: Any) -> Any:
    """Pydantic's schema in the older draft, with defaults as people write them and without titles of fields."""
    if isinstance(node, list):
        return [_draft_07(item) for item in node]
    if not isinstance(node, dict):
        return node
    new = {name: _draft_07(item) for name, item in node.items() if name != "default"}
    if not isinstance(new.get("properties"), dict) and isinstance(new.get("title"), str):
        del new["title"]
    if node.get("default") is not None:
        new["default"] = _default(node["default"], str(node.get("pattern", node.get("items", {}).get("pattern", ""))))
    if "$ref" in new and len(new) > 1:  # its siblings are not looked at in this draft
        new = {"allOf": [{"$ref": new.pop("$ref")}], **new}
    return new


def _default(value: Any, pattern: str) -> Any:
    if isinstance(value, list):
        return [_default(item, pattern) for item in value]
    if isinstance(value, float) and "ms|" in pattern:
        return format_duration(value)
    return format_size(value) if isinstance(value, int) and "Ki|" in pattern else value


def main() -> None:
    """Prints or writes the schemas."""
    files = schemas()
    if len(sys.argv) == 1:
        json.dump({name: json.loads(text) for name, text in files.items()}, sys.stdout, indent=2)
        return
    for name, text in files.items():
        Path(sys.argv[1], name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
