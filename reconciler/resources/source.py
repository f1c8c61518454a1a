"""A Source: a directory of manifests that is kept applied. Made by the daemon, one for each path of `up`.

Its spec is what people ask of it (`source suspend`), its status how far it is; both outlive the controller.
"""

from __future__ import annotations

import re
from typing import ClassVar, Literal
from zlib import crc32

from pydantic import Field

from reconciler.resources.meta import Metadata, Model, Object
from reconciler.resources.units import Moment


class SourceSpec(Model):
    """What is wanted of it."""

    path: str = Field(description="The directory or the one file, absolute.")
    prune: bool = Field(default=False, description="Whether what it no longer declares is deleted.")
    suspended: bool = Field(default=False, description="Nothing is applied or pruned; what runs is kept running.")
    suspended_by: str = ""
    suspend_reason: str = ""


class SourceStatus(Model):
    """How far it is. A digest is forty hexadecimal digits of all paths and contents."""

    last_attempted: str = Field(default="", description="The digest that was looked at last.")
    last_attempted_at: Moment | None = None
    last_applied: str = Field(default="", description="The digest of what is in force: the last good set.")
    last_applied_at: Moment | None = None
    error: str = Field(default="", description="Why the last attempt was not applied; empty when it was.")
    refused: bool = Field(default=False, description="Whether `source sync --confirm` would apply it.")
    identity: str = Field(
        default="", description="Device and inode of the directory whose content is in force; `gone`: it went since."
    )


class Source(Object):
    """A directory of manifests that is kept applied."""

    plural: ClassVar[str] = "sources"

    kind: Literal["Source"] = "Source"
    metadata: Metadata
    spec: SourceSpec
    status: SourceStatus = SourceStatus.model_construct()


def source_name(path: str) -> str:
    """A name that is the same for the same path: its last part, told apart by a checksum."""
    last = re.sub(r"[^a-z0-9]+", "-", path.rstrip("/").rpartition("/")[2].lower()).strip("-")[:40].strip("-")
    return f"{last or 'root'}-{crc32(path.encode(errors='surrogateescape')):08x}"
