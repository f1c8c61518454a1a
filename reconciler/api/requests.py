"""What a request says, read strictly: bodies within their limit, numbers, names, durations, and who is asking."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from starlette.requests import Request

from reconciler.api.base import Caller
from reconciler.errors import Invalid, NotFound, ReconcilerError
from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import Problem
from reconciler.loading.render import load
from reconciler.loading.validate import LoadResult
from reconciler.loading.variant import Variant, Wanted, trees
from reconciler.loading.wording import said
from reconciler.resources.kinds import ALL, WRITABLE, find_kind
from reconciler.resources.meta import Key, Model
from reconciler.resources.task import TaskState
from reconciler.resources.units import duration_s
from reconciler.store.base import Store

M = TypeVar("M", bound=Model)

MAX_BODY_BYTES = 16 << 20


class TooLarge(ReconcilerError):
    """The body is longer than the API takes."""

    status = 413
    reason = "TooLarge"


class WrongManifests(Exception):
    """What was sent has errors, each with its place."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = problems


class Manifest(Model):
    """One file as the client has read it."""

    path: str = Field(max_length=4096)
    text: str

    @property
    def file(self) -> SourceFile:
        """As a loader takes it."""
        return SourceFile(self.path, self.text.encode("utf-8", "surrogatepass"))


class Manifests(Model):
    """Files, and what they are to become: the body of whatever is about manifests."""

    files: list[Manifest]
    roots: list[str] = []
    """The directories that they are below: what `overlays/` and `values.yaml` belong to."""
    overlay: str = Field(default="", max_length=253)
    values: list[Manifest] = []
    set: list[str] = []

    def load(self, source: str, known: Collection[Key], usual: Wanted = Wanted()) -> LoadResult:  # noqa: B008
        """Their objects, by the way that every manifest takes; `usual`: what is made of them unless something is asked."""
        variant = Variant(self.overlay, tuple(item.file for item in self.values), tuple(self.set))
        if not any(variant):
            variant, _ = usual.read()
        return load(trees([item.file for item in self.files], self.roots), variant, source, "", known)


async def read(request: Request) -> bytes:
    """The body, refused as soon as it is too long."""
    if int(request.headers.get("content-length") or 0) > MAX_BODY_BYTES:
        raise TooLarge(f"a body has at most {MAX_BODY_BYTES} bytes", "send it in several requests")
    parts, size_bytes = [], 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes > MAX_BODY_BYTES:
            raise TooLarge(f"a body has at most {MAX_BODY_BYTES} bytes", "send it in several requests")
        parts.append(part)
    return b"".join(parts)


async def body(request: Request, model: type[M]) -> M:
    try:
        return model.model_validate_json(await read(request) or b"{}")
    except ValidationError as error:
        raise invalid(error, model) from None


async def any_json(request: Request) -> Any:
    try:
        return json.loads(await read(request))
    except (ValueError, RecursionError) as error:
        raise Invalid(f"the body is not JSON: {error}") from None


def invalid(error: ValidationError, model: type[Model]) -> Invalid:
    """All that is wrong with a body, each with its place; of many, the first ten."""
    found = error.errors(include_url=False)
    lines = [said(item, model) for item in found[:10]]
    rest = f"; and {len(found) - 10} more" if len(found) > 10 else ""
    return Invalid("; ".join(lines) + rest)


def kind_of(request: Request) -> str:
    word = request.path_params["kind"]
    kind = find_kind(word)
    if kind is None:
        raise NotFound(f"there is no kind {word!r}", ", ".join(model.plural for model in ALL.values()))
    return kind


def declared(store: Store) -> list[Key]:
    """What manifests that come over the API may refer to."""
    return [obj.key for model in WRITABLE.values() for obj in store.all(model)]


def key_of(text: str) -> Key:
    word, _, name = text.partition("/")
    kind = find_kind(word)
    if kind is None or not name:
        raise Invalid(f"{text!r} names no object", "write KIND/NAME, such as pool/web or task/17")
    return Key(kind, name)


def caller_of(request: Request) -> Caller:
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)
    return caller


def actor_of(request: Request) -> str:
    return f"user {caller_of(request).user}"


def number(request: Request, name: str, default: int, most: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text[:20]) > most:
        raise Invalid(f"{name}: a whole number from 0 to {most} was expected, got {text!r}")
    return int(text)


def revision(given: Any) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not str(given).isdigit():
        raise Invalid(f"metadata.resourceVersion: a whole number was expected, got {given!r}")
    return int(given)


def duration(text: str, name: str) -> float:
    try:
        return duration_s(text)
    except ValueError as error:
        raise Invalid(f"{name}: {error}") from None


def task_state(text: str | None) -> TaskState | None:
    if text is None:
        return None
    found = next((state for state in TaskState if state.value.lower() == text.lower()), None)
    if found is None:
        raise Invalid(f"a task is never {text!r}", ", ".join(state.value for state in TaskState))
    return found
