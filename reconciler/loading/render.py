"""Manifests as they are meant: templates rendered, values put in, the overlay merged, everything then checked.

    manifests/
      web.yaml               ${{ web.replicas }}         1. expressions get their values
      jobs.yaml.j2           {% for ... %}               1. a template becomes text, and is read
      values.yaml            web: {replicas: 6}
      overlays/prod/
        values.yaml          web: {replicas: 20}            on top of the values above, with --overlay prod
        web.yaml             kind, name, what differs    2. merged into the object of that kind and name

The one way from files to objects: of `validate`, `render`, `plan`, `apply` and the daemon. Every problem stands at the
line that a person wrote. A child process is needed for templates and expressions only.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from reconciler.errors import Unavailable
from reconciler.loading import overlay, quick, values
from reconciler.loading.document import make_problem, move, split_lines
from reconciler.loading.ignore import without_ignored
from reconciler.loading.parse import Parsed, SourceFile, decode, parse
from reconciler.loading.problem import START, Problem, Span, in_order
from reconciler.loading.validate import Cache, LoadResult, check
from reconciler.loading.variant import OVERLAYS, Tree, Variant, below
from reconciler.resources.meta import Key

if TYPE_CHECKING:
    from reconciler.loading.template import Outcome

TEMPLATES = (".yaml.j2", ".yml.j2")
Reader = Callable[[SourceFile], Parsed]
"""How a file without templates and expressions is read."""
_VALUES = ("values.yaml", "values.yml")


class Rendered(NamedTuple):
    """What files became: for each its path and documents, and what was wrong with overlays and values."""

    files: tuple[tuple[SourceFile, Parsed], ...]
    overlays: tuple[SourceFile, ...]
    """Those that were merged into them."""
    problems: tuple[Problem, ...]


class _Sorted(NamedTuple):
    """A tree's files by what they are for."""

    base: list[SourceFile]
    patches: list[SourceFile]
    values: list[SourceFile]
    problems: list[Problem]


def load(
    trees: Iterable[Tree],
    variant: Variant,
    source: str = "",
    revision: str = "",
    known: Collection[Key] = (),
    cache: Cache | None = None,
    read: Reader = quick.read,
) -> LoadResult:
    """All objects of these trees; the rest as `check` has it. Raises Invalid for a bad --set."""
    return check_rendered(render(trees, variant, cache, read), source, revision, known, cache)


def check_rendered(
    rendered: Rendered,
    source: str = "",
    revision: str = "",
    known: Collection[Key] = (),
    cache: Cache | None = None,
) -> LoadResult:
    """The objects of what was rendered, with all that was wrong on the way."""
    # an overlay is merged into the documents themselves: they are no longer what their file alone gives
    result = check(rendered.files, source, revision, known, None if rendered.overlays else cache)
    said = {(problem.file, problem.line, problem.path) for problem in rendered.problems}
    # where a value could not be put in, what stands there instead is no second error
    others = [problem for problem in result.problems if (problem.file, problem.line, problem.path) not in said]
    files = (*(file for file, _ in rendered.files), *rendered.overlays)
    return LoadResult(result.objects, in_order(without_ignored(files, (*rendered.problems, *others))))


def render(trees: Iterable[Tree], variant: Variant, cache: Cache | None = None, read: Reader = quick.read) -> Rendered:
    """The documents that these trees become. Raises Invalid for a bad --set. `cache`: of the last load, if any."""
    files: list[tuple[SourceFile, Parsed]] = []
    overlays: list[SourceFile] = []
    problems: list[Problem] = []
    every = list(trees)
    for tree in every:
        found = _sort(tree, variant.overlay)
        given, bad = values.read((*found.values, *variant.values), variant.sets)
        problems += (*found.problems, *bad)
        kept = {} if found.patches or cache is None else cache
        got = _read((*found.base, *found.patches), None if bad else given, kept, read)
        theirs = {file.path for file in found.patches}
        base = [item for item in got.files if item[0].path not in theirs]
        patches = [item for item in got.files if item[0].path in theirs]
        problems += got.problems
        problems += (problem for _, parsed in patches for problem in parsed.problems)
        if got.whole:
            problems += overlay.merge(
                [document for _, parsed in base for document in parsed.documents],
                [document for _, parsed in patches for document in parsed.documents],
            )
        files += base
        overlays += found.patches
    problems += values.unused(variant.sets, _texts(every))
    return Rendered(tuple(files), tuple(overlays), in_order(problems))


def _texts(trees: Iterable[Tree]) -> Iterator[str]:
    """What of these trees can use a value: whole templates, and the expressions of other files."""
    for tree in trees:
        for file in tree.files:
            text = file.data.decode("utf-8", "replace")
            if file.path.endswith(TEMPLATES):
                yield text
            else:
                yield from re.findall(r"\$\{\{.*?\}\}", text, re.DOTALL)


def _sort(tree: Tree, wanted: str) -> _Sorted:
    base: list[SourceFile] = []
    patches: list[SourceFile] = []
    given: list[SourceFile] = []
    problems: list[Problem] = []
    overlays: set[str] = set()
    for file in tree.files:
        steps = below(tree, file)
        if steps[0] == OVERLAYS and len(steps) == 2:
            message, help = "this belongs to no overlay", f"put it into {OVERLAYS}/NAME/"
            problems.append(Problem(file.path, *START, overlay.RULE, message, help=help))
        elif steps[0] == OVERLAYS and len(steps) > 2:
            overlays.add(steps[1])
            if steps[1] == wanted:
                (given if len(steps) == 3 and steps[2] in _VALUES else patches).append(file)
        elif file.path != tree.root and len(steps) == 1 and steps[0] in _VALUES:
            given.insert(0, file)
        else:
            base.append(file)
    if wanted and overlays and wanted not in overlays:
        close = difflib.get_close_matches(wanted, overlays, 1, 0.7)
        help = f"did you mean {close[0]}?" if close else f"there are: {', '.join(sorted(overlays))}"
        problems.append(Problem(tree.root, *START, overlay.RULE, f"there is no overlay {wanted!r}", help=help))
    return _Sorted(base, patches, given, problems)


class _Read(NamedTuple):
    """Files as documents, with their values in them."""

    files: list[tuple[SourceFile, Parsed]]
    problems: list[Problem]
    whole: bool
    """False when something is missing that no problem names: what is built on it means nothing."""


def _read(files: Sequence[SourceFile], given: dict[str, Any] | None, cache: Cache, read: Reader) -> _Read:
    """Every file's documents; with no values given, only of those files that need none."""
    parsed: dict[str, Parsed] = {}
    texts: dict[str, str] = {}
    slots: list[values.Slot] = []
    problems: list[Problem] = []
    for file in files:
        if file.path.endswith(TEMPLATES):
            text, problem = decode(file)
            if problem is None:
                texts[file.path] = text
            else:
                problems.append(problem)
            continue
        plain = b"{{" not in file.data  # most are, and looking takes time
        parsed[file.path] = (cache[file].parsed if file in cache else read(file)) if plain else parse(file)
        if not plain:
            for document in parsed[file.path].documents:
                found, bad = values.find(document)
                slots += found
                problems += bad
    whole = True
    if given is None:
        whole = not texts and not slots
        for slot in slots:
            parsed.pop(slot.document.file, None)
    elif texts or slots:
        whole = _evaluate(parsed, texts, slots, given, problems)
    return _Read([(file, parsed[file.path]) for file in files if file.path in parsed], problems, whole)


def _evaluate(
    parsed: dict[str, Parsed],
    texts: dict[str, str],
    slots: Sequence[values.Slot],
    given: dict[str, Any],
    problems: list[Problem],
) -> bool:
    """Adds what the templates became, and puts values into slots; False if some were not come to."""
    from reconciler.loading.template import Work, evaluate  # only who has templates pays for them

    expressions = list(dict.fromkeys(text for slot in slots for text in slot.expressions))
    work = [Work("template", text) for text in texts.values()] + [Work("expression", text) for text in expressions]
    try:
        outcomes = evaluate(work, given)
    except Unavailable as error:
        first = [*texts, *(slot.document.file for slot in slots)][0]
        problems.append(Problem(first, *START, values.RULE, error.message, help=error.help))
        return False
    for (path, text), outcome in zip(texts.items(), outcomes, strict=False):
        if outcome is not None and outcome.rule:
            problems.append(_template_problem(path, text, outcome, given))
        elif outcome is not None:
            parsed[path] = _moved(parse(SourceFile(path, outcome.text.encode())), text, outcome)
    of = dict(zip(expressions, outcomes[len(texts) :], strict=True))
    for slot in slots:
        for number, expression in enumerate(slot.expressions):
            outcome = of[expression]
            if outcome is not None and outcome.rule:
                help = outcome.help or values.missing_help(outcome.error, given)
                problems.append(slot.problem(number, outcome.rule, outcome.error, help))
    good = {text: outcome.value for text, outcome in of.items() if outcome is not None and not outcome.rule}
    problems += values.fill(slots, {text: (value, len(json.dumps(value))) for text, value in good.items()})
    return None not in outcomes


def _template_problem(path: str, text: str, outcome: Outcome, given: dict[str, Any]) -> Problem:
    """Why a template failed, at its line, and at the name that is missing where there is one."""
    lines = split_lines(text)
    line = lines[outcome.line - 1] if outcome.line <= len(lines) else ""
    quoted = re.search(r"'(\w+)'", outcome.error)
    word = re.search(rf"\b{quoted[1]}\b", line) if quoted else None
    start, end = word.span() if word else (len(line) - len(line.lstrip()), len(line.rstrip()))
    help = outcome.help or values.missing_help(outcome.error, given)
    return make_problem(path, lines, Span(outcome.line, start + 1, end + 1), outcome.rule, outcome.error, help=help)


def _moved(parsed: Parsed, text: str, outcome: Outcome) -> Parsed:
    """What was read of a template's text, at the template's own lines."""
    rendered, lines = split_lines(outcome.text), split_lines(text)

    def where(span: Span) -> Span:
        made = rendered[min(span.line, len(rendered)) - 1]
        origin = outcome.lines[min(span.line, len(outcome.lines)) - 1] if outcome.lines else 1
        written = lines[min(origin, len(lines)) - 1]
        if written == made:
            return Span(origin, span.column, span.end_column)
        token = made[span.column - 1 : span.end_column - 1 if span.end_column > 0 else None]
        if token and written.count(token) == 1:
            column = written.index(token) + 1
            return Span(origin, column, column + len(token))
        return Span(origin, len(written) - len(written.lstrip()) + 1, len(written.rstrip()) + 1)

    for document in parsed.documents:
        move(document, where, lines)
    problems: list[Problem] = []
    for problem in parsed.problems:
        span = where(Span(problem.line, problem.column, problem.end_column))
        help = f"rendered as: {problem.snippet.strip()}" if problem.snippet else problem.help
        problems.append(make_problem(problem.file, lines, span, problem.rule, problem.message, problem.path, help))
    return Parsed(parsed.documents, tuple(problems))
