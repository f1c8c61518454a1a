"""A Revision: one template a pool has had, so that a worker that crashes in mid-rollout comes back as it was."""

from __future__ import annotations

from typing import ClassVar, Literal
from zlib import crc32

from reconciler.resources.meta import Metadata, Model, Object
from reconciler.resources.pool import Template


class RevisionSpec(Model):
    """A pool's template under its hash; never changed."""

    pool: str
    number: int
    template_hash: str
    template: Template


class Revision(Object):
    """One template a pool has had."""

    plural: ClassVar[str] = "revisions"

    kind: Literal["Revision"] = "Revision"
    metadata: Metadata
    spec: RevisionSpec


def revision_name(pool: str, template_hash: str) -> str:
    """The name of a pool's revision, within 63 letters; a long name is cut, and told apart by its checksum."""
    if len(pool) > 52:
        pool = f"{pool[:43]}-{crc32(pool.encode()):08x}"
    return f"{pool}-{template_hash}"
