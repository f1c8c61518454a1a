"""What is read the short way is what the long way reads: values, problems, and every place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loading.document import Document
from reconciler.loading.parse import MAX_DEPTH, MAX_DOCUMENTS, MAX_NODES, SourceFile, parse
from reconciler.loading.quick import read

HOUSE = Path(__file__).parents[2]
MANIFESTS = sorted(
    path for folder in ("tests/loading", "examples", "manifests") for path in (HOUSE / folder).rglob("*.y*ml")
)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    for step, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths(item, (*path, step))


def all_of(document: Document) -> list[object]:
    """Everything that can be asked of a document; the text of values tells 1 from 1.0 and NaN from nothing."""
    every = [
        (path, document.key_span(path), document.value_span(path), document.best_span(path), document.at(path))
        for path in paths(document.value)
    ]
    return [repr(document.value), document.line, document.span, document.lines, document.file, every]


def compare(file: SourceFile) -> bool:
    """Whether it was read the short way; either way it is what `parse` gives."""
    quick, long = read(file), parse(file)
    assert quick.problems == long.problems
    assert list(map(all_of, quick.documents)) == list(map(all_of, long.documents))
    return any(document.placed is not None for document in quick.documents)


def is_quick(text: str) -> bool:
    return compare(SourceFile("web.yaml", text.encode()))


def test_every_manifest_of_this_house_is_the_same_both_ways_and_most_are_plain() -> None:
    plain = [compare(SourceFile(str(path), path.read_bytes())) for path in MANIFESTS]

    assert sum(plain) > len(plain) * 0.8 > 100


@pytest.mark.parametrize(
    "text",
    [
        "a: !!str 3", "a: &x 1", "&x a: 1", "a: &x [1]\nb: *x", "a: !t {}", "a: 010", "a: -007", "1: a", "[1]: a", "{{}: 1}",
        "~: a", "a: 1\na: 2", "<<: {a: 1}", "'<<': 1", "a: [1", "\ta: b", "\x00", "a: " + "9" * 101, "*x", "? [a]\n: b",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "---\na\n" * (MAX_DOCUMENTS + 1), "[" + "a," * (MAX_NODES + 1) + "]",
        "a: 1\n---\nb: [\n", "true: 1", "a: !!int 3",
    ],
)  # fmt: skip
def test_what_is_unusual_is_left_to_the_long_way(text: str) -> None:
    assert not is_quick(text)


@pytest.mark.parametrize(
    "text",
    [
        "a", "1", "[]", "{}", "- a\n- b: {c: [1, 2.5, .inf, .nan, 0x1F, 0o17, 1e3, -.5, +3, 1.]}", "a:\nb: ~\nc: null\n",
        "a: |\n  x\n  010\nb: >-\n  y\n", "'1': '010'\n\"2\": no", "a: 1\n---\n\nb: 2\n--- # c\n---\n- d\n...\n", "a: 30s\nb: 1:30",
        "%YAML 1.1\n---\na: off\n", "größe: \"äöü\\n\"\n", "a: 'it''s'\nb: x\n  y\n", "\ufeffa: 1", "a: true\nb: False\nc: nULL",
        "[" * MAX_DEPTH + "]" * MAX_DEPTH, "---\na\n" * MAX_DOCUMENTS, "a: " + "9" * 100, "a: 1\r\nb: [2,\r\n 3]\r\n",
    ],
)  # fmt: skip
def test_what_is_plain_is_read_the_short_way(text: str) -> None:
    assert is_quick(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["a", "b: ", "- ", ": ", "? ", "[", "]", "{", "}", ", ", "\n", "\n  ", "'x'", '"y"', "010", "1", ".5", "~", "true",
             "&n ", "*n", "!t ", "|\n", "---\n", "# c\n", "<<", "\t", "é", "0x1f", "\r\n"]
        ),
        max_size=25,
    ).map("".join)
)  # fmt: skip
def test_any_text_is_the_same_both_ways(text: str) -> None:
    is_quick(text)
