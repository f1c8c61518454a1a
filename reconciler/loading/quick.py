"""YAML text as plain values, in one short loop: for the files that have nothing unusual in them, which are nearly all.

    web.yaml -> values                    where they stand is found out when somebody asks
             -> parse(web.yaml)           at the first tag, anchor, alias, number with a leading zero, strange key, mistake

Says of a file exactly what `parse` says of it, in half the time; whatever is not plain here is not read here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from reconciler.loading.document import Document, split_lines
from reconciler.loading.parse import (
    CONSTANTS,
    MAX_DEPTH,
    MAX_DOCUMENTS,
    MAX_NODES,
    NUMBER_STARTS,
    Parsed,
    SourceFile,
    decode,
    parse,
    resolve,
    span_of,
)
from reconciler.loading.problem import Span

_NUMBER_ENDS = frozenset("0123456789.fFnN")
"""Of `1`, `1.`, `.inf` and `.NaN`; not of `30s`."""
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")

Plain = list[tuple[Any, Sequence[int]]]
"""The value of each document of a file, and the span that it begins with: nothing that JSON could not hold."""


def read(file: SourceFile) -> Parsed:
    """What `parse` gives, with the places of all values still to be found: by `parse`, when the first is asked for."""
    found = plain(file)
    return parse(file) if found is None else documents(file, found)


def documents(file: SourceFile, found: Plain) -> Parsed:
    """What a file was found to hold, as its documents."""
    lines, again = split_lines(decode(file)[0]), _Again(file)
    spans = (Span(*span) for _, span in found)
    return Parsed(
        tuple(
            Document(file.path, value, span.line, lines, span, None, placed=partial(again.document, number))
            for number, ((value, _), span) in enumerate(zip(found, spans, strict=True))
        ),
        (),
    )


def plain(file: SourceFile) -> Plain | None:
    """Every document of a file; None as soon as anything is not plain."""
    text, problem = decode(file)
    if problem is not None:
        return None
    try:
        return _plain(yaml.CSafeLoader(text).get_event)
    except (yaml.YAMLError, ValueError):  # `parse` says what and where
        return None


class _Again:
    """A file to be parsed at the first question, once for all of its documents."""

    __slots__ = ("_documents", "_file")

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._documents: tuple[Document, ...] = ()

    def document(self, number: int) -> Document:
        self._documents = self._documents or parse(self._file).documents
        return self._documents[number]


def _plain(next_event: Any) -> Plain | None:
    roots: Plain = []
    above: list[tuple[Any, bool]] = []
    """The open maps and lists around the innermost one, each with whether it is a map."""
    node: Any = None
    is_map = False
    key: str | None = None
    """Of the map, the one that waits for its value."""
    new: Any
    for count, event in enumerate(iter(next_event, None)):
        kind = type(event)  # the order is that of frequency
        if kind is ScalarEvent:
            if event.tag is not None or event.anchor is not None:
                return None
            new = event.value
            if event.implicit[0]:
                if new in CONSTANTS:
                    new = CONSTANTS[new]
                elif new[0] in NUMBER_STARTS and (new[-1] in _NUMBER_ENDS or new[:2] == "0x"):
                    if _LEADING_ZERO.fullmatch(new):
                        return None
                    new = resolve(new)
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            if event.tag is not None or event.anchor is not None:
                return None
            new = {} if kind is MappingStartEvent else []
            above.append((node, is_map))
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            node, is_map = above.pop()
            continue
        elif kind is AliasEvent or count > MAX_NODES or len(roots) > MAX_DOCUMENTS:
            return None
        else:  # of a document or the whole, beginning or end
            continue
        if node is None:
            roots.append((new, tuple(span_of(event))))
        elif not is_map:
            node.append(new)
        elif key is not None:
            node[key] = new
            key = None
        elif type(new) is str and new not in node and new != "<<":
            key = new
        else:
            return None
        if kind is not ScalarEvent:
            if len(above) > MAX_DEPTH:
                return None
            node, is_map = new, kind is MappingStartEvent
    return roots
