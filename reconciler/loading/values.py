"""Values, and the `${{ expression }}` in manifests that they go into.

    values.yaml              {web: {replicas: 3}}          beside the manifests, then the overlay's, then --values FILE
    --set web.replicas=5     the last word
    replicas: ${{ web.replicas }}                          alone: the value with its type
    name: "web-${{ region }}"                              in text: as text

Expressions are looked for in what YAML has already read, and what they yield is put in as a value. So whatever it
holds, it stays one scalar, one list or one map, at the place where its expression stands.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.errors import Invalid
from reconciler.loading.document import Document
from reconciler.loading.parse import MAX_BYTES, MAX_PROBLEMS, SourceFile, parse, resolve
from reconciler.loading.problem import START, Problem, Span

OPENING = "${{"
RULE = "template"
UNUSED = "unused-value"

_EXPRESSION = re.compile(r"""\$\{\{((?:[^'"}]|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\}(?!\}))*)\}\}""", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USE = re.compile(r"(?<![\w.])([A-Za-z_]\w*)(?:\.(\w+))?")


class Slot(NamedTuple):
    """A string with expressions in it, and where it stands."""

    document: Document
    container: Any
    step: str | int
    path: tuple[str | int, ...]
    parts: tuple[str, ...]
    """Text and expressions by turns: text, expression, text, ..."""

    @property
    def expressions(self) -> tuple[str, ...]:
        return self.parts[1::2]

    @property
    def alone(self) -> bool:
        """Whether it is nothing but one expression."""
        return len(self.parts) == 3 and not self.parts[0].strip() and not self.parts[2].strip()

    def problem(self, expression: int, rule: str, message: str, help: str = "") -> Problem:
        """A finding at one of its expressions."""
        span = self.document.value_span(self.path)
        line = self.document.lines[span.line - 1]
        start = span.column - 1
        for number, text in enumerate(self.expressions):
            found = line.find(f"{OPENING}{text}}}}}", start)
            if found < 0:
                break  # it spans lines, or is written with escapes
            start = found + len(text) + 5
            if number == expression:
                span = Span(span.line, found + 1, start + 1)
        return self.document.problem(span, rule, self.path, message, help)


def read(files: Sequence[SourceFile], sets: Sequence[str]) -> tuple[dict[str, Any], list[Problem]]:
    """The values of these files, a later one on top of an earlier, and of `--set`. Raises Invalid for a bad --set."""
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for file in files:
        documents, found = parse(file)
        problems += found
        for document in documents[1:]:
            problems.append(document.problem(document.span, "values", (), "a file of values is one document"))
        for document in documents[:1]:
            bad = _unfit(document)
            problems += bad
            if not bad and document.value is not None:
                _merge(values, document.value)
    for text in sets:
        path, value = parse_set(text)
        for step in reversed(path):
            value = {step: value}
        _merge(values, value)
    return values, problems


def parse_set(text: str) -> tuple[list[str], Any]:
    """The path and the value of `a.b=VALUE`, the value as YAML reads it. Raises Invalid."""
    name, equals, written = text.partition("=")
    path = name.split(".")
    if not equals or not _NAME.fullmatch(path[0]) or not all(path):
        raise Invalid(f"--set {text!r} is not NAME=VALUE", "for example --set web.replicas=3")
    if written[:1] not in ("[", "{", '"', "'"):
        try:
            return path, resolve(written) if written else ""
        except ValueError as error:
            raise Invalid(f"--set {name}: {error}") from None
    documents, problems = parse(SourceFile("--set", written.encode("utf-8", "surrogateescape")))
    if problems or len(documents) != 1:
        why = problems[0].message if problems else "one value was expected"
        raise Invalid(f"--set {name}: {why}", "a value that begins with a bracket or a quote is read as YAML")
    return path, documents[0].value


def unused(sets: Sequence[str], texts: Iterable[str]) -> list[Problem]:
    """A warning for each --set that nothing in these texts names, such as one with a misspelt name."""
    used: dict[str, set[str]] = {}
    if sets:
        for text in texts:
            for name, rest in _USE.findall(text):
                used.setdefault(name, set()).add(rest)
    problems = []
    for written in sets:
        path, _ = parse_set(written)
        after = used.get(path[0], set())
        if after and (len(path) == 1 or after & {"", path[1]}):  # whole, or by the next step
            continue
        names = [name if not rest else f"{name}.{rest}" for name, rests in used.items() for rest in rests]
        close = difflib.get_close_matches(".".join(path), names, 1, 0.7)
        help = f"did you mean {close[0]}?" if close else "remove it, or write ${{ NAME }} where it belongs"
        message = f"no manifest uses the value {'.'.join(path)}"
        problems.append(Problem(f"--set {'.'.join(path)}", *START, UNUSED, message, help=help, severity="warning"))
    return problems


def find(document: Document) -> tuple[list[Slot], list[Problem]]:
    """Every string of a document with expressions in it."""
    slots: list[Slot] = []
    problems: list[Problem] = []
    seen: set[int] = set()
    pending: list[tuple[Any, tuple[str | int, ...]]] = [(document.value, ())]
    while pending:
        container, path = pending.pop()
        if id(container) in seen:  # by an alias
            continue
        seen.add(id(container))
        items: Iterable[tuple[str | int, Any]]
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for step, value in items:
            here = (*path, step)
            if isinstance(step, str) and OPENING in step:
                problems.append(document.problem(document.key_span(here), RULE, here, "a key is no expression"))
            if isinstance(value, dict | list):
                pending.append((value, here))
            elif isinstance(value, str) and OPENING in value:
                slot = Slot(document, container, step, here, tuple(_EXPRESSION.split(value)))
                slots.append(slot)
                if any(OPENING in text for text in slot.parts[::2]):
                    span, help = document.value_span(here), 'close it; to have "${{" itself, write ${{ "${{" }}'
                    problems.append(document.problem(span, RULE, here, "an expression is not closed with }}", help))
    return slots, problems


def fill(slots: Sequence[Slot], results: Mapping[str, tuple[Any, int]]) -> list[Problem]:
    """Puts the values of expressions, each with its size, where they stand; those without a value stay."""
    problems: list[Problem] = []
    size = 0
    for slot in slots:
        if not all(expression in results for expression in slot.expressions):
            continue
        size += sum(results[expression][1] for expression in slot.expressions)
        if size > MAX_BYTES:  # a short name for a long value, a thousand times
            message = f"the values put into this file have more than {MAX_BYTES} bytes"
            problems.append(slot.problem(0, "template-limit", message, "put less into it, or split it"))
            return problems
        found = [results[expression][0] for expression in slot.expressions]
        if slot.alone:
            value = copy.deepcopy(found[0])
            _place(slot.document, value, slot.document.places[id(slot.container)][slot.step][1])
        else:
            value, bad = _text(slot, found)
            problems += bad
        slot.container[slot.step] = value
    return problems[:MAX_PROBLEMS]


def missing_help(message: str, values: Mapping[str, Any]) -> str:
    """How to mend `there is no value 'x'`."""
    name = message.rpartition("'")[0].partition("'")[2]
    if not message.startswith("there is no value"):
        return ""
    close = difflib.get_close_matches(name, list(values), 1, 0.7)
    return f"did you mean {close[0]}?" if close else f"give it in values.yaml, or with --set {name}=..."


def _unfit(document: Document) -> list[Problem]:
    """Why a document is no file of values."""
    value = document.value
    if value is None:
        return []
    if not isinstance(value, dict):
        return [document.problem(document.span, "values", (), "a file of values is a map of names")]
    if "apiVersion" in value and "kind" in value:
        message, help = "values.yaml holds values, not objects", "give this file another name"
        return [document.problem(document.key_span(("kind",)), "values", (), message, help)]
    return [
        document.problem(
            document.key_span((name,)), "values", (), f"{name!r} cannot be used as a name", "letters, digits and _"
        )
        for name in value
        if not _NAME.fullmatch(name)
    ]


def _merge(values: dict[str, Any], more: dict[str, Any]) -> None:
    for name, value in more.items():
        old = values.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            values[name] = dict(old)
            _merge(values[name], value)
        else:
            values[name] = value


def _text(slot: Slot, found: Sequence[Any]) -> tuple[str, list[Problem]]:
    """The text with its expressions' values, written as YAML writes them."""
    parts = list(slot.parts)
    problems: list[Problem] = []
    for index, value in enumerate(found):
        if value is None or isinstance(value, dict | list):
            what = "null" if value is None else "a map" if isinstance(value, dict) else "a list"
            message = f"{what} cannot stand in text"
            problems.append(slot.problem(index, RULE, message, "use | tojson or | join, or let it stand alone"))
        parts[2 * index + 1] = str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(parts), problems


def _place(document: Document, value: Any, at: int) -> None:
    """Everything in a value that was put in stands where its expression does."""
    if isinstance(value, dict | list):
        steps: Iterable[str | int] = value if isinstance(value, dict) else range(len(value))
        document.places[id(value)] = dict.fromkeys(steps, (at, at))
        for item in value.values() if isinstance(value, dict) else value:
            _place(document, item, at)
