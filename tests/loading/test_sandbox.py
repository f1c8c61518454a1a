"""The child that renders templates reaches nothing, whatever runs in it; what it does not survive is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.errors import Unavailable
from reconciler.loading import sandbox, template
from reconciler.loading.template import Work, evaluate

INSIDE = """
import ctypes, os, resource, runpy, socket, sys
child = runpy.run_path(sys.argv[1])
child["_shut"]()
def tried(what):
    try:
        what()
    except (OSError, ValueError) as error:
        return type(error).__name__
    return "done"
print(tried(lambda: os.open("/etc/passwd", os.O_RDONLY)))
print(tried(lambda: os.listdir("/")))
print(tried(lambda: os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)))
print(tried(lambda: socket.socket()))
print(tried(lambda: os.pipe()))
landlock = ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1) > 0
print(tried(lambda: os.execv("/bin/true", ["true"])) if landlock else "without Landlock a program can be started")
print(tried(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))))
print(os.geteuid())
print(tried(lambda: os.fork()))
"""


def test_fault_M22_what_escapes_into_the_child_can_open_start_and_reach_nothing() -> None:
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    try:
        left = place / "left-behind"
        words = [sys.executable, "-c", INSIDE, str(Path(sandbox.__file__)), str(left)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert not left.exists()
    finally:
        shutil.rmtree(place)

    *failed, uid, forked = done.stdout.split("\n")[:9]
    assert "done" not in failed and len(failed) == 7, done.stdout + done.stderr
    assert uid == str(os.geteuid() or 65534)
    assert forked == "BlockingIOError"


def test_fault_M23_what_neither_ends_nor_uses_the_processor_is_ended_by_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeping = tmp_path / "sandbox.py"
    sleeping.write_text("import os, time\nos.write(1, b'[0]\\n')\ntime.sleep(600)\n")
    monkeypatch.setattr(sandbox, "__file__", str(sleeping))
    for wall_s in (0.5, 2.0, 8.0, 32.0):  # on a busy machine it takes a while before it is at the first piece
        monkeypatch.setattr(template, "WALL_S", wall_s)
        with suppress(Unavailable):
            first, second = evaluate([Work("expression", "1"), Work("expression", "2")], {})
            break

    assert first is not None and (first.rule, first.error) == ("template-limit", f"it takes more than {wall_s:g} s")
    assert second is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("raise SystemExit('no module named jinja2')", "no module named jinja2"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    ],
)
def test_a_child_that_cannot_begin_is_no_fault_of_the_template(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str
) -> None:
    broken = tmp_path / "sandbox.py"
    broken.write_text(body)
    monkeypatch.setattr(sandbox, "__file__", str(broken))

    with pytest.raises(Unavailable, match=said):
        evaluate([Work("expression", "1")], {})


def test_a_child_that_dies_at_a_piece_names_it_and_what_was_done_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "sandbox.py"
    dying.write_text(
        "import os, signal\n"
        'os.write(1, b\'[0]\\n[0, {"value": 7}]\\n[1]\\n[1, {"val\')\n'
        "os.kill(os.getpid(), signal.SIGSEGV)\n"
    )
    monkeypatch.setattr(sandbox, "__file__", str(dying))

    first, second, third = evaluate([Work("expression", "7")] * 3, {})

    assert first is not None and first.value == 7
    assert second is not None and second.error == "it ended its process with SIGSEGV"
    assert third is None
