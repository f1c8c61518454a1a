"""No pydantic plugins in our own processes: imported first by the command and by the controller, never by the client library.

Looking for plugins reads the metadata of every installed distribution, a fifth of the time in which the models are made;
and one that somebody has installed for another program has no business inside a supervisor.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_LOADER = "pydantic.plugin._loader"


class _NoPlugins(ModuleType):
    """In the place of pydantic's loader; whatever else is asked of it, the real one answers."""

    @staticmethod
    def get_plugins() -> tuple[()]:
        return ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        sys.modules.pop(_LOADER, None)
        return getattr(importlib.import_module(_LOADER), name)


sys.modules.setdefault(_LOADER, _NoPlugins(_LOADER))
