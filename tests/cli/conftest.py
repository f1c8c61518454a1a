"""The same small daemon as the tests of the API have, and the command line beside it."""

from __future__ import annotations

import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reconciler.cli import main

_spec = importlib.util.spec_from_file_location("api_conftest", Path(__file__).parents[1] / "api" / "conftest.py")
assert _spec is not None and _spec.loader is not None
_conftest = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_conftest)
house = _conftest.house

Cli = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def cli(house: Any, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Runs `reconciler ARGS` against the small daemon, in this process: a process of its own takes a hundred times as
    long."""
    monkeypatch.setenv("RECONCILER_STATE", str(house.state))

    def run(*args: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        with monkeypatch.context() as patch:
            streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8") for name in ("stdout", "stderr")}
            patch.setattr(sys, "argv", ["reconciler", *args])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            with pytest.raises(SystemExit) as ended:
                main()
            for stream in streams.values():
                stream.flush()
            out, err = (streams[name].buffer.getvalue() for name in ("stdout", "stderr"))  # type: ignore[attr-defined]
            code = ended.value.code
        return subprocess.CompletedProcess(args, code if isinstance(code, int) else 0, out, err)

    return run
