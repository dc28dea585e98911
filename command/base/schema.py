"""Words with limits: the value types that requests, rows and wire messages share.

Pure. Invariant: what these types let through can be stored, sent and shown everywhere (bounded, finite, named codes).
"""

from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from command.base.errors import Conflict, Missing
from command.base.projection import R, Row, Rows, Table

# Python's $ also matches before a last line feed; ECMAScript's, which OpenAPI means, doesn't: (?!\n) makes them agree.
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)$")]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
ShortText = Annotated[str, Meta(max_length=200)]
Text = Annotated[str, Meta(max_length=4000)]
SomeText = Annotated[str, Meta(min_length=1, max_length=4000)]
Count = Annotated[int, Meta(ge=0, le=10_000_000)]
Seconds = Annotated[int, Meta(ge=0, le=30 * 24 * 3600)]
Instant = Annotated[int, Meta(ge=0, le=4_102_444_800_000_000, description="microseconds since 1970-01-01T00:00Z")]
Longitude = Annotated[float, Meta(ge=-180, le=180)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Version = Annotated[int, Meta(ge=1, le=2**53)]
Phone = Annotated[str, Meta(min_length=3, max_length=24, pattern=r"^\+?[0-9 ()-]+(?!\n)$")]
Geometry = dict[str, Any]


class Category(StrEnum):
    """The four categories of the national law on emergency response."""

    NATURAL_DISASTER = "natural_disaster"
    ACCIDENT = "accident"
    PUBLIC_HEALTH = "public_health"
    SOCIAL_SECURITY = "social_security"


class Level(StrEnum):
    """I (red, particularly serious) to IV (blue, ordinary)."""

    I = "I"  # noqa: E741 - the field's own name
    II = "II"
    III = "III"
    IV = "IV"


class Urgency(StrEnum):
    """What a message is for: an unknown outcome of an emergency message is sent again once, marked; a normal one waits."""

    NORMAL = "normal"
    EMERGENCY = "emergency"


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of requests: unknown fields are refused, so that a misspelt one is not silently lost."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """Base of values inside rows and entries."""


class Place(Value, frozen=True, kw_only=True):
    """A point in WGS-84 degrees and how people call it."""

    lon: Longitude
    lat: Latitude
    address: ShortText = ""


class Casualties(Value, frozen=True, kw_only=True):
    dead: Count = 0
    missing: Count = 0
    injured: Count = 0
    trapped: Count = 0
    evacuated: Count = 0
    affected: Count = 0


class Party(Value, frozen=True, kw_only=True):
    """Somebody who can be given a task or a message."""

    kind: "PartyKind"
    id: Id


class PartyKind(StrEnum):
    UNIT = "unit"
    PERSON = "person"
    ORGANISATION = "organisation"


def need(rows: Rows, table: Table[R], key: str) -> R:
    """The row, or `Missing` naming table and key."""
    row = rows.get(table, key)
    if row is None:
        raise Missing(f"{table.name}.missing", f"There is no {table.name} '{key}'.")
    return row


def fresh(row: Row, version: int, yours: object) -> None:
    """Refuse an edit of another version than the stored one (rule 8), handing back both."""
    if row.version != version:
        raise Conflict(
            "version.stale",
            "Somebody changed this since you read it; compare both versions and send again.",
            current=msgspec.to_builtins(row),
            yours=msgspec.to_builtins(yours),
        )
