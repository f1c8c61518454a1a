"""A Revision: one template a pool has had, so that a worker that crashes in mid-rollout comes back as it was."""

from __future__ import annotations

from typing import ClassVar, Literal
from zlib import crc32

from pydantic import Field

from reconciler.resources.event import Cause
from reconciler.resources.meta import Metadata, Model, Object
from reconciler.resources.pool import Template
from reconciler.resources.units import Moment


class RevisionSpec(Model):
    """A pool's template under its hash. The highest number is that of today: one that comes back gets a new number."""

    pool: str
    number: int
    template_hash: str
    template: Template
    cause: Cause = Field(default=Cause(actor=""), description="Who declared it, and where.")
    since: Moment | None = Field(default=None, description="When it became the pool's, the last time.")


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
