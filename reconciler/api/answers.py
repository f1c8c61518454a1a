"""How the API answers: JSON, and every error in one form: {"error": {"reason", "message", "help"}}."""

from __future__ import annotations

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from reconciler.api import views
from reconciler.api.requests import TooLarge, WrongManifests
from reconciler.errors import Invalid, NotFound, ReconcilerError
from reconciler.loading.problem import in_order
from reconciler.resources.words import many


class MethodNotAllowed(ReconcilerError):
    """The path is there, the method is not."""

    status = 405
    exit_code = 2
    reason = "MethodNotAllowed"


def json_answer(body: bytes | str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """What is JSON already."""
    return Response(body, status, headers, media_type="application/json")


async def _foreseen(request: Request, error: ReconcilerError) -> Response:
    headers = {"connection": "close"} if isinstance(error, TooLarge) else None
    return json_answer(views.encode(views.problem(error)), error.status, headers)


async def _by_status(request: Request, error: HTTPException) -> Response:
    if error.status_code == 405:
        return await _foreseen(request, MethodNotAllowed(f"{request.url.path} does not take {request.method}"))
    return await _foreseen(request, NotFound(f"there is no {request.url.path}", "the paths begin with /api/v1"))


async def _defect(request: Request, error: Exception) -> Response:
    """Unforeseen: the client hears that it is our fault; the traceback goes to the daemon's stderr."""
    fault = ReconcilerError(f"{type(error).__name__} in the daemon", "its output shows where; please report it")
    return json_answer(views.encode(views.problem(fault)), 500)


async def _wrong(request: Request, error: WrongManifests) -> Response:
    listed = in_order(error.problems)
    wrong = Invalid(f"{many(len(listed), 'problem')} in the manifests")
    return json_answer(views.encode({**views.problem(wrong), "problems": [p.to_json() for p in listed]}), 422)


ERRORS: dict[Any, Any] = {
    ReconcilerError: _foreseen,
    WrongManifests: _wrong,
    HTTPException: _by_status,
    Exception: _defect,
}
"""What answers each error."""
