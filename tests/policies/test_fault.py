"""The table of faults is whole: held against every way in which the code can say that something went wrong."""

from __future__ import annotations

import ast
import errno
import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import reconciler
from reconciler.errors import ReconcilerError
from reconciler.policies.fault import ENDS, EXHAUSTED, of
from reconciler.resources.worker import FaultType, Reason
from reconciler.runtime.observer import how

PACKAGE = Path(reconciler.__file__).parent
SAID_BY_THE_LAUNCHER = {
    Reason.START_FAILED: {"failed": ["exec", errno.ENOENT, "No such file or directory"]},
    Reason.EXITED: {"code": 3},
    Reason.SIGNALLED: {"signal": 11},
    Reason.KILLED_EXTERNALLY: {"signal": 9},
    Reason.EXIT_UNKNOWN: {"unknown": "lost"},
    Reason.HOST_REBOOTED: {"unknown": "reboot"},
}


def words(tree: ast.AST) -> Iterator[str]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_every_reason_has_its_row_and_only_a_stop_is_no_fault() -> None:
    assert set(ENDS) == set(Reason)
    assert [reason for reason, fault in ENDS.items() if fault is None] == [Reason.STOPPED]


def test_every_type_is_the_type_of_something() -> None:
    found = {fault.type for fault in (*ENDS.values(), *EXHAUSTED.values()) if fault is not None}

    assert found == set(FaultType)


def test_every_fault_says_what_it_is_and_how_to_mend_it() -> None:
    for fault in (*ENDS.values(), *EXHAUSTED.values()):
        assert fault is None or (fault.what and fault.mend)


@pytest.mark.parametrize("reason", SAID_BY_THE_LAUNCHER)
def test_what_the_launcher_says_has_its_own_reason_and_type(reason: Reason) -> None:
    ended = how(SAID_BY_THE_LAUNCHER[reason], asked=False)  # type: ignore[arg-type]

    assert ended.reason is reason
    assert of(ended.reason, ended.code) is not None


@pytest.mark.parametrize("word", EXHAUSTED)
def test_every_event_of_the_table_is_one_that_the_code_emits(word: str) -> None:
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "fault.py"]

    assert any(word in words(ast.parse(file.read_text())) for file in files), f"nothing says {word}"


def test_an_exit_with_0_and_a_stop_are_no_faults() -> None:
    assert of(Reason.EXITED, 0) is None
    assert of(Reason.STOPPED, 1) is None
    assert of(Reason.EXITED, 1) is not None


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC])
def test_a_start_for_which_the_host_has_nothing_left_is_typed_as_such(number: int) -> None:
    found = of(Reason.START_FAILED, None, number)
    assert found is not None and found.type is FaultType.RESOURCES_EXHAUSTED

    plain = of(Reason.START_FAILED, None, errno.ENOENT)
    assert plain is not None and plain.type is FaultType.SPAWN_FAILED


def test_no_two_errors_of_the_house_share_a_reason() -> None:
    for module in pkgutil.walk_packages([str(PACKAGE)], "reconciler."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    def below(error: type[ReconcilerError]) -> Iterator[type[ReconcilerError]]:
        yield error
        for one in error.__subclasses__():
            yield from below(one)

    own = [error for error in below(ReconcilerError) if "reason" in vars(error)]
    twice = [reason for reason, count in Counter(error.reason for error in own).items() if count > 1]
    assert len(own) > 10
    assert twice == []
