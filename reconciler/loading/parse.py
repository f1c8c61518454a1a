"""YAML text as plain values with positions: libyaml's events, an own iterative composer, the YAML 1.2 core schema.

    replicas: 010        10        octal is 0o10
    no, on, 12:30        strings, as are 1_000 and 2026-01-01
    1e3, .inf            floats

libyaml's own composer recurses in C and brings the interpreter down on deep nesting, so only its event stream is used;
depth, size and the expansion of aliases are bounded here. Whatever the bytes are, the result is values and Problems.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from reconciler.loading.document import Document, Places, make_problem, packed, split_lines, unpacked
from reconciler.loading.problem import START, Problem, Span, field_path, in_order

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 200_000
MAX_DOCUMENTS = 1000
MAX_ALIAS_NODES = 10_000
MAX_PROBLEMS = 100
"""Of one file: nobody reads more, and a megabyte can hold a hundred thousand."""
MAX_DIGITS = 100
"""Of a number: no field takes more, and Python refuses to read or show very long ones."""

_TAG = "tag:yaml.org,2002:"
_CORE_SCALARS = frozenset(_TAG + name for name in ("str", "int", "float", "bool", "null"))

CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"0o[0-7]+")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
NUMBER_STARTS = frozenset("-+.0123456789")


class SourceFile(NamedTuple):
    """A manifest as it was read; the path is the one that people are shown."""

    path: str
    data: bytes


class Parsed(NamedTuple):
    """What a file holds. With errors among the problems, documents may be incomplete."""

    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


def parse(file: SourceFile) -> Parsed:
    """All documents of one file, and all that is wrong with its YAML."""
    text, problem = decode(file)
    if problem is not None:
        return Parsed((), (problem,))
    composer = _Composer(file.path, text)
    try:
        composer.run()
    except _Stop as stop:
        composer.report(stop.span, stop.rule, stop.message, stop.help, path="")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        span = START if mark is None else Span(mark.line + 1, mark.column + 1, mark.column + 2)
        composer.report(span, "syntax", _syntax_message(error), _syntax_help(error, composer.lines, span), path="")
    except yaml.reader.ReaderError:
        composer.report(
            _unreadable(text), "encoding", "a control character that YAML does not allow", "remove it", path=""
        )
    return Parsed(tuple(composer.documents), in_order(composer.problems))


def resolve(text: str) -> Any:
    """The value of a plain scalar by the YAML 1.2 core schema. Raises ValueError for a number that is too long."""
    if text in CONSTANTS:
        return CONSTANTS[text]
    if text[0] not in NUMBER_STARTS:
        return text
    convert = _number(text)
    if convert is None:
        return text
    if len(text) > MAX_DIGITS:
        raise ValueError(f"a number of {len(text)} digits; at most {MAX_DIGITS} are read")
    return convert(text)


def _number(text: str) -> Callable[[str], int | float] | None:
    if _INT.fullmatch(text):
        return int
    if _OCTAL.fullmatch(text):
        return lambda octal: int(octal[2:], 8)
    if _HEX.fullmatch(text):
        return lambda digits: int(digits, 16)
    if _FLOAT.fullmatch(text):
        return float
    if _INFINITE.fullmatch(text):
        return lambda word: float(word.replace(".", ""))
    return None


class _Stop(Exception):
    """Nothing more of this file can be read."""

    def __init__(self, span: Span, rule: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.span, self.rule, self.message, self.help = span, rule, message, help


@dataclass(slots=True, eq=False)
class _Frame:
    """One open map or list."""

    value: Any
    is_map: bool
    event: Any
    places: Places | None
    """None: the content of a refused key, which nobody asks for."""
    anchor: str | None
    key_at: int = -1
    """Where the key that waits for its value stands; -1 while a key is due (maps)."""
    key: str | None = None
    """None while a key is due, and for refused keys."""
    nodes: int = 1
    """Of the whole tree below, aliases expanded."""


@dataclass(slots=True, eq=False)
class _Composer:
    """Makes values of events, without recursion: the open maps and lists are a list."""

    file: str
    text: str
    documents: list[Document] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    _stack: list[_Frame] = field(default_factory=list)
    _places: dict[int, Places] = field(default_factory=dict)
    _anchors: dict[str, tuple[Any, int]] = field(default_factory=dict)
    _open_anchors: set[str] = field(default_factory=set)
    _root: Any = None
    _root_event: Any = None
    _nodes: int = 0
    _alias_nodes: int = 0

    def __post_init__(self) -> None:
        self.lines = split_lines(self.text)

    def report(self, span: Span, rule: str, message: str, help: str = "", path: str | None = None) -> None:
        """Adds a finding; its path is that of what is being read, where that means something."""
        if len(self.problems) == MAX_PROBLEMS and path is None:
            raise _Stop(span, "limit", f"more than {MAX_PROBLEMS} problems in one file", "mend those first")
        here = self._path() if path is None else path
        self.problems.append(make_problem(self.file, self.lines, span, rule, message, here, help))

    def run(self) -> None:
        event: Any
        stack = self._stack
        reader: Any = yaml.CSafeLoader(self.text)
        next_event = reader.get_event  # yaml.parse asks twice for each
        while (event := next_event()) is not None:
            kind = type(event)  # the order is that of frequency
            if kind is ScalarEvent:
                if event.anchor is None and event.tag is None and stack and stack[-1].places is not None:
                    self._plain(event, stack[-1])
                    continue
                self._count(event)
                value = self._scalar(event)
                if event.anchor is not None:
                    self._anchors[event.anchor] = (value, 1)
                self._add(value, event, 1)
            elif kind is MappingStartEvent or kind is SequenceStartEvent:
                self._open(event, kind is MappingStartEvent)
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                self._close()
            elif kind is AliasEvent:
                self._alias(event)
            elif kind is DocumentStartEvent:
                self._start()
            elif kind is DocumentEndEvent:
                self._end()

    def _plain(self, event: Any, frame: _Frame) -> None:
        """What nearly every event is, in one piece: a scalar without anchor and tag, in a map or list."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._count(event)
        value: Any = event.value
        if event.implicit[0] and (value in CONSTANTS or value[0] in NUMBER_STARTS):
            value = self._scalar(event)
        if frame.is_map and frame.key_at < 0 and (type(value) is not str or value == "<<" or value in frame.value):
            self._add(value, event, 1)
            return
        start, end = event.start_mark, event.end_mark
        line: int = start.line
        at = packed(line + 1, start.column + 1, end.column + 1 if end.line == line else -1)
        frame.nodes += 1
        places = frame.places
        assert places is not None
        if not frame.is_map:
            places[len(frame.value)] = (at, at)
            frame.value.append(value)
        elif frame.key_at < 0:
            frame.key_at, frame.key = at, value
        else:
            if frame.key is not None:
                frame.value[frame.key] = value
                places[frame.key] = (frame.key_at, at)
            frame.key_at, frame.key = -1, None

    def _start(self) -> None:
        self._places, self._anchors, self._open_anchors = {}, {}, set()
        self._root = self._root_event = None

    def _end(self) -> None:
        if len(self.documents) == MAX_DOCUMENTS:
            message = f"more than {MAX_DOCUMENTS} documents in one file"
            raise _Stop(span_of(self._root_event), "limit", message, "spread them over several files")
        span = span_of(self._root_event)
        self.documents.append(Document(self.file, self._root, span.line, self.lines, span, self._places))

    def _open(self, event: Any, is_map: bool) -> None:
        self._count(event)
        if event.tag is not None and event.tag not in (_TAG + ("map" if is_map else "seq"), "!"):
            self._refuse_tag(event)
        if len(self._stack) == MAX_DEPTH:
            raise _Stop(_point(event), "limit", f"nested more than {MAX_DEPTH} levels deep")
        if event.anchor is not None:
            self._open_anchors.add(event.anchor)
        value: Any = {} if is_map else []
        places: Places | None = {}
        if self._stack and self._refused(self._stack[-1]):
            places = None
        else:
            self._places[id(value)] = places = {}
        self._stack.append(_Frame(value, is_map, event, places, event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        if frame.anchor is not None:
            self._open_anchors.discard(frame.anchor)
            self._anchors[frame.anchor] = (frame.value, frame.nodes)
        self._add(frame.value, frame.event, frame.nodes)

    def _alias(self, event: Any) -> None:
        self._count(event)
        if event.anchor in self._open_anchors:
            raise _Stop(span_of(event), "alias", f"*{event.anchor} stands inside what it refers to")
        if event.anchor not in self._anchors:
            raise _Stop(
                span_of(event), "alias", f"*{event.anchor} refers to nothing", f"no &{event.anchor} stands before it"
            )
        value, nodes = self._anchors[event.anchor]
        self._alias_nodes += nodes
        if self._alias_nodes > MAX_ALIAS_NODES:
            raise _Stop(span_of(event), "limit", f"aliases stand for more than {MAX_ALIAS_NODES} nodes")
        self._add(value, event, nodes)

    def _add(self, value: Any, event: Any, nodes: int) -> None:
        """Puts a finished node where it belongs: into the open map or list, or as the document itself."""
        if not self._stack:
            self._root, self._root_event = value, event
            return
        frame = self._stack[-1]
        frame.nodes += nodes
        if not frame.is_map:
            if frame.places is not None:
                at = _packed(event)
                frame.places[len(frame.value)] = (at, at)
            frame.value.append(value)
        elif frame.key_at < 0:
            frame.key_at = _packed(event)
            frame.key = self._key(frame, value, event)
        else:
            if frame.key is not None:
                frame.value[frame.key] = value
                if frame.places is not None:
                    frame.places[frame.key] = (frame.key_at, _packed(event))
            frame.key_at, frame.key = -1, None

    def _key(self, frame: _Frame, value: Any, event: Any) -> str | None:
        if frame.places is None:
            return None
        if not isinstance(value, str):
            shown = event.value if type(event) is ScalarEvent else "a map" if isinstance(value, dict) else "a list"
            quoted = f'put it in quotes: "{shown}"' if type(event) is ScalarEvent and shown else "a key is a word"
            self.report(span_of(event), "key", f"a key must be a string, got {shown or 'nothing'}", quoted)
            return None
        if value == "<<" and event.implicit[0]:
            self.report(span_of(event), "merge-key", "merge keys (<<) are not part of YAML 1.2", "write the fields out")
            return None
        if value in frame.value:
            first = unpacked(frame.places[value][0])
            again = f"the key {value!r} is here twice; the first is in line {first.line}"
            self.report(span_of(event), "duplicate-key", again, "remove one of them")
            return None
        return value

    def _scalar(self, event: Any) -> Any:
        tag = event.tag
        text: str = event.value
        if tag is None:
            if not event.implicit[0]:
                return text
        elif tag in ("!", _TAG + "str"):
            return text
        elif tag not in _CORE_SCALARS:
            self._refuse_tag(event)
            return text
        try:
            value = resolve(text)
        except ValueError as error:
            self.report(span_of(event), "limit", str(error))
            return 0
        if tag is not None and tag != _TAG + _core_name(value):
            self.report(span_of(event), "tag", f"{text!r} is not {tag.replace(_TAG, '!!')}", "leave the tag out")
        return value

    def _refuse_tag(self, event: Any) -> None:
        # libyaml's mark of an event with a tag begins at the tag
        tag = event.tag.replace(_TAG, "!!")
        mark = event.start_mark
        span = Span(mark.line + 1, mark.column + 1, mark.column + 1 + len(tag))
        self.report(span, "tag", f"the tag {tag} is not allowed", "leave it out: manifests hold plain values only")

    def _count(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Stop(span_of(event), "limit", f"more than {MAX_NODES} values in one file")

    def _refused(self, frame: _Frame) -> bool:
        """Whether what comes next is a key that is no string, or the value of a refused key."""
        return frame.places is None or (frame.is_map and frame.key is None)

    def _path(self) -> str:
        steps: list[str | int] = []
        for frame in self._stack:
            if frame.is_map:
                if frame.key is None:
                    break
                steps.append(frame.key)
            else:
                steps.append(len(frame.value))
        return field_path(steps)


def decode(file: SourceFile) -> tuple[str, Problem | None]:
    """The text of a file, or why it is none."""
    data = file.data
    if len(data) > MAX_BYTES:
        message = f"the file has {len(data)} bytes; at most {MAX_BYTES} are read"
        return "", make_problem(file.path, [], START, "limit", message, "", "split it into several files")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        message = "the file is UTF-16 or UTF-32"
        return "", make_problem(file.path, [], START, "encoding", message, "", "save it as UTF-8")
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = split_lines(data[: error.start].decode("utf-8"))
        span = Span(len(before), len(before[-1]) + 1, len(before[-1]) + 2)
        message = f"the byte 0x{data[error.start]:02x} is not UTF-8"
        return "", make_problem(file.path, [], span, "encoding", message, "", "save the file as UTF-8")
    if "\0" in text:
        span = _place_of(text, text.index("\0"))
        return "", make_problem(file.path, split_lines(text), span, "encoding", "a NUL character", "", "remove it")
    return text, None


def _unreadable(text: str) -> Span:
    """The first character that YAML does not allow."""
    found = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    return START if found is None else _place_of(text, found.start())


def _place_of(text: str, index: int) -> Span:
    before = split_lines(text[:index])
    return Span(len(before), len(before[-1]) + 1, len(before[-1]) + 2)


def _packed(event: Any) -> int:
    """Line, column and end column of an event's token.

    The end is that of the first line (all ones) when the token has several, and the first letter's of maps and lists.
    """
    start, end = event.start_mark, event.end_mark
    column: int = start.column
    if type(event) is MappingStartEvent or type(event) is SequenceStartEvent:
        end_column = column + 2
    else:
        end_column = end.column + 1 if end.line == start.line else -1
    return packed(start.line + 1, column + 1, end_column)


def span_of(event: Any) -> Span:
    """The token of an event; the end column is -1 for the end of its line."""
    return unpacked(_packed(event))


def _point(event: Any) -> Span:
    mark = event.start_mark
    return Span(mark.line + 1, mark.column + 1, mark.column + 2)


def _core_name(value: Any) -> str:
    if value is None:
        return "null"
    return {bool: "bool", int: "int", float: "float", str: "str"}[type(value)]


def _syntax_message(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return ": ".join(dict.fromkeys(parts)) or "not YAML"


def _syntax_help(error: yaml.MarkedYAMLError, lines: list[str], span: Span) -> str:
    line = lines[span.line - 1] if span.line <= len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())] or "cannot start any token" in str(error.problem):
        return "indent with spaces, not tabs" if "\t" in line else "put the value in quotes"
    context = error.context_mark
    if context is not None and error.problem_mark is not None and context.line != error.problem_mark.line:
        return f"what is not finished begins in line {context.line + 1}"
    if "mapping values are not allowed" in str(error.problem):
        return "a value with ': ' in it needs quotes"
    return ""
