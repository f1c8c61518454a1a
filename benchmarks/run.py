"""Measures the figures: one command, a table on stdout, JSON in benchmarks/results/.

    python benchmarks/run.py [--quick] [--rounds N] [--only SUBJECT]... [FIGURE ...]        FIGURE: F1, F8, ...; all of them when none is named

Ends with 0, or 1 when ours could not be measured or misses a goal.
"""

from __future__ import annotations

import argparse
import compileall
import importlib
import importlib.util
import json
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import machine
from figure import OURS, Figure, Measured, Plan, Row, say

RESULTS = Path(__file__).resolve().parent / "results"
MODULES = (
    "figure_f1_start",
    "figure_f2_restart",
    "figure_f3_change",
    "figure_f4_memory",
    "figure_f5_idle",
    "figure_f6_stop",
    "figure_f7_status",
    "figure_f8_saturated",
    "figure_f9_open_loop",
    "figure_f10_warm",
    "figure_f11_bulk",
    "figure_f12_million",
    "figure_f13_plan",
    "figure_f14_validate",
    "figure_f15_cli",
    "figure_f16_comeback",
    "figure_m1_change",
    "figure_m2_lock",
    "figure_m3_secrets",
)


def main() -> int:
    figures = {figure.NAME: figure for figure in (cast(Figure, importlib.import_module(name)) for name in MODULES)}
    chosen = _arguments(figures)
    plan = Plan(chosen.rounds or (1 if chosen.quick else 3), chosen.quick, frozenset(chosen.only))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what has been started is ended on the way out
    machine.become_subreaper()
    machine.allow_many_descriptors()

    package = importlib.util.find_spec("reconciler")
    assert package is not None and package.origin is not None, "the subjects import it, too"
    compileall.compile_dir(Path(package.origin).parent, quiet=1)  # an installation by pip is, a clone may not be
    facts = machine.facts()
    say("  ".join(f"{name}: {value}" for name, value in facts.items()))
    found: dict[str, Measured] = {}
    path = RESULTS / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    for name in chosen.figures or figures:
        say(f"{name}: {figures[name].WHAT}")
        began = time.monotonic()
        found[name] = figures[name].run(plan)
        say(f"    {time.monotonic() - began:.0f} s")
        _write(path, facts, chosen.quick, found)  # after each figure: a broken run keeps what it has found
        _print(name, figures[name].WHAT, found[name])
    say(f"written: {path}")
    missed = [name for name, measured in found.items() if any(goal.verdict == "MISSED" for goal in measured.goals)]
    absent = [
        name for name, measured in found.items() if any(subject.startswith(OURS) for subject in measured.left_out)
    ]
    return 1 if missed or absent else 0


def _arguments(figures: dict[str, Figure]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures the figures beside a floor and the peers.",
        epilog="\n".join(f"  {figure.NAME:4} {figure.WHAT}" for figure in figures.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("figures", nargs="*", metavar="FIGURE", type=str.upper, choices=[[], *figures])
    parser.add_argument("--quick", action="store_true", help="one round, shorter windows: to see that all works")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (3; with --quick 1)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="SUBJECT", help="of the subjects: reconciler, floor, ..."
    )
    return parser.parse_args()


def _print(name: str, what: str, measured: Measured) -> None:
    print(f"\n{name}  {what}")
    for row in measured.rows:
        print("  ".join(("   ", f"{row.subject:24}", f"{row.measure:22}", _spread(row), row.note)).rstrip())
    for goal in measured.goals:
        bound = ">=" if goal.higher_is_better else "<="
        print(f"    goal: {goal.text}: {goal.value:.3g} (must {bound} {goal.must:g}, aim {goal.aim:g}): {goal.verdict}")
    if measured.busy > machine.QUIET:
        print(f"    others used up to {measured.busy:.0%} of the machine: measure again when it is quiet")
    for subject, reason in measured.left_out.items():
        print(f"    left out: {subject}: {reason}")
    sys.stdout.flush()


def _spread(row: Row) -> str:
    text = f"{row.median:10.4g} {row.unit:7}"
    return text + (f" [{min(row.values):.4g} .. {max(row.values):.4g}]" if len(row.values) > 1 else "")


def _write(path: Path, facts: dict[str, object], quick: bool, found: dict[str, Measured]) -> None:
    RESULTS.mkdir(exist_ok=True)
    figures = {
        name: {
            "rows": [row._asdict() | {"median": row.median} for row in measured.rows],
            "goals": [goal._asdict() | {"verdict": goal.verdict} for goal in measured.goals],
            "leftOut": measured.left_out,
            "busyBefore": round(measured.busy, 2),
        }
        for name, measured in found.items()
    }
    path.write_text(json.dumps({"machine": facts, "quick": quick, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
