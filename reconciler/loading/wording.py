"""The words for what does not fit: pydantic's findings as a person can act on them, whatever they are about.

    greater_than_equal, 1, {ge: 2}   ->   range: expected at least 2, got 1

Reads: one finding. What is about a place in a file is said in validate.py.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, get_args

from pydantic import BaseModel

from reconciler.loading import lint
from reconciler.loading.problem import field_path
from reconciler.resources.environment import MAX_ARGUMENT_BYTES
from reconciler.resources.meta import NAME_PATTERN
from reconciler.resources.units import BadValue, shown


def said(error: Any, model: type[BaseModel]) -> str:
    """One finding about JSON in one line: `priorty: there is no such field (did you mean priority?)`."""
    path, help = error["loc"], ""
    match error["type"]:
        case "extra_forbidden":
            known = fields_of(model)
            message, help = "there is no such field", did_you_mean(path[-1], known)
            if len(path) == 1:
                help = help or f"known: {', '.join(known)}"
        case "missing":
            message = "is missing"
        case "json_invalid":
            message = str(error["msg"])
        case _:
            _, message, help = words(path, error, lambda: str(error["input"]))
    return (f"{field_path(path)}: " if path else "") + message + (f" ({help})" if help else "")


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "a string",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
}


def words(path: tuple[str | int, ...], error: Any, written: Callable[[], str]) -> tuple[str, str, str]:
    """Rule, message and help for a value that does not fit. `written` gives it as it stands in its file."""
    type_, value, context = error["type"], error["input"], error.get("ctx", {})
    got = shown(value)
    match type_:
        case _ if type_ in _EXPECTED:
            expected = _EXPECTED[type_]
            return "type", f"expected {expected}, got {got}", _mend(path, expected, value, written)
        case "greater_than_equal":
            return "range", f"expected at least {context['ge']:g}, got {got}", ""
        case "greater_than":
            return "range", f"expected more than {context['gt']:g}, got {got}", ""
        case "less_than_equal":
            return "range", f"expected at most {context['le']:g}, got {got}", ""
        case "finite_number":
            return "value", f"expected a finite number, got {got}", ""
        case "enum" | "literal_error":
            options = re.findall(r"'([^']*)'", context["expected"])
            *others, last = options
            expected = f"{', '.join(others)} or {last}" if others else last
            return "value", f"expected {expected}, got {got}", did_you_mean(value, options)
        case "string_too_long" if context["max_length"] == MAX_ARGUMENT_BYTES:
            message = f"{len(value)} characters; Linux takes at most {MAX_ARGUMENT_BYTES} bytes in one variable"
            return "argument-too-long", message, "put it into a file"
        case "string_too_long" if path[-1] == "name" and context["max_length"] == 63:
            return _not_a_label(got)
        case "string_too_long" | "too_long":
            unit = "characters" if type_ == "string_too_long" else "items"
            return "limit", f"{len(value)} {unit}; at most {context['max_length']} are possible", ""
        case "too_short" | "string_too_short":
            return "value", "must not be empty", ""
        case "string_pattern_mismatch":
            return _pattern(context["pattern"], value)
        case "value_error" if isinstance(context["error"], BadValue):
            bad = context["error"]
            return bad.rule, bad.message, bad.help
        case _:
            return "value", str(error["msg"]).removeprefix("Value error, "), ""


def _mend(path: tuple[str | int, ...], expected: str, value: Any, written: Callable[[], str]) -> str:
    """What to write instead of a value of the wrong type."""
    key = "" if not path or isinstance(path[-1], int) else f"{path[-1]}: "
    if value is None:
        return "give it a value, or remove the key"
    if expected == "a string" and isinstance(value, int | float):
        text = written()
        if (expression := text.strip("'\"")).startswith("${{") and expression.endswith("}}"):
            return f"write {expression[:-2].rstrip()} | string }}}}"
        return f'put it in quotes: {key}"{text}"'
    if expected == "a whole number" and isinstance(value, str):
        return f"write it as a number: {key}{value if re.fullmatch('[0-9]{1,9}', value) else 3}"
    if expected == "a list" and isinstance(value, str) and re.fullmatch(r"[\w./= -]{1,60}", value):
        return f"write it as a list: {key}{lint.flow_list(value.split())}"
    if expected == "a list":
        return "write one item a line, each after '- '"
    return ""


def _pattern(pattern: str, value: str) -> tuple[str, str, str]:
    if pattern == NAME_PATTERN:
        return _not_a_label(shown(value))
    if pattern.startswith("^SIG("):
        signals = [f"SIG{name}" for name in pattern[5:].split(")")[0].split("|")]
        help = did_you_mean(f"SIG{value.upper().removeprefix('SIG')}", signals) or f"known: {', '.join(signals)}"
        return "value", f"expected a signal such as SIGTERM, got {shown(value)}", help
    if pattern.startswith("^/"):
        return "value", f"expected an absolute path, got {shown(value)}", "begin it with /"
    if not pattern.startswith("^[A-Za-z_]"):
        return "value", f"{shown(value)} does not match {pattern}", ""
    return "value", f"{shown(value)} is not the name of a variable", "letters, digits and _, no digit first"


def _not_a_label(got: str) -> tuple[str, str, str]:
    help = "at most 63 of a-z, 0-9 and -, with a letter or digit at both ends"
    return "name", f"{got} is no valid name", help


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """The known word that is nearest, as a question; empty if none is near."""
    if not isinstance(word, str):
        return ""
    plain = {name.lower().replace("_", ""): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("_", "")[:80], list(plain), 1, 0.7)
    return f"did you mean {plain[close[0]]}?" if close else ""


def fields_of(model: type[BaseModel]) -> dict[str, type[BaseModel] | None]:
    """The fields of a model as they are written, with the model inside."""
    return {field.alias or name: model_in(field.annotation) for name, field in model.model_fields.items()}


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation is about: `list[Port]` and `Tasks | None` have one."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := model_in(part)) is not None), None)
