"""The house keeps its own rules: style, types, floors, and who may touch the world."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "reconciler"
FILES = sorted(PACKAGE.rglob("*.py"))
BIN = Path(sys.executable).parent

WALL_CLOCK = {"clock.py", "launcher", "cli"}
WAITING = WALL_CLOCK | {"client.py", "api", "coordination"}
"""Who answers a request, holds a lock or stands outside the daemon waits for a deadline; what decides is told the time."""
PROCESSES = {"launcher", "cli", "backends"}

RESTRICTED = {
    "time.time": WALL_CLOCK,
    "time.time_ns": WALL_CLOCK,
    "datetime.now": WALL_CLOCK,
    "datetime.utcnow": set(),
    "datetime.today": set(),
    "date.today": set(),
    "time.monotonic": WAITING,
    "time.monotonic_ns": WAITING,
    "time.sleep": WAITING,
    "os.kill": PROCESSES,
    "os.killpg": PROCESSES,
    "os.fork": PROCESSES,
    "os.posix_spawn": PROCESSES,
    "os.system": set(),
    "os.popen": set(),
    "signal.pidfd_send_signal": PROCESSES,
    "subprocess.Popen": PROCESSES | {"loading"},
    "subprocess.run": PROCESSES,
    "asyncio.create_subprocess_exec": set(),
    "asyncio.create_subprocess_shell": set(),
}
"""What may be called, and the files and packages below `reconciler` that may."""


def run(*words: str) -> None:
    done = subprocess.run([str(BIN / words[0]), *words[1:]], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_has_nothing_to_say() -> None:
    run("ruff", "check", "--no-cache")


def test_the_code_is_formatted() -> None:
    run("ruff", "format", "--check", "--no-cache")


def test_mypy_strict_has_nothing_to_say() -> None:
    run("mypy")


def test_no_file_imports_upward_and_what_decides_is_pure() -> None:
    run("lint-imports", "--no-cache")


def imports(file: Path) -> Iterator[str]:
    """Everything a file imports by its full name, also inside functions."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: len(parts) - node.level] if node.level else ()
            module = ".".join((*above, node.module) if node.module else above)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def place(file: Path) -> str:
    """The package or top file it belongs to."""
    return file.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("file", [file for file in FILES if place(file) == "launcher"], ids=lambda file: file.stem)
def test_the_launcher_imports_the_standard_library_and_itself_only(file: Path) -> None:
    for name in imports(file):
        ours = ("reconciler.launcher", "reconciler.crash")
        assert name.split(".")[0] in sys.stdlib_module_names or name.startswith(ours), name


def test_of_the_launcher_only_its_protocol_is_imported_by_others() -> None:
    for file in FILES:
        if place(file) != "launcher":
            found = {name for name in imports(file) if name.startswith("reconciler.launcher")}
            assert all(name.startswith("reconciler.launcher.protocol") for name in found), f"{file}: {found}"


def called(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every `module.function` that is named in a file, and every `from module import function`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield f"{node.value.id}.{node.attr}", node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
            yield f"{node.value.attr}.{node.attr}", node.lineno  # datetime.datetime.now
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def test_the_time_is_read_and_processes_are_touched_only_where_that_is_the_work() -> None:
    strayed = [
        f"{file.relative_to(ROOT)}:{line}: {name}"
        for file in FILES
        for name, line in called(ast.parse(file.read_text()))
        if name in RESTRICTED and place(file) not in RESTRICTED[name]
    ]

    assert strayed == []


def test_every_file_opens_with_what_it_is() -> None:
    silent = [
        str(file.relative_to(ROOT)) for file in FILES if len(ast.get_docstring(ast.parse(file.read_text())) or "") < 10
    ]

    assert silent == []


def test_no_package_is_a_drawer_for_everything() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}

    assert [file for file in FILES if file.name in drawers] == []
