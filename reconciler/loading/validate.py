"""Manifests as resources, or all that is wrong with all of them at once.

    SourceFile -> documents -> model -> checks of the object -> checks across objects
                  Problem      Problem  Problem                 Problem

Pydantic finds what does not fit; here its findings get a place in the file, a rule and words a person can act on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from reconciler.loading import lint
from reconciler.loading.dependencies import circles
from reconciler.loading.document import Document
from reconciler.loading.ignore import without_ignored
from reconciler.loading.parse import MAX_PROBLEMS, Parsed, SourceFile
from reconciler.loading.problem import START, Problem, has_errors, in_order, render_concise, render_full
from reconciler.loading.quick import read
from reconciler.loading.wording import did_you_mean, fields_of, model_in, words
from reconciler.resources.check import Address, address, findings, references
from reconciler.resources.kinds import ALL, DECLARED, WRITABLE
from reconciler.resources.meta import API_VERSION, Key, Metadata, Object, Origin
from reconciler.resources.pool import Pool
from reconciler.resources.units import shown

__all__ = ["LoadResult", "Problem", "SourceFile", "load", "render_concise", "render_full"]

_METADATA = ("name", "labels", "annotations")
_OURS = frozenset(field.alias or name for name, field in Metadata.model_fields.items()).difference(_METADATA)
_WRITTEN = ("apiVersion", "kind", "metadata", "spec")


class LoadResult(NamedTuple):
    """Objects in the order of their files; to be used only when no problem is an error."""

    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]

    @property
    def valid(self) -> bool:
        """Whether there are at most warnings."""
        return not has_errors(self.problems)


class _Loaded(NamedTuple):
    document: Document
    object: Object


def load(files: Sequence[SourceFile], source: str = "", revision: str = "", known: Collection[Key] = ()) -> LoadResult:
    """All objects of these files as they stand; `source` and `revision` are noted as their origin.

    `known`: objects outside these files that may be referred to.
    """
    result = check([(file, read(file)) for file in files], source, revision, known)
    return LoadResult(result.objects, in_order(without_ignored(files, result.problems)))


class LoadedFile(NamedTuple):
    """What one file gives by itself, whatever stands beside it."""

    parsed: Parsed
    loaded: tuple[_Loaded, ...]
    named: frozenset[Key]
    problems: tuple[Problem, ...]


Cache = dict[SourceFile, LoadedFile]
"""Files as they were at the last load: what has not changed is neither parsed nor checked again."""


def check(
    files: Sequence[tuple[SourceFile, Parsed]],
    source: str = "",
    revision: str = "",
    known: Collection[Key] = (),
    cache: Cache | None = None,
) -> LoadResult:
    """All objects of what was read of these files, and all that is wrong, nothing of it silenced yet.

    `cache` is read, and left with these files only; an object from there keeps the revision at which its file changed.
    """
    before = cache or {}
    results = []
    for file, parsed in files:
        kept = before.get(file)
        same = kept is not None and kept.parsed is parsed
        results.append(kept if kept is not None and same else _load_file(file, parsed, source, revision))
    if cache is not None:
        cache.clear()
        cache.update((file, result) for (file, _), result in zip(files, results, strict=True))
    loaded = [item for result in results for item in result.loaded]
    problems = [problem for result in results for problem in result.problems]
    named = set(known).union(*(result.named for result in results))
    problems += _across(loaded) + _dangling(loaded, named)
    return LoadResult(tuple(item.object for item in loaded), in_order(problems))


def _load_file(file: SourceFile, parsed: Parsed, source: str, revision: str) -> LoadedFile:
    loaded: list[_Loaded] = []
    named: set[Key] = set()
    found = list(parsed.problems)
    empty = True
    for document in parsed.documents:
        if document.value is None:
            continue
        empty = False
        named |= _named(document.value)
        obj = _object(document, found, source, revision)
        if obj is not None:
            loaded.append(_Loaded(document, obj))
    if empty and not found:
        line, column, end_column = START
        message, help = "the file holds no objects", "remove it, or add an object"
        found.append(Problem(file.path, line, column, end_column, "empty", message, help=help, severity="warning"))
    if parsed.documents and not has_errors(found):
        found += lint.of_file(file, parsed.documents[0].lines)
    # errors first: a hundred warnings must not push one out
    kept = sorted(found, key=lambda problem: problem.severity)[: MAX_PROBLEMS + 1]
    return LoadedFile(parsed, tuple(loaded), frozenset(named), tuple(kept))


def _object(document: Document, problems: list[Problem], source: str, revision: str) -> Object | None:
    """The object of one document; None when it has errors, which are added to the problems."""
    value = document.value
    if not isinstance(value, dict):
        message = f"expected an object with apiVersion, kind, metadata and spec, got {shown(value)}"
        problems.append(document.problem(document.span, "type", (), message))
        return None
    found: list[Problem] = []
    _check_version(document, found)
    model = _model(document, found)
    obj: Object | None = None
    if model is not None:
        try:
            obj = model.model_validate(_written(document, found), by_alias=True, by_name=False)
        except ValidationError as error:
            found += (_explain(document, model, item) for item in error.errors(include_url=False)[:MAX_PROBLEMS])
    if obj is not None and not found:
        found += (document.problem(document.best_span(finding.path), *finding) for finding in findings(obj))
    taken = {(problem.line, problem.column) for problem in problems}  # a refused tag is not a wrong type as well
    found = [problem for problem in found if (problem.line, problem.column) not in taken]
    problems += found
    if obj is None or found:
        return None
    for item in lint.of_document(document):
        warning = document.problem(document.best_span(item.path), *item, severity="warning")
        # reports and logs go further than the file: the line with a secret stays where it is
        problems.append(replace(warning, snippet="") if item.rule == "plain-secret" else warning)
    origin = Origin(path=_below(document.file, source), line=document.line, revision=revision, source=source)
    return obj.changed(metadata=obj.metadata.changed(source=origin))


def _below(path: str, source: str) -> str:
    """The path as seen from its source: a source may be moved."""
    below = path.removeprefix(source.rstrip("/") + "/") if source else path
    return path.rpartition("/")[2] if below == path == source else below


def _check_version(document: Document, found: list[Problem]) -> None:
    path = ("apiVersion",)
    if "apiVersion" not in document.value:
        message = "apiVersion is missing"
        found.append(document.problem(document.span, "missing-field", path, message, f"add apiVersion: {API_VERSION}"))
    elif (version := document.value["apiVersion"]) != API_VERSION:
        message = f"expected {API_VERSION}, got {shown(version)}"
        help = f"write apiVersion: {API_VERSION}"
        found.append(document.problem(document.value_span(path), "api-version", path, message, help))


def _model(document: Document, found: list[Problem]) -> type[Object] | None:
    path = ("kind",)
    kinds = ", ".join(WRITABLE)
    if "kind" not in document.value:
        found.append(document.problem(document.span, "missing-field", path, "kind is missing", f"add one of: {kinds}"))
        return None
    kind, kinds = document.value["kind"], f"{kinds}; for `up --config` Configuration"
    if isinstance(kind, str) and kind in DECLARED:
        return DECLARED[kind]
    span = document.value_span(path)
    if isinstance(kind, str) and kind in ALL:
        message = f"a {kind} is made by the reconciler, never in a manifest"
        found.append(document.problem(span, "unknown-kind", path, message, f"remove it; kinds to write: {kinds}"))
    else:
        help = did_you_mean(kind, DECLARED) or f"kinds to write: {kinds}"
        found.append(document.problem(span, "unknown-kind", path, f"there is no kind {shown(kind)}", help))
    return None


def _written(document: Document, found: list[Problem]) -> dict[str, Any]:
    """The document without the fields that the reconciler writes, each of which is an error."""
    value: dict[str, Any] = document.value
    if "status" in value:
        message = "status is written by the reconciler, never in a manifest"
        found.append(document.problem(document.key_span(("status",)), "status", ("status",), message, "remove it"))
    written = {name: item for name, item in value.items() if name not in ("apiVersion", "status")}
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        for name in metadata:
            if name in _OURS:
                path = ("metadata", name)
                message = f"{name} is written by the reconciler, never in a manifest"
                found.append(document.problem(document.key_span(path), "unknown-field", path, message, "remove it"))
        written["metadata"] = {name: item for name, item in metadata.items() if name not in _OURS}
    return written


def _explain(document: Document, model: type[Object], error: Any) -> Problem:
    """One of pydantic's findings, placed and in our words."""
    path: tuple[str | int, ...] = error["loc"]
    type_: str = error["type"]
    if path[-1:] == ("[key]",):  # of a map: the key itself is refused
        path = path[:-1]
    if type_ == "extra_forbidden":
        known = _known(model, path[:-1])
        help = did_you_mean(path[-1], known) or _elsewhere(model, str(path[-1])) or f"known here: {', '.join(known)}"
        return document.problem(document.key_span(path), "unknown-field", path, "there is no such field", help)
    if type_ == "missing":
        span = document.key_span(path[:-1])
        return document.problem(span, "missing-field", path, f"{path[-1]} is missing", f"add {path[-1]}: ...")
    rule, message, help = words(path, error, lambda: document.text(path))
    return document.problem(document.value_span(path), rule, path, message, help)


def _known(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """The fields of the map at that path, as people write them."""
    if not path:
        return list(_WRITTEN)
    if path == ("metadata",):
        return list(_METADATA)
    found: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, str) and found is not None:
            found = fields_of(found).get(step)
    return [] if found is None else list(fields_of(found))


def _elsewhere(model: type[BaseModel], name: str) -> str:
    """Where a field of that name does exist: the one place that is nearest to the top."""
    places = [place for place in _places(model.model_fields["spec"].annotation, "spec") if place.endswith(f".{name}")]
    depth = min((place.count(".") for place in places), default=0)
    nearest = [place for place in places if place.count(".") == depth]
    return f"it belongs in {nearest[0].rpartition('.')[0]}" if len(nearest) == 1 else ""


def _places(annotation: Any, path: str) -> Iterable[str]:
    model = model_in(annotation)
    if model is not None:
        for name, inner in fields_of(model).items():
            yield f"{path}.{name}"
            if inner is not None:
                yield from _places(inner, f"{path}.{name}")


def _across(loaded: Sequence[_Loaded]) -> list[Problem]:
    """What objects are to each other: one name twice, one port or socket twice."""
    problems: list[Problem] = []
    first: dict[Key, _Loaded] = {}
    kept: list[tuple[Document, Pool]] = []
    for item in loaded:
        same = first.setdefault(item.object.key, item)
        if same is item:
            if isinstance(item.object, Pool):
                kept.append((item.document, item.object))
            continue
        path = ("metadata", "name")
        message = f"{item.object.key} is also at {same.document.at(path)}"
        span = item.document.value_span(path)
        problems.append(item.document.problem(span, "duplicate-object", path, message, "rename or remove one of them"))
    return problems + _port_clashes(kept) + _socket_clashes(kept) + circles(kept)


def _named(value: Any) -> set[Key]:
    """Whom a document is about, also where the rest of it is wrong: its name may be referred to."""
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if not isinstance(metadata, dict):
        return set()
    kind, name = value.get("kind"), metadata.get("name")
    return {Key(kind, name)} if isinstance(kind, str) and isinstance(name, str) else set()


def _dangling(loaded: Sequence[_Loaded], there: Collection[Key]) -> list[Problem]:
    """References to objects that nobody declares."""
    problems: list[Problem] = []
    for document, obj in loaded:
        for path, key in references(obj):
            if key in there:
                continue
            same_kind = sorted(other.name for other in there if other.kind == key.kind)
            help = did_you_mean(key.name, same_kind) or f"declare a {key.kind} of that name, or remove the ref"
            span = document.best_span(path)
            problems.append(document.problem(span, "reference", path, f"there is no {key}", help))
    return problems


class _Range(NamedTuple):
    """Ports first to last, taken by one entry of one pool."""

    first: int
    last: int
    document: Document
    pool: Pool
    path: tuple[str | int, ...]


def _port_clashes(pools: Iterable[tuple[Document, Pool]]) -> list[Problem]:
    ranges = sorted((item for pair in pools for item in _ranges(*pair)), key=lambda item: (item.first, item.last))
    problems: list[Problem] = []
    furthest: _Range | None = None
    for item in ranges:
        if furthest is not None and item.first <= furthest.last:
            last = min(item.last, furthest.last)
            shared = f"port {item.first}" if last == item.first else f"ports {item.first} to {last}"
            message = f"{shared} also taken by {furthest.pool.key} at {furthest.document.at(furthest.path)}"
            span = item.document.value_span(item.path)
            problems.append(item.document.problem(span, "port-clash", item.path, message, "choose another"))
        if furthest is None or item.last > furthest.last:
            furthest = item
    return problems


def _ranges(document: Document, pool: Pool) -> Iterable[_Range]:
    if pool.spec.most == 0:
        return
    for index, port in enumerate(pool.spec.template.ports):
        path = ("spec", "template", "ports", index)
        if port.base is not None:
            yield _Range(port.base, port.base + pool.spec.most - 1, document, pool, (*path, "base"))
        elif port.port is not None:
            yield _Range(port.port, port.port, document, pool, (*path, "port"))


def _socket_clashes(pools: Iterable[tuple[Document, Pool]]) -> list[Problem]:
    problems: list[Problem] = []
    held: dict[tuple[int, str], list[tuple[Address, Document, Pool, tuple[str | int, ...]]]] = {}
    for document, pool in pools:
        for index, socket in enumerate(pool.spec.template.sockets):
            path = ("spec", "template", "sockets", index, "listen")
            here = address(socket.listen)
            others = held.setdefault((here.port, "" if here.port else here.host), [])
            for other, its_document, its_pool, its_path in others:
                if here.meets(other):
                    message = f"{socket.listen} is also held by {its_pool.key} at {its_document.at(its_path)}"
                    span = document.value_span(path)
                    problems.append(document.problem(span, "socket", path, message, "choose another"))
                    break
            others.append((here, document, pool, path))
    return problems
