"""What applying manifests will do to what runs, before it happens.

    Decision (apply.py)  ->  the fields that differ, each with its class  ->  Effect
    pool/web  spec.template.command   template   ->   replace, rolling   web-1 web-0 web-2, one after another
    pool/web  spec.replicas 3 -> 2    live       ->   update, live       web-2
    pool/web  metadata.labels.team    cosmetic   ->   update, none

The class stands on the field of the model, where the template's hash has it from as well. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from reconciler.loading.apply import Decision, decide, refusal
from reconciler.resources.meta import Change, Model, Object
from reconciler.resources.pool import Pool, Template, revision_hash
from reconciler.resources.words import are, override_notes
from reconciler.resources.worker import Worker
from reconciler.store.base import Store

Action = Literal["create", "update", "replace", "delete", "none"]
Effect = Literal["none", "live", "rolling", "restart", "stop"]


class Field(NamedTuple):
    """One field that differs, with its values as a manifest has them; None where there is none."""

    path: str
    old: Any
    new: Any
    change: Change


class Planned(NamedTuple):
    """What becomes of one object, and of which workers in which order."""

    object: str
    action: Action
    effect: Effect
    fields: tuple[Field, ...]
    workers: tuple[str, ...]
    reason: str
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As it is shown outside."""
        fields = [{"path": f.path, "old": f.old, "new": f.new, "change": f.change.value} for f in self.fields]
        return {**self._asdict(), "fields": fields, "workers": list(self.workers), "notes": list(self.notes)}


def planned(decision: Decision, workers: Sequence[Worker]) -> Planned:
    """What a decision means; `workers`: those that the object owns."""
    (key, word), old, new, _ = decision
    names = tuple(worker.name for worker in workers)
    if old is None:
        starting = _missing(new, 0)
        begins = f": {are(len(starting), 'worker')} started" if starting else ""
        return Planned(str(key), "create", "none", (), starting, f"it is not there yet{begins}")
    if word == "pruned":
        ends = f": {are(len(names), 'worker')} stopped" if names else ""
        return Planned(str(key), "delete", "stop", (), names[::-1], f"it is no longer declared{ends}")
    fields = tuple(differences(old, new))
    stays = tuple(_overridden(old, new))
    if word == "unchanged":
        return Planned(str(key), "none", "none", (), (), "nothing differs", stays)
    if all(field.change is Change.COSMETIC for field in fields):
        return Planned(str(key), "update", "none", fields, (), f"{_paths(fields)}: nothing that runs is touched", stays)
    action, effect, touched, reason = _of_pool(old, new, fields, workers) or ("update", "live", (), "")
    reason = reason or f"{_paths(fields)}: applied in place"
    return Planned(str(key), action, effect, fields, touched, reason, stays)


_Outcome = tuple[Action, Effect, tuple[str, ...], str]


def _of_pool(old: Object, new: Object, fields: Sequence[Field], workers: Sequence[Worker]) -> _Outcome | None:
    """What a change of a pool does to its workers; None when it touches none of them."""
    if not isinstance(old, Pool) or not isinstance(new, Pool):
        return None
    names = tuple(worker.name for worker in workers)
    if old.spec.slots != new.spec.slots:
        what = "the pool runs tasks now" if new.spec.slots else "the pool runs workers now"
        return "replace", "restart", names[::-1] or _missing(new, 0), what
    new = new.changed(status=old.status)
    target = revision_hash(new)
    kept = [worker for worker in workers if worker.spec.ordinal < new.replicas]
    scaled = _scaled(old, new, workers)
    if target != revision_hash(old):
        because = _paths([field for field in fields if field.change is Change.TEMPLATE])
        if new.spec.slots:
            return "update", "live", (), f"{because}: tasks that run go on, the next ones begin with it"
        outdated = [worker for worker in kept if worker.spec.template_hash != target]
        replaced = sorted(outdated, key=lambda worker: worker.status.ready)  # as a rollout: those that are down first
        if replaced:
            at_once = new.spec.strategy.max_unavailable
            how = f"{min(at_once, len(replaced))} at once" if at_once > 1 else "one after another"
            all_at_once = len(replaced) > 1 and at_once >= len(replaced)
            effect: Effect = "restart" if all_at_once else "rolling"
            named = tuple(worker.name for worker in replaced)
            also = f"; {scaled[1]}" if scaled is not None else ""
            if old.metadata.held is not None:
                also += f"; its rollout is paused: they wait for `reconciler rollout resume {new.key}`"
            return "replace", effect, named, f"{because}: {are(len(named), 'worker')} replaced, {how}{also}"
        return "update", "live", (), f"{because}: no worker runs"
    return None if scaled is None else ("update", "live", *scaled)


def _scaled(old: Pool, new: Pool, workers: Sequence[Worker]) -> tuple[tuple[str, ...], str] | None:
    """The workers that another number of replicas starts or stops, and words for it."""
    before, after = old.replicas, new.replicas
    if before == after:
        return None
    said = f"spec.replicas from {before} to {after}"
    if new.spec.slots:
        return (), f"{said}: slots are {'opened' if after > before else 'closed when their task has ended'}"
    if after > before:
        starting = _missing(new, before)
        return starting, f"{said}: {are(len(starting), 'worker')} started"
    leaving = tuple(worker.name for worker in reversed(workers) if worker.spec.ordinal >= after)
    return leaving, f"{said}: {are(len(leaving), 'worker')} stopped"


def _missing(obj: Object, first: int) -> tuple[str, ...]:
    if not isinstance(obj, Pool) or obj.spec.slots:
        return ()
    return tuple(f"{obj.name}-{ordinal}" for ordinal in range(first, obj.replicas))


def _paths(fields: Sequence[Field]) -> str:
    shown = ", ".join(field.path for field in fields[:3])
    return shown + (f" and {len(fields) - 3} more" if len(fields) > 3 else "")


def _overridden(old: Object, new: Object) -> Iterator[str]:
    for path in sorted(old.metadata.overrides.keys() - new.metadata.overrides.keys()):
        yield f"the override of {path} ends"
    yield from override_notes(new.metadata.overrides)


# Fields.


def between_templates(old: Template, new: Template) -> list[Field]:
    """The fields in which two templates of a pool differ."""
    return list(_between(old, new, old.to_json(), new.to_json(), "spec.template", Change.TEMPLATE))


def differences(old: Object, new: Object) -> Iterator[Field]:
    """The fields people write that differ between two objects of one kind."""
    for part, inherited in (("metadata", Change.COSMETIC), ("spec", Change.LIVE)):
        was, now = getattr(old, part), getattr(new, part)
        for field in _between(was, now, was.to_json(), now.to_json(), part, inherited):
            if part == "spec" or field.path.startswith(("metadata.labels.", "metadata.annotations.")):
                yield field


def _between(
    old: Model, new: Model, was: dict[str, Any], now: dict[str, Any], path: str, inherited: Change
) -> Iterator[Field]:
    """As `template_fields` walks: a field without a class of its own has the one around it."""
    if type(old) is not type(new):
        yield Field(path, was, now, inherited)
        return
    for name, field in type(old).model_fields.items():
        alias = field.alias or name
        before, after = was.get(alias), now.get(alias)
        if before == after:
            continue
        extra = field.json_schema_extra
        how = Change(str(extra["x-change"])) if isinstance(extra, dict) and "x-change" in extra else inherited
        yield from _values(getattr(old, name), getattr(new, name), before, after, f"{path}.{alias}", how)


def _values(old: Any, new: Any, was: Any, now: Any, path: str, how: Change) -> Iterator[Field]:
    if isinstance(old, Model) and isinstance(new, Model):
        yield from _between(old, new, was, now, path, how)
    elif isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if was.get(key) != now.get(key):
                yield from _values(old.get(key), new.get(key), was.get(key), now.get(key), f"{path}.{key}", how)
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for index, (a, b, x, y) in enumerate(zip(old, new, was, now, strict=True)):
            if x != y:
                yield from _values(a, b, x, y, f"{path}[{index}]", how)
    else:
        yield Field(path, was, now, how)


# A whole plan.


def preview(
    store: Store, objects: Sequence[Object], source: str, prune: bool, now: datetime, manifests: bool = False
) -> dict[str, Any]:
    """What applying these objects would do, as JSON: {"changes": [...], "refused": why it would not be done}.

    Whoever owns an object now: a checkout elsewhere is planned as if it stood where its source is read.
    """
    decisions = decide(store, objects, source, prune, now, ())
    changes = []
    for decision in decisions:
        owned = store.owned_by(decision.applied.key, Worker)
        change = planned(decision, [worker for worker in owned if worker.metadata.deleted_at is None]).to_json()
        if manifests and change["action"] != "none":
            kept = None if change["action"] == "delete" else decision.object
            change |= {"before": manifest(decision.old), "after": manifest(kept)}
        changes.append(change)
    return {"changes": changes, "refused": refusal(store, decisions, source)}


def manifest(obj: Object | None) -> dict[str, Any] | None:
    """An object as a person would have written it, with its defaults."""
    if obj is None:
        return None
    whole = obj.to_json()
    metadata = {name: value for name, value in whole["metadata"].items() if name in ("name", "labels", "annotations")}
    kept = {name: value for name, value in metadata.items() if value}
    return {"apiVersion": whole["apiVersion"], "kind": whole["kind"], "metadata": kept, "spec": whole["spec"]}
