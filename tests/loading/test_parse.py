"""YAML as plain values with positions, whatever the bytes are."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.loading.document import Document
from reconciler.loading.parse import MAX_BYTES, MAX_NODES, Parsed, SourceFile, parse
from reconciler.loading.problem import Span


def read(text: str | bytes) -> Parsed:
    return parse(SourceFile("web.yaml", text.encode() if isinstance(text, str) else text))


def only(text: str) -> Document:
    parsed = read(text)
    assert parsed.problems == ()
    (document,) = parsed.documents
    return document


def rules(text: str | bytes) -> list[str]:
    return [problem.rule for problem in read(text).problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("y", "y"), ("Off", "Off"),
        ("true", True), ("False", False), ("NULL", None), ("~", None), ("", None), ("nULL", "nULL"),
        ("010", 10), ("0o17", 15), ("0x1F", 31), ("-7", -7), ("+7", 7), ("0b1", "0b1"), ("1_000", "1_000"),
        ("12:30", "12:30"), ("1:30:00", "1:30:00"), ("2020-01-01", "2020-01-01"), ("1e3", 1000.0), ("1.", 1.0),
        (".5", 0.5), ("-.inf", float("-inf")), (".Inf", float("inf")), ("-a", "-a"), (".", "."), ("1.2.3", "1.2.3"),
        ("0x", "0x"), ("'3'", "3"), ('"true"', "true"), ("!!str 3", "3"), ('!!int "3"', 3), ("! 3", "3"), ("=", "="),
        ("|\n  3\n", "3\n"), ("''", ""), ('"\\0"', "\0"),
    ],
)  # fmt: skip
def test_fault_M14_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: Any) -> None:
    got = only(f"a: {text}").value["a"]

    assert got == value
    assert type(got) is type(value)


def test_the_yaml_directive_does_not_bring_back_the_norway_problem() -> None:
    assert only("%YAML 1.1\n---\na: no\n").value == {"a": "no"}


def test_not_a_number_is_read_as_such_and_left_to_validation() -> None:
    assert only("a: .nan").value["a"] != only("a: .nan").value["a"]


def test_a_position_names_line_column_and_end_of_keys_and_values() -> None:
    document = only("# first\nspec:\n  ports: [{name: http}, {name: 'x y'}]\n  größe: \"äöü\"\n")

    assert document.value_span(("spec", "ports", 1, "name")) == Span(3, 32, 37)
    assert document.key_span(("spec", "ports", 1, "name")) == Span(3, 26, 30)
    assert document.value_span(("spec", "größe")) == Span(4, 10, 15)
    assert document.text(("spec", "größe")) == '"äöü"'
    assert document.key_span(("spec", "missing", "deeper")) == Span(2, 1, 5)
    assert document.line == 2


def test_an_alias_is_the_value_it_stands_for() -> None:
    assert only("a: &x {b: [1]}\nc: [*x, *x]\n").value == {"a": {"b": [1]}, "c": [{"b": [1]}, {"b": [1]}]}


def test_documents_of_one_file_are_numbered_by_their_lines() -> None:
    parsed = read("a: 1\n---\n\nb: 2\n---\n")

    assert [(document.value, document.line) for document in parsed.documents[:2]] == [({"a": 1}, 1), ({"b": 2}, 4)]


@pytest.mark.parametrize("text", ["a: [1, 2", "a: 'b", "a:\n\t- b", "a: b: c", "{a: 1", "@a", "%", "a: 1\n b: 2"])
def test_fault_M3_a_syntax_error_has_its_line_and_column(text: str) -> None:
    (problem,) = read(text).problems

    assert problem.rule == "syntax"
    assert (problem.line, problem.column) != (1, 1) or text == "@a"


def test_fault_M4_a_duplicate_key_is_refused_and_both_places_are_named() -> None:
    (problem,) = read("a: 1\nb: 2\na: 3\n").problems

    assert (problem.rule, problem.line) == ("duplicate-key", 3)
    assert "line 1" in problem.message


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? "])
def test_fault_M8_deep_nesting_is_refused_and_nothing_recurses(opening: str) -> None:
    assert rules(opening * 65) == ["limit"]
    assert rules(opening * (MAX_BYTES // len(opening))) == ["limit"]


def test_sixty_four_levels_are_read() -> None:
    assert rules("[" * 64 + "]" * 64) == []


@pytest.mark.parametrize(
    ("data", "column"), [(b"a: \xff", 4), ("ä: é".encode("latin-1"), 1), (b"a: \xed\xa0\x80", 4), (b"a: \x00", 4)]
)
def test_fault_M10_other_encodings_and_nul_are_refused_at_their_place(data: bytes, column: int) -> None:
    (problem,) = read(data).problems

    assert (problem.rule, problem.line, problem.column) == ("encoding", 1, column)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_fault_M10_utf_16_is_refused(encoding: str) -> None:
    assert rules("a: 1".encode(encoding)) == ["encoding"]


@pytest.mark.parametrize("text", ["a: \x07", "a: b\n\x1b[31m: c", "\ufffe: a"])
def test_fault_M10_control_characters_are_refused(text: str) -> None:
    assert rules(text) == ["encoding"]


def test_fault_M10_a_lone_surrogate_is_refused() -> None:
    assert rules('a: "\\ud800"') == ["syntax"]


def test_a_byte_order_mark_of_utf_8_is_no_part_of_the_first_key() -> None:
    assert only("\ufeffa: 1").value == {"a": 1}


def test_fault_M15_a_number_of_5000_digits_is_an_ordinary_error() -> None:
    for digits in ("1" * 5000, "-" + "1" * 5000, "0x" + "f" * 5000, "1" * 5000 + ".5"):
        (problem,) = read(f"a: {digits}").problems
        assert (problem.rule, problem.line, problem.column) == ("limit", 1, 4)


@pytest.mark.parametrize("key", ["1", "true", "~", "1.5", "[1, 2]", "{a: b}", "? [x]\n"])
def test_fault_M16_a_key_that_is_no_string_is_refused(key: str) -> None:
    assert rules(f"{key}: a" if not key.startswith("?") else key) == ["key"]


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!binary", "!!set", "!!omap", "!!timestamp", "!mine", "!<x:y>"]
)
def test_fault_M17_a_tag_that_is_not_of_the_core_is_refused(tag: str) -> None:
    for value in ("x", "[x]", "{x: y}"):
        assert rules(f"a: {tag} {value}") == ["tag"]


def test_merge_keys_are_refused_and_a_quoted_one_is_a_key() -> None:
    assert rules("a: &x {b: 1}\nc: {<<: *x}\n") == ["merge-key"]
    assert only('"<<": 1').value == {"<<": 1}


def test_aliases_that_multiply_are_refused_before_they_are_expanded() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"

    assert rules(bomb) == ["limit"]


@pytest.mark.parametrize("text", ["&a [*a]", "a: &a {b: *a}", "a: *a", "a: &b 1\n---\nc: *b"])
def test_an_alias_of_itself_or_of_nothing_is_refused(text: str) -> None:
    assert rules(text) == ["alias"]


def test_too_many_values_documents_or_bytes_are_refused() -> None:
    assert rules("[" + "1," * MAX_NODES + "]") == ["limit"]
    assert rules("---\n" * 1001) == ["limit"]
    assert rules(b"#" * (MAX_BYTES + 1)) == ["limit"]


def test_several_mistakes_in_one_file_are_all_said() -> None:
    assert rules("a: 1\na: !x 2\n3: 4\n---\nb: *c\n") == ["duplicate-key", "tag", "key", "alias"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.text(alphabet="ab:-?[]{}&*!|>'\"%@#, \n\t01.~<", max_size=80))
def test_any_text_gives_values_or_problems_and_never_a_traceback(text: str) -> None:
    parsed = read(text.encode(errors="surrogatepass"))

    for problem in parsed.problems:
        assert problem.line >= 1 and problem.column >= 1 and problem.message


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=60))
def test_any_bytes_give_values_or_problems_and_never_a_traceback(data: bytes) -> None:
    read(data)


def test_a_manifest_cut_or_scrambled_anywhere_never_brings_the_reader_down() -> None:
    whole = b"a: &x [1, {b: 'c'}]\n? d\n: !!str |\n  e\n--- # f\n- *x\n- \"g\\n\"\n"
    choose = random.Random(7)
    for end in range(len(whole)):
        read(whole[:end])
    for _ in range(500):
        scrambled = bytearray(whole)
        scrambled[choose.randrange(len(whole))] = choose.randrange(256)
        read(bytes(scrambled))


words = st.text("aZ0 :#-[]{},&*!'\"\\%@\u00e9\u65e5", max_size=8)
plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(plain_values)
def test_what_json_says_is_read_as_json_reads_it(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)

    assert only(text).value == json.loads(text)
