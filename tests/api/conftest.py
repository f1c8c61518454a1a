"""The small daemon, served on a socket of its own for each test."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.monitoring import sampler


def _small() -> Any:
    path = Path(__file__).with_name("small.py")
    spec = importlib.util.spec_from_file_location("small_daemon", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_daemon"] = module
    spec.loader.exec_module(module)
    return module


small = sys.modules.get("small_daemon") or _small()


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    # a machine that is too busy to look at all of /proc within two seconds is not what is tested here
    monkeypatch.setattr(sampler, "PATIENCE_S", 60.0)
    with tempfile.TemporaryDirectory(prefix="rec-") as directory, small.served(Path(directory)) as running:
        yield running
