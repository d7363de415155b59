"""The wire contract: a user's change as both sides know it, and the batch it travels in.

The master's publisher encodes here, a client's poller decodes here; nothing else knows the format.
The committed JSON Schema (``schema/usercast-users.v1.json``) is made from these types by
``python -m usercast.contract``.
"""

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from usercast.errors import ContractError

#: Of what this module can read and write; the major number is that of the events' types.
CONTRACT_VERSION = "1.2"
SOURCE = "/usercast/master"
UPSERTED = "usercast.user.upserted.v1"
DELETED = "usercast.user.deleted.v1"
PROBE = "usercast.probe.v1"
CONTENT_TYPE = "application/cloudevents-batch+json"
SCHEMA_PATH = Path(__file__).parent / "schema" / "usercast-users.v1.json"

#: A decompressed body larger than this is refused: a few kB of gzip can hold gigabytes.
MAX_DECODED_BYTES = 64 * 1024 * 1024

Version = Annotated[int, Meta(ge=1, le=2**63 - 1, description="Grows by one with each change")]
Moment = Annotated[datetime, Meta(tz=True)]
Username = Annotated[str, Meta(min_length=1, max_length=150)]
Name = Annotated[str, Meta(max_length=150)]
Email = Annotated[str, Meta(max_length=254)]


class Lane(StrEnum):
    """Which of a client's two queues a message goes to; live overtakes bulk."""

    LIVE = "live"
    BULK = "bulk"


# Not looked at by the garbage collector: there are many, and none can be part of a cycle.
class UserState(Struct, frozen=True, kw_only=True, gc=False):
    """A user in full, as of one version: everything that is replicated and nothing else."""

    id: UUID
    version: Version
    username: Username
    email: Email
    first_name: Name
    last_name: Name
    is_active: bool
    date_joined: Moment
    groups: tuple[Name, ...]


class UserGone(Struct, frozen=True, kw_only=True, gc=False):
    """What is left of a deleted user: who, and at which version."""

    id: UUID
    version: Version


#: The replicated fields: what the change detection compares and both REST APIs show.
STATE_FIELDS = tuple(f for f in UserState.__struct_fields__ if f not in ("id", "version"))


class UserChange(Struct, frozen=True, kw_only=True, gc=False):
    """One user's change: the state after it, or the deletion.

    ``changed_at`` is the master's clock when the change was captured. A change is newer than
    another of the same user when its version is higher; the order of arrival means nothing.
    """

    changed_at: datetime
    data: UserState | UserGone
    #: The W3C trace context of what made the change (``usercast.tracing``), if that is known.
    traceparent: str | None = None

    @property
    def user_id(self) -> UUID:
        return self.data.id

    @property
    def version(self) -> int:
        return self.data.version

    @property
    def is_deletion(self) -> bool:
        return isinstance(self.data, UserGone)


class _Event(Struct, frozen=True, kw_only=True):
    specversion: Literal["1.0"]
    id: str
    source: str
    subject: str
    time: Moment
    datacontenttype: Literal["application/json"] = "application/json"
    #: CloudEvents' extension for distributed tracing; of no matter for what the event says.
    traceparent: str | UnsetType = UNSET


class UserUpserted(_Event, frozen=True, kw_only=True, tag_field="type", tag=UPSERTED):
    """CloudEvent: the user exists, in this state."""

    data: UserState


class UserDeleted(_Event, frozen=True, kw_only=True, tag_field="type", tag=DELETED):
    """CloudEvent: the user is deleted, or no longer among the replicated ones."""

    data: UserGone


class Probe(_Event, frozen=True, kw_only=True, tag_field="type", tag=PROBE):
    """CloudEvent: nothing has changed; it shows that a lane, its subject, is alive."""

    subject: Lane


Event = UserUpserted | UserDeleted | Probe

_encoder = msgspec.json.Encoder()
_batch_decoder = msgspec.json.Decoder(list[Event])
_raw_batch_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_event_decoder = msgspec.json.Decoder(Event)
_NUL_ESCAPE = b"\\u0000"
#: What the decoder raises: also for nesting without end, and for half a surrogate pair.
_UNREADABLE = (msgspec.DecodeError, RecursionError, UnicodeError)
#: At the edges of the calendar a time zone leads out of it, for Python if not for PostgreSQL.
MIN_YEAR, MAX_YEAR = 2, 9998


class Message(Struct, frozen=True, kw_only=True):
    """A batch as SNS takes it: the body, and its content encoding (``gzip``) if it has one."""

    body: str
    content_encoding: Literal["gzip"] | None = None

    @classmethod
    def received(cls, body: str, content_encoding: str | None) -> "Message":
        """The message of a queue, from its body and its ``content-encoding`` attribute.

        Raises:
            ContractError: the encoding is none of the contract's.
        """
        if content_encoding is None:
            return cls(body=body)
        if content_encoding != "gzip":
            raise ContractError(
                f"content-encoding {content_encoding!r} is not known; gzip or none is"
            )
        return cls(body=body, content_encoding="gzip")

    @property
    def size_bytes(self) -> int:
        return len(self.body.encode())


class Rejected(Struct, frozen=True, kw_only=True):
    """One change of a batch that does not follow the contract, and why."""

    position: int
    reason: str


class Batch(Struct, frozen=True, kw_only=True):
    """What a message held: the good changes in their order, and apart the bad ones and probes."""

    changes: list[UserChange]
    rejected: list[Rejected]
    probes: list[Probe]


def encode_change(change: UserChange) -> bytes:
    """One change as a CloudEvent in JSON."""
    user_id = str(change.user_id)
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "source": SOURCE,
        "id": f"{user_id}:{change.version}",
        "subject": user_id,
        "time": change.changed_at,
        "traceparent": change.traceparent or UNSET,
    }
    match change.data:
        case UserState() as state:
            return _encoder.encode(UserUpserted(**envelope, data=state))
        case UserGone() as gone:
            return _encoder.encode(UserDeleted(**envelope, data=gone))


def encode_probe(lane: Lane, sent_at: datetime) -> bytes:
    """A probe of a lane as a CloudEvent in JSON."""
    return _encoder.encode(
        Probe(
            specversion="1.0",
            source=SOURCE,
            id=f"probe:{lane.value}:{sent_at.isoformat()}",
            subject=lane,
            time=sent_at,
        )
    )


def check_encoded(encoded_change: bytes) -> None:
    """Return if a reader of this contract can read the change: sending it otherwise is in vain.

    Raises:
        ContractError: it cannot; the text says which field is why.
    """
    try:
        event = _event_decoder.decode(encoded_change)
        if isinstance(event, Probe):
            raise ContractError("a probe is no change")
        if _NUL_ESCAPE in encoded_change:
            _without_nul(event)
        _change(event)
    except _UNREADABLE as error:
        raise ContractError(str(error)) from error


def encode_batch(encoded_changes: Sequence[bytes], *, compress: bool) -> Message:
    """Join changes already encoded into one message; compressed ones as base64url of gzip.

    The alphabet is the URL's and without padding (RFC 4648, 5): a call to SNS is a form, in which
    other characters would have to be escaped one by one.

    SNS bodies are text, so gzip costs a third more in base64; it still makes a batch of a hundred
    changes about five times smaller.
    """
    body = b"[" + b",".join(encoded_changes) + b"]"
    if not compress:
        return Message(body=body.decode())
    packed = gzip.compress(body, compresslevel=1, mtime=0)
    text = base64.urlsafe_b64encode(packed).rstrip(b"=").decode()
    return Message(body=text, content_encoding="gzip")


def decode_batch(message: Message) -> Batch:
    """Read a message, keeping its good changes apart from its bad ones.

    Raises:
        ContractError: the message as a whole cannot be read, so none of its changes can.
    """
    body = _unpacked(message)
    if _NUL_ESCAPE not in body:
        try:
            return _batch(_batch_decoder.decode(body), [])
        except (*_UNREADABLE, ContractError):
            pass  # Which change it is, one by one will tell.
    return _decode_one_by_one(body)


def split_batch(message: Message) -> list[bytes]:
    """The JSON of each change in a message, good or bad.

    Raises:
        ContractError: the message as a whole cannot be read.
    """
    return [bytes(raw) for raw in _split(_unpacked(message))]


def _split(body: bytes) -> list[msgspec.Raw]:
    try:
        return _raw_batch_decoder.decode(body)
    except _UNREADABLE as error:
        raise ContractError(f"the body is no JSON array of events: {error}") from error


def _decode_one_by_one(body: bytes) -> Batch:
    events: list[Event] = []
    rejected: list[Rejected] = []
    for position, raw in enumerate(_split(body)):
        try:
            event = _without_nul(_event_decoder.decode(raw))
            _check_event(event)
            events.append(event)
        except (*_UNREADABLE, ContractError) as error:
            rejected.append(Rejected(position=position, reason=str(error)))
    return _batch(events, rejected)


def _check_event(event: Event) -> None:
    if isinstance(event, Probe):
        _check_years(event.time)
    else:
        _change(event)


def _batch(events: Sequence[Event], rejected: list[Rejected]) -> Batch:
    for event in events:
        if isinstance(event, Probe):
            _check_years(event.time)
    return Batch(
        changes=[_change(event) for event in events if not isinstance(event, Probe)],
        rejected=rejected,
        probes=[event for event in events if isinstance(event, Probe)],
    )


def _unpacked(message: Message) -> bytes:
    if message.content_encoding is None:
        return message.body.encode(errors="surrogatepass")
    try:
        padding = "=" * (-len(message.body) % 4)
        packed = base64.b64decode(message.body + padding, altchars=b"-_", validate=True)
        unzip = zlib.decompressobj(wbits=31)
        body = unzip.decompress(packed, MAX_DECODED_BYTES)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ContractError(f"the body is no base64url of gzip: {error}") from error
    if not unzip.eof:
        raise ContractError(f"the body is cut off, or unpacks to over {MAX_DECODED_BYTES} bytes")
    return body


def checked(change: UserChange, encoded: bytes) -> UserChange:
    """The change, decoded from these bytes by its types, if PostgreSQL can store it too.

    Raises:
        ContractError: it cannot.
    """
    data = change.data
    _check_years(change.changed_at)
    if isinstance(data, UserState):
        _check_years(data.date_joined)
    if _NUL_ESCAPE in encoded:
        _refuse_nul(data)
    return change


def _check_years(moment: datetime) -> None:
    if not MIN_YEAR <= moment.year <= MAX_YEAR:
        raise ContractError(f"a time lies outside the years {MIN_YEAR} to {MAX_YEAR}")


def _change(event: UserUpserted | UserDeleted) -> UserChange:
    traceparent = event.traceparent or None
    return checked(UserChange(changed_at=event.time, data=event.data, traceparent=traceparent), b"")


def _without_nul(event: Event) -> Event:
    if not isinstance(event, Probe):
        _refuse_nul(event.data)
    return event


def _refuse_nul(data: UserState | UserGone) -> None:
    """PostgreSQL's text has no NUL: one such change would fail its whole batch."""
    values: Iterable[object] = msgspec.structs.astuple(data)
    flat = [part for value in values for part in (value if isinstance(value, tuple) else (value,))]
    if any(isinstance(part, str) and "\0" in part for part in flat):
        raise ContractError("a text holds a NUL character, which PostgreSQL cannot store")


def json_schema() -> str:
    """The JSON Schema (2020-12) of a batch, as committed for readers in other languages."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Usercast: changes of users, a CloudEvents 1.0 JSON batch",
        **msgspec.json.schema(list[Event]),
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA_PATH.write_text(json_schema())
    print(f"wrote {SCHEMA_PATH.name}")
