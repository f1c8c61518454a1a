"""Many manifests are read by two processes, and nobody can tell the difference but by the time it takes."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

import pytest

from reconciler.cli.ahead import FEWEST_BYTES, ReadAhead
from reconciler.loading.parse import Parsed, SourceFile
from reconciler.loading.quick import read

TEXTS = [
    "apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec: {replicas: 3, a: [1.5, .inf, ~, true, 'é\\n']}\n",
    "a: 1\n---\n- b\n--- # nothing\n",
    "a: [1\n",
    "a: &x 010\nb: *x\n",
    "\xff",
    '"\\ud800": "\\u2028"\n',
]
FILES = [SourceFile(f"{n}.yaml", TEXTS[n % len(TEXTS)].encode() + b"#" * 300) for n in range(FEWEST_BYTES // 250)]


def said(parsed: Parsed) -> object:
    return [
        (repr(one.value), one.span, one.lines, one.places.keys() != {}) for one in parsed.documents
    ], parsed.problems


def same(files: Sequence[SourceFile], ahead: ReadAhead) -> bool:
    return [said(ahead.read(file)) for file in files] == [said(read(file)) for file in files]


@pytest.fixture
def two_processors() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors, else one process reads all")


@pytest.mark.usefixtures("two_processors")
def test_what_a_second_process_reads_is_what_one_would_read() -> None:
    with ReadAhead(FILES) as ahead:
        assert ahead.running
        assert same(FILES, ahead)
        assert not ahead.running


@pytest.mark.usefixtures("two_processors")
def test_when_the_second_process_is_killed_the_first_reads_all() -> None:
    with ReadAhead(FILES) as ahead:
        os.kill(ahead.pid, signal.SIGKILL)
        assert same(FILES, ahead)


def test_a_few_files_are_read_by_one_process() -> None:
    with ReadAhead(FILES[:100]) as ahead:
        assert not ahead.running
        assert same(FILES[:100], ahead)


def test_nothing_of_the_second_process_is_left_when_nobody_asks_for_what_it_read() -> None:
    with ReadAhead(FILES) as ahead:
        pass
    assert not ahead.running
