"""What a figure is made of: rows measured in interleaved rounds, and the goals they are held against.

    figure_f1_start.py   NAME, WHAT, run(plan) -> Measured       one file a figure
    run.py               runs them, prints the table, writes the JSON

A figure that measures a subject (ours, a peer, a floor) gives one value a round; the table shows their median.
"""

from __future__ import annotations

import math
import statistics
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import machine

OURS = "reconciler"


class Plan(NamedTuple):
    """How much is measured in this run."""

    rounds: int
    quick: bool
    only: frozenset[str]
    """The subjects that were asked for, by the first word of their names; empty: all."""

    def wants(self, subject: str) -> bool:
        return not self.only or subject.split()[0] in self.only


class Row(NamedTuple):
    """One measure of one subject: a value a round."""

    subject: str
    measure: str
    unit: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


class Goal(NamedTuple):
    """A value that has to stay below (or above) a bound, in this run on this machine."""

    text: str
    value: float
    must: float
    aim: float
    higher_is_better: bool = False

    @property
    def verdict(self) -> str:
        for word, bound in (("aim", self.aim), ("must", self.must)):
            if self.value >= bound if self.higher_is_better else self.value <= bound:
                return f"{word} reached"
        return "MISSED"


class Measured(NamedTuple):
    """What one figure found."""

    rows: list[Row]
    goals: list[Goal]
    left_out: dict[str, str]
    """Subject -> why it was not measured."""
    busy: float
    """How much of the machine others used just before the measurements, in the worst of them; above 0.2 be wary."""


class Figure(Protocol):
    """One module of this folder."""

    NAME: str
    WHAT: str

    def run(self, plan: Plan) -> Measured: ...


Values = Mapping[str, tuple[str, float]]
"""Measure -> (unit, value), as found in one round."""


class Board:
    """Collects the rounds of one figure."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._values: dict[tuple[str, str, str], list[float]] = {}
        self._notes: dict[tuple[str, str], str] = {}
        self._busy = 0.0
        self.left_out: dict[str, str] = {}

    def rounds(
        self, subjects: Mapping[str, Callable[[], Values]], rounds: int | None = None, clean: bool = True
    ) -> None:
        """Measures each subject once a round (as many as planned), each round beginning with another one.

        A subject that fails is left out from then on, with its reason; the others go on. With `clean`, processes that
        a subject left behind are ended before the next one begins.
        """
        wanted = {name: measure for name, measure in subjects.items() if self._plan.wants(name)}
        rounds = rounds or self._plan.rounds
        for number in range(rounds):
            for name, measure in _rotated(wanted, number):
                if name in self.left_out:
                    continue
                busy = machine.wait_until_quiet()
                self._busy = max(self._busy, busy)
                say(
                    f"    round {number + 1}/{rounds} {name}"
                    + (f" (machine {busy:.0%} busy before)" if busy > machine.QUIET else "")
                )
                try:
                    found = measure()
                except Exception as error:
                    traceback.print_exc()
                    self.left_out[name] = f"failed: {type(error).__name__}: {error}"
                    continue
                finally:
                    if clean:
                        machine.end_what_is_left()
                self.add(name, found)

    def add(self, subject: str, found: Values) -> None:
        for what, (unit, value) in found.items():
            self._values.setdefault((subject, what, unit), []).append(value)

    def note(self, subject: str, measure: str, text: str) -> None:
        self._notes[subject, measure] = text

    def rows(self) -> list[Row]:
        return [
            Row(subject, measure, unit, tuple(values), self._notes.get((subject, measure), ""))
            for (subject, measure, unit), values in self._values.items()
        ]

    def median(self, subject: str, measure: str) -> float | None:
        """None when that subject was left out."""
        for row in self.rows():
            if (row.subject, row.measure) == (subject, measure):
                return row.median
        return None

    def ratio(self, measure: str, over: str, subject: str = OURS) -> float | None:
        """How the medians of two subjects relate; None when one of them is missing."""
        mine, base = self.median(subject, measure), self.median(over, measure)
        return mine / base if mine is not None and base else None

    def measured(self, goals: Sequence[Goal | None]) -> Measured:
        return Measured(self.rows(), [goal for goal in goals if goal is not None], self.left_out, self._busy)


def goal(text: str, value: float | None, must: float, aim: float, higher_is_better: bool = False) -> Goal | None:
    """None when the value could not be measured."""
    return None if value is None else Goal(text, value, must, aim, higher_is_better)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _rotated(subjects: Mapping[str, Callable[[], Values]], by: int) -> Iterator[tuple[str, Callable[[], Values]]]:
    pairs = list(subjects.items())
    start = by % max(1, len(pairs))
    yield from pairs[start:] + pairs[:start]
