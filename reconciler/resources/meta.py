"""What every object has: kind, name, identity, generation, origin.

Key("Pool", "web")   written pool/web   is who an object is; the file it came from never is
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field

from reconciler.resources.units import Moment

API_VERSION = "reconciler/v1"

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
"""A DNS label."""


def _camel(name: str) -> str:
    """`grace_period_s` is gracePeriod outside: the unit is in the value there."""
    for unit in ("_s", "_bytes", "_milli"):
        name = name.removesuffix(unit)
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)


class Change(StrEnum):
    """What happens when a field changes. It stands on the field, so that plan, diff and equality cannot drift apart."""

    TEMPLATE = "template"
    """The workers are replaced, one after another."""
    LIVE = "live"
    """Applied in place."""
    COSMETIC = "cosmetic"
    """Nothing happens."""


def changes(how: Change) -> dict[str, Any]:
    """The mark for `Field(json_schema_extra=...)`."""
    return {"x-change": how.value}


class Model(BaseModel):
    """Frozen, strict, closed: an unknown field is an error and nothing is coerced."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=_camel,
        populate_by_name=True,
        allow_inf_nan=False,
        use_enum_values=False,
        defer_build=True,  # who reads one pool need not pay for all kinds; see `kinds.build`
    )

    sparse: ClassVar[bool] = False
    """True: what has its default counts as not written, so that the model could be added to a template without a change."""

    def to_json(self) -> dict[str, Any]:
        """As it is shown outside: camelCase, units written out, what is unset left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """Itself: what is frozen can be shared. Pydantic copies defaults, which costs more than all the rest."""
        return self

    def changed(self, **fields: Any) -> Self:
        """A copy with these fields replaced; the values are trusted.

        As `model_copy`, at a third of its cost, for this is what every change of every object goes through; what is
        frozen can be shared, the set of field names too.
        """
        new = object.__new__(type(self))
        names = self.__pydantic_fields_set__
        object.__setattr__(new, "__dict__", {**self.__dict__, **fields})
        object.__setattr__(new, "__pydantic_fields_set__", names if fields.keys() <= names else names | fields.keys())
        object.__setattr__(new, "__pydantic_extra__", None)
        object.__setattr__(new, "__pydantic_private__", None)
        return new


class Key(NamedTuple):
    """Who an object is."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind.lower()}/{self.name}"


class Origin(Model):
    """Where an object was written down."""

    path: str = Field(description="The file, relative to its source.")
    line: int = Field(description="The line of the document's first key, from 1.")
    revision: str = Field(default="", description="The commit, or the digest of the source's content.")
    source: str = Field(default="", description="The directory or repository that owns the object.")


class Wish(StrEnum):
    """What an operator wants of an object, whatever its manifest says."""

    STOPPED = "Stopped"
    """Nothing of it runs."""
    PAUSED = "Paused"
    """No task of it is started; what runs goes on."""
    DRAINING = "Draining"
    """It takes no new tasks; what waits and runs goes on to its end."""
    STARTED = "Started"
    """It runs as declared; what had failed before that moment is tried again."""


class Intent(Model):
    """An operator's word: who, when, why, and for how long."""

    wish: Wish = Field(strict=False)
    actor: str
    reason: str = ""
    at: Moment
    until: Moment | None = Field(default=None, description="When it ends by itself; absent: it stands.")


class Metadata(Model):
    """Name, identity and bookkeeping of one object."""

    name: Name = Field(description="A DNS label, unique within its kind.")
    labels: dict[str, str] = Field(
        default={}, description="Words to select by.", json_schema_extra=changes(Change.COSMETIC)
    )
    annotations: dict[str, str] = Field(
        default={}, description="Notes for people and tools.", json_schema_extra=changes(Change.COSMETIC)
    )
    uid: str = Field(default="", description="Given at creation; another object of the same name has another.")
    generation: int = Field(default=0, description="+1 whenever spec changes.")
    resource_version: int = Field(default=0, description="The revision of the store at the last change of this object.")
    created_at: Moment | None = None
    deleted_at: Moment | None = Field(
        default=None, description="Since when it is wanted gone; it goes when nothing of it runs."
    )
    owner: str | None = Field(default=None, description="The object it goes with, as kind/name.")
    source: Origin | None = None
    overrides: dict[str, str] = Field(
        default={},
        description="Fields an operator has overridden: until when (RFC 3339); always until the source declares another.",
    )
    declared: dict[str, Any] = Field(default={}, description="What the source declared for the overridden fields.")
    intent: Intent | None = Field(default=None, description="What an operator has asked for by `stop` or `start`.")

    rollout: Intent | None = Field(
        default=None, description="What an operator has asked for by `rollout pause` or `rollout resume`."
    )
    changed_by: str = Field(default="", description="Who wrote the spec last.")

    @property
    def held(self) -> Intent | None:
        """The pause of its rollout that an operator has asked for, while it stands."""
        return self.rollout if self.rollout is not None and self.rollout.wish is Wish.PAUSED else None

    def stopped(self, now: datetime) -> Intent | None:
        """The stop that an operator has asked for, while it stands."""
        found = self.standing(now)
        return found if found is not None and found.wish is Wish.STOPPED else None

    def standing(self, now: datetime) -> Intent | None:
        """What an operator has asked for, while it stands."""
        found = self.intent
        return None if found is None or (found.until is not None and found.until <= now) else found


class Status(StrEnum):
    """Of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One thing that is so, is not, or is not known; the time is that of the last flip."""

    type: str
    status: Status
    reason: str
    message: str = ""
    last_transition_time: Moment


def set_condition(
    conditions: tuple[Condition, ...], type_: str, status: Status, reason: str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """The conditions with this one replaced or added; the transition time moves only when the status flips."""
    old = next((c for c in conditions if c.type == type_), None)
    since = old.last_transition_time if old is not None and old.status is status else now
    new = Condition(type=type_, status=status, reason=reason, message=message, last_transition_time=since)
    if old is None:
        return (*conditions, new)
    return tuple(new if c.type == type_ else c for c in conditions)


class Object(Model):
    """Base of every kind: subclasses narrow `kind`, `spec` and `status`."""

    api_version: Literal["reconciler/v1"] = "reconciler/v1"
    kind: str
    metadata: Metadata
    spec: Any = None
    status: Any = None

    plural: ClassVar[str] = ""
    """The word in paths and on the command line."""
    writable: ClassVar[bool] = False
    """Whether people write it in manifests."""

    @property
    def key(self) -> Key:
        """Who it is."""
        return Key(self.kind, self.metadata.name)

    @property
    def name(self) -> str:
        """Its name."""
        return self.metadata.name
