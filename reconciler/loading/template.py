"""Templates and expressions, evaluated in a limited child: what they yield, or why they do not.

    work, values  ->  [memfd]  ->  python sandbox.py  ->  [memfd]  ->  one Outcome for each piece of work

Whatever a template does, this returns within the wall deadline and a bounded amount of memory: the answer goes into a
file in memory whose size the kernel limits, and a child that does not end is killed. The piece it died of is named.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from reconciler.errors import Unavailable
from reconciler.loading import sandbox

WALL_S = 30.0
MAX_CHILDREN = 5
"""One after another, for one load: each does at least a second's work."""


class Work(NamedTuple):
    """One piece: the text of a `*.yaml.j2`, or one expression."""

    kind: Literal["template", "expression"]
    text: str


class Outcome(NamedTuple):
    """What became of it: text and lines of a template, the value of an expression, or an error."""

    value: Any = None
    text: str = ""
    lines: tuple[int, ...] = ()
    """Of each line of the text, the template's line that made it; () when that is not known."""
    rule: str = ""
    """Set when it failed."""
    error: str = ""
    help: str = ""
    line: int = 1


def evaluate(work: Sequence[Work], values: Mapping[str, Any]) -> list[Outcome | None]:
    """An outcome for each piece; None for what stands behind a piece that killed the child.

    Raises Unavailable when no child can be started.
    """
    outcomes: list[Outcome | None] = []
    for _ in range(MAX_CHILDREN):
        if len(outcomes) == len(work):
            return outcomes
        done, died_of = _run(work[len(outcomes) :], values)
        outcomes += done
        if died_of:
            outcomes.append(_over(died_of))
            return outcomes + [None] * (len(work) - len(outcomes))
    if len(outcomes) < len(work):
        outcomes.append(_over(f"all templates together take more than {MAX_CHILDREN * sandbox.CPU_S} s"))
    return outcomes + [None] * (len(work) - len(outcomes))


def _over(why: str) -> Outcome:
    return Outcome(rule="template-limit", error=why, help="make it smaller, or split it")


def _run(work: Sequence[Work], values: Mapping[str, Any]) -> tuple[list[Outcome], str]:
    """What one child finished, and what it died of while at the next piece, if it did."""
    answer = os.memfd_create("answer", os.MFD_CLOEXEC)
    asked = os.memfd_create("work", os.MFD_CLOEXEC)
    said = os.memfd_create("said", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(asked), "wb") as file:
            file.write(json.dumps({"values": values, "work": work}).encode())
        os.lseek(asked, 0, os.SEEK_SET)
        why = _child(asked, answer, said)
        lines = [json.loads(line) for line in _content(answer).splitlines(keepends=True) if line.endswith(b"\n")]
        done = [_outcome(line[1]) for line in lines if len(line) == 2]
        begun = sum(len(line) == 1 for line in lines)
        if not begun:
            last = _content(said)[-2000:].decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise Unavailable(f"templates cannot be rendered: {last or why}", "is Jinja2 installed beside reconciler?")
        return done, why if begun > len(done) else ""
    except OSError as error:
        raise Unavailable(f"templates cannot be rendered: {error.strerror}") from None
    finally:
        for fd in (answer, asked, said):
            os.close(fd)


def _child(asked: int, answer: int, said: int) -> str:
    """Runs it to its end, and says how that came."""
    # site-packages by name: without `site` it starts in half the time, and nothing else of ours is in reach
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    words = [sys.executable, "-P", "-s", "-S", str(Path(sandbox.__file__).resolve())]
    child = subprocess.Popen(
        words,
        stdin=asked,
        stdout=answer,
        stderr=said,
        env={"PYTHONPATH": paths, "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        start_new_session=True,
    )
    try:
        code = child.wait(WALL_S)
    except subprocess.TimeoutExpired:
        return f"it takes more than {WALL_S:g} s"
    finally:
        child.kill()
        child.wait()
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"it takes more than {sandbox.CPU_S} s of processor time"
    if code == -signal.SIGXFSZ:
        return f"it makes more than {sandbox.ANSWER_BYTES >> 20} MiB"
    if code < 0:
        return f"it ended its process with {signal.Signals(-code).name}"
    return f"its process ended with {code}"


def _content(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def _outcome(answer: dict[str, Any]) -> Outcome:
    if "error" in answer:
        return Outcome(
            rule=answer["rule"], error=answer["error"], help=answer.get("help", ""), line=answer.get("line", 1)
        )
    if "text" in answer:
        return Outcome(text=answer["text"], lines=tuple(answer["lines"]))
    return Outcome(value=answer["value"])
