"""A snapshot: every user and tombstone of the master, as lines of JSON, for a client's first load.

The first line says how many are to come, then come users and tombstones in the order of their ids,
and the last line how many they were: a snapshot without it was cut off. The master writes the lines
in SQL (``api.snapshot``); a client reads them here.
"""

from uuid import UUID

import msgspec
from msgspec import Struct

from usercast.contract import Moment, UserChange, UserGone, UserState, checked
from usercast.errors import ContractError

#: Lines of JSON, each ended by a line feed.
CONTENT_TYPE = "application/x-ndjson"


class Begin(Struct, frozen=True, tag_field="type", tag="begin"):
    """How many users and tombstones are to come, about: changes go on meanwhile."""

    total: int


class Living(Struct, frozen=True, gc=False, tag_field="type", tag="user"):
    """A user as they are at their version."""

    changed_at: Moment
    data: UserState


class Gone(Struct, frozen=True, gc=False, tag_field="type", tag="deleted"):
    """A user who was deleted, or is no longer among the replicated ones."""

    changed_at: Moment
    data: UserGone


class End(Struct, frozen=True, tag_field="type", tag="end"):
    """That it is complete, and how many users and tombstones there were."""

    count: int


Line = Begin | Living | Gone | End

_decoder = msgspec.json.Decoder(Line)


class _Named(Struct):
    data: UserGone


_id_decoder = msgspec.json.Decoder(_Named)


def read(line: bytes) -> Begin | UserChange | End:
    """One line, without its line feed.

    Raises:
        ContractError: it does not follow the contract; the text says why.
    """
    try:
        found = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise ContractError(str(error)) from error
    if isinstance(found, Begin | End):
        return found
    return checked(UserChange(changed_at=found.changed_at, data=found.data), line)


def id_of(line: bytes) -> UUID | None:
    """Whom a line that cannot be read is about; None if it does not even say that."""
    try:
        return _id_decoder.decode(line).data.id
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
