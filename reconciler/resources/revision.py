"""A Revision: one template a pool has had, so that a worker that crashes in mid-rollout comes back as it was."""

from __future__ import annotations

from typing import ClassVar, Literal

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
    """The name of a pool's revision, within 63 letters."""
    return f"{pool[:52]}-{template_hash}"
