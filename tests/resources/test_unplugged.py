"""Our own processes make their models without looking for pydantic plugins; programs that use the client keep theirs."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("first", "looked"), [("reconciler.unplugged", False), ("reconciler.client", True)], ids=["ours", "the client's"]
)
def test_plugins_are_looked_for_where_the_process_is_not_ours(first: str, looked: bool) -> None:
    said = (
        f"import {first}, sys; from reconciler.resources.pool import Logs; Logs();"
        " loader = sys.modules['pydantic.plugin._loader'];"
        " print(hasattr(loader, '__file__'), loader.PYDANTIC_ENTRY_POINT_GROUP)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == [str(looked), "pydantic"]
