"""The daemon's own settings from their file, through the same checks as every manifest."""

from __future__ import annotations

from reconciler.errors import Invalid
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import has_errors, render_concise
from reconciler.loading.validate import load
from reconciler.resources.configuration import Configuration


def configuration(path: str) -> Configuration:
    """The one Configuration in a file. Raises Invalid, with each error at its place."""
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", "name a file with one Configuration") from None
    result = load([SourceFile(path, text)])
    if has_errors(result.problems):
        raise Invalid("\n".join(render_concise(p) for p in result.problems if p.severity == "error"))
    found = [obj for obj in result.objects if isinstance(obj, Configuration)]
    if len(result.objects) != 1 or not found:
        raise Invalid(
            f"{path}: one Configuration was expected, and nothing else",
            "manifests belong into a source: reconciler up PATH",
        )
    return found[0]
