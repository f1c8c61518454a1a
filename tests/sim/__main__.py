"""One seed, or many:  python -m tests.sim --seed N [--trace] [--faults a,b] [--shrink]  |  python -m tests.sim --seeds A:B"""

from __future__ import annotations

import argparse
import logging
import time
import traceback

from tests.sim.chaos import FAULTS, Chaos, faults_of
from tests.sim.timeline import Violation


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one")
    parser.add_argument("--seeds", help="run A:B, and say which fail")
    parser.add_argument("--faults", help=f"instead of the seed's own, of {', '.join(FAULTS)}")
    parser.add_argument("--trace", action="store_true", help="print what happened")
    parser.add_argument("--shrink", action="store_true", help="leave out the faults that a failure does not need")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        faults = tuple(options.faults.split(",")) if options.faults else faults_of(options.seed)
        if options.shrink:
            faults = shrunk(options.seed, faults)
        return one(options.seed, faults, options.trace)
    first, _, last = (options.seeds or "0:200").partition(":")
    began = time.monotonic()
    failed = [seed for seed in range(int(first), int(last)) if one(seed, faults_of(seed), False, quiet=True)]
    count = int(last) - int(first)
    print(f"{count} seeds in {time.monotonic() - began:.1f} s, {len(failed)} failed: {failed}")
    return 1 if failed else 0


def one(seed: int, faults: tuple[str, ...], trace: bool, quiet: bool = False) -> int:
    """Runs a seed; 0 when all holds."""
    chaos = Chaos(seed, faults)
    failure = failure_of(chaos)
    if quiet:
        failure = failure[-300:]
    if trace:
        print("\n".join(chaos.world.timeline.lines))
    if failure:
        print(f"seed {seed} fails at {chaos.world.timeline.now_s:.3f} s with {','.join(faults)}: {failure}")
    elif not quiet:
        print(f"seed {seed}: {len(chaos.world.timeline.lines)} lines, {chaos.world.checks.starts} starts, "
              f"{chaos.world.timeline.now_s:.0f} s, trace {chaos.world.timeline.digest}")  # fmt: skip
    return 1 if failure else 0


def failure_of(chaos: Chaos) -> str:
    """What went wrong; empty when all holds."""
    try:
        chaos.run()
    except Violation as violation:
        return str(violation)
    except Exception:
        return traceback.format_exc()
    return ""


def shrunk(seed: int, faults: tuple[str, ...]) -> tuple[str, ...]:
    """The faults without which the seed does not fail any more."""
    for fault in faults:
        fewer = tuple(f for f in faults if f != fault)
        if failure_of(Chaos(seed, fewer)):
            faults = fewer
    return faults


if __name__ == "__main__":
    raise SystemExit(main())
