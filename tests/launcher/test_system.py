"""Starting by either path, and telling processes apart."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.launcher import system
from reconciler.launcher.failure import StartFailed
from reconciler.launcher.protocol import Template
from reconciler.launcher.starter import Prepared, Start, Starter


@pytest.fixture(params=[True, False], ids=["vfork", "Popen"])
def starter(request: pytest.FixtureRequest) -> Iterator[Starter]:
    yield Starter(private=request.param)


def _start(starter: Starter, argv: list[str], **fields: object) -> int:
    """The wait status of one process."""
    prepared = Prepared(Template("t", argv, {"PATH": "/usr/bin:/bin"}, **fields))  # type: ignore[arg-type]
    start = Start(prepared, prepared.argv, prepared.env, (starter.null,) * 3)
    starter.resolve(start)
    (found,) = starter.start([start])
    if isinstance(found, StartFailed):
        raise found
    os.close(found.pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(found.pid, 0)[1])


def test_both_ways_start_the_same_process(starter: Starter) -> None:
    program = 'test "$PWD" = /usr && test "$(umask)" = 0027 && test "$(ps -o sid= -p $$)" -eq $$ && exit 7'
    assert _start(starter, ["sh", "-c", program], cwd="/usr", umask=0o027) == 7


@pytest.mark.parametrize(
    ("argv", "cwd", "step", "number"),
    [
        (["/no/such"], "/", "exec", errno.ENOENT),
        (["/dev/null"], "/", "exec", errno.EACCES),
        (["true"], "/no/such", "chdir", errno.ENOENT),
        (["a program of no path"], "/", "resolve", errno.ENOENT),
        (["/bin/true", "x" * 200_000], "/", "exec", errno.E2BIG),
        (["/bin/true", "\0"], "/", "exec", errno.EINVAL),
        ([], "/", "resolve", errno.ENOENT),
    ],
)
def test_both_ways_fail_by_the_same_step(starter: Starter, argv: list[str], cwd: str, step: str, number: int) -> None:
    with pytest.raises(StartFailed) as failed:
        _start(starter, argv, cwd=cwd)
    assert (failed.value.step, failed.value.errno) == (step, number)


def test_the_token_is_read_wherever_it_stands() -> None:
    assert system.token_of(b"RECONCILER_INSTANCE=a\0B=1\0") == "a"
    assert system.token_of(b"B=1\0RECONCILER_INSTANCE=a") == "a"
    assert system.token_of(b"NOT_RECONCILER_INSTANCE=a\0B=RECONCILER_INSTANCE=a\0") is None
    assert system.token_of(b"") is None
    assert system.token_of(None) is None


def test_an_environment_that_a_title_has_overwritten_is_not_intact() -> None:
    assert system.intact(b"A=1\0B=\0")
    assert not system.intact(b"gunicorn: master [app]\0\0\0B=1\0")
    assert not system.intact(b"\0\0\0")


def test_a_process_has_an_identity_of_its_own() -> None:
    one, two = os.pidfd_open(os.getpid()), os.pidfd_open(os.getppid())
    try:
        assert system.identity_of(os.getpid(), one) == system.identity_of(os.getpid(), one)
        assert system.identity_of(os.getpid(), one) != system.identity_of(os.getppid(), two)
    finally:
        os.close(one)
        os.close(two)


@pytest.mark.parametrize("pid", [0, 1, -1])
def test_fault_L8_pid_1_and_whole_systems_are_never_signalled(pid: int) -> None:
    with pytest.raises(ValueError):
        system.signal_group(pid, 0)


@pytest.mark.parametrize("address", ["web", "host:port", "127.0.0.1:99999", "127.0.0.1:", "relative/path"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ValueError):
        system.listen(address)


def test_a_name_is_never_looked_up() -> None:
    with pytest.raises(OSError):
        system.listen("example.org:80")


def test_a_socket_path_that_nobody_listens_at_is_taken_over_and_a_used_one_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "web.sock")
    left = socket.socket(socket.AF_UNIX)
    left.bind(path)
    left.close()
    held = system.listen(path)
    with pytest.raises(OSError, match="in use"):
        system.listen(f"unix:{path}")
    held.close()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OSError):
        system.listen(str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
