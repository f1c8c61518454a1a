"""The templates a pool has had, each a Revision: the highest number is that of today, and the oldest that nobody uses go.

template changes     ->  a new Revision with the next number
an earlier one again ->  its Revision gets the next number
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from reconciler.controllers.base import Action, Create, Remove, SetSpec, World
from reconciler.controllers.tally import Tally
from reconciler.resources.event import Cause
from reconciler.resources.meta import Key, Metadata, Origin
from reconciler.resources.pool import Pool
from reconciler.resources.revision import Revision, RevisionSpec, revision_name

REVISIONS_KEPT = 10
"""Revisions that no worker uses."""


def revisions(pool: Pool, tally: Tally, target: str, world: World, now: datetime) -> list[Action]:
    """A Revision for the template of today, with the highest number; the oldest of those that nobody uses go."""
    known = sorted(world.owned_by(pool.key, Revision), key=lambda revision: revision.spec.number)
    actions: list[Action] = [Remove(key) for key in _forgotten(pool, tally, target, known)]
    today = next((revision for revision in known if revision.spec.template_hash == target), None)
    number = known[-1].spec.number + 1 if known else 1
    if today is None:
        metadata = Metadata(name=revision_name(pool.name, target), owner=str(pool.key))
        spec = RevisionSpec(
            pool=pool.name,
            number=number,
            template_hash=target,
            template=pool.spec.template,
            cause=_cause(pool),
            since=now,
        )
        actions.insert(0, Create(Revision(metadata=metadata, spec=spec)))
    elif today is not known[-1]:
        spec = today.spec.changed(number=number, template=pool.spec.template, cause=_cause(pool), since=now)
        actions.insert(0, SetSpec(today.key, spec, f"it is the template of {pool.key} again, as revision {number}"))
    elif today.spec.template != pool.spec.template:  # in fields that replace nobody: an undo brings them back too
        actions.insert(0, SetSpec(today.key, today.spec.changed(template=pool.spec.template), "changed in place"))
    return actions


def _cause(pool: Pool) -> Cause:
    origin = pool.metadata.source or Origin(path="", line=0)
    return Cause(actor=pool.metadata.changed_by, revision=origin.revision, path=origin.path, line=origin.line)


def _forgotten(pool: Pool, tally: Tally, target: str, known: Sequence[Revision]) -> list[Key]:
    if len(known) <= REVISIONS_KEPT:
        return []
    used = {target, pool.status.template_hash} | tally.hashes
    unused = [revision.key for revision in known if revision.spec.template_hash not in used]
    return unused[: max(0, len(unused) - REVISIONS_KEPT)]
