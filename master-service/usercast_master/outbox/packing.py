"""Packing: takes readings from ``outbox.publisher``, puts them into as few messages as fit."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from usercast.contract import Lane, Message, UserChange, check_encoded, encode_batch, encode_change
from usercast.errors import ContractError
from usercast_master.outbox import topic
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.lease import Claim

#: AWS bills by 64 KiB begun, so changes share a message up to that.
PACKED_BYTES = 64 * 1024
MAX_CHANGES_PER_MESSAGE = 200


class Reading(NamedTuple):
    """A claim and the user's state, as it is to be sent; the hash is None of a deletion."""

    claim: Claim
    change: UserChange
    content_hash: str | None


class Parcel(NamedTuple):
    """One message ready to send, and the readings it settles."""

    lane: Lane
    message: Message
    readings: Sequence[Reading]


class Refused(NamedTuple):
    """A reading that did not go out, and why.

    ``blamed``: the reason may lie in it. ``for_good``: it never will go out as it is.
    """

    reading: Reading
    reason: str
    blamed: bool
    for_good: bool


def pack(readings: Iterable[Reading], *, backlog: bool, refused: list[Refused]) -> Iterator[Parcel]:
    """Put changes of a lane together into messages of at most 64 KiB as sent, live lane first.

    A change alone goes as plain JSON; several share a message, compressed. With a ``backlog``,
    single saves take the bulk lane too, so that the live lane stays free for what is urgent. What
    SNS blamed before goes alone, so that it holds up no other and its own fault shows.

    Args:
        refused: takes what no client could read, and what is too large for any message.
    """
    together: dict[Lane, list[tuple[Reading, bytes]]] = {Lane.LIVE: [], Lane.BULK: []}
    alone: list[tuple[Lane, Reading, bytes]] = []
    for reading in readings:
        body = encode_change(reading.change)
        try:
            check_encoded(body)
        except ContractError as error:
            refused.append(Refused(reading, str(error), blamed=True, for_good=True))
            continue
        lane = _lane(reading.claim.priority, backlog=backlog)
        if reading.claim.refusals:
            alone.append((lane, reading, body))
        else:
            together[lane].append((reading, body))
    for lane, encoded in together.items():
        for start in range(0, len(encoded), MAX_CHANGES_PER_MESSAGE):
            yield from _fitting(lane, encoded[start : start + MAX_CHANGES_PER_MESSAGE], refused)
    for lane, reading, body in alone:
        yield from _fitting(lane, [(reading, body)], refused)


def _lane(priority: int, *, backlog: bool) -> Lane:
    if priority == Priority.BULK or (priority == Priority.SINGLE and backlog):
        return Lane.BULK
    return Lane.LIVE


def _fitting(
    lane: Lane, encoded: Sequence[tuple[Reading, bytes]], refused: list[Refused]
) -> Iterator[Parcel]:
    bodies = [body for _, body in encoded]
    message = encode_batch(bodies, compress=len(bodies) > 1)
    if message.size_bytes > PACKED_BYTES:
        if len(encoded) > 1:
            middle = len(encoded) // 2
            yield from _fitting(lane, encoded[:middle], refused)
            yield from _fitting(lane, encoded[middle:], refused)
            return
        message = encode_batch(bodies, compress=True)
    if message.size_bytes > topic.MAX_MESSAGE_BYTES:
        reason = f"{message.size_bytes} bytes as sent; SNS takes {topic.MAX_MESSAGE_BYTES}"
        refused.append(Refused(encoded[0][0], reason, blamed=True, for_good=True))
        return
    yield Parcel(lane, message, [reading for reading, _ in encoded])
