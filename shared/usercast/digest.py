"""Digests: whether two copies of the users are equal, told without moving them.

The master's audit compares users with what was last published of them by their content hashes. A
client compares its users with what the master has published by the digests of ``BUCKETS`` buckets,
and looks closer only where two differ. Both sides compute them by the SQL that stands here.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

#: SQL, of type uuid, over columns named as the contract's fields, ``groups`` being a text array in
#: the order of code points. Nothing in it depends on a session's settings (the date's zone or
#: style) nor, since PostgreSQL 14, on the server's version. ``md5`` detects accidents, not attacks.
CONTENT_HASH = """md5(ROW(
    username, email, first_name, last_name, is_active, extract(epoch FROM date_joined), groups
)::text)::uuid"""

BUCKETS = 4096
#: What changed before this is applied by now on a client whose poller keeps up.
SETTLED_AFTER = timedelta(seconds=5)
#: What a client lacks after this is lost; SQS keeps a killed poller's messages for 20 s.
LATE_AFTER = timedelta(seconds=30)
#: SQL, of type integer, over ``user_id``: which bucket a user is in.
BUCKET = "('x' || left(md5(user_id::text), 3))::bit(12)::integer"
#: SQL, of type bigint, over ``user_id``, ``version`` and ``content_hash``, which is NULL of a
#: deleted user.
DIGEST = """('x' || left(md5(
    user_id::text || version || coalesce(content_hash::text, '-')
), 16))::bit(64)::bigint"""

#: Left out are those who have just changed: one side may know it yet and the other not. A clock
#: that somebody set by hand must not hide a user for ever.
_SETTLED = """(changed_at > %(watermark)s AND changed_at <= %(at)s + interval '1 minute')
    IS NOT TRUE"""
_DIGITS = 16


def digests_sql(copy: str) -> str:
    """SQL for the digests of a copy: bucket, users in it, deleted ones, and digest.

    A bucket without users is missing. The parameters are ``watermark`` and ``at``, the master's
    clock: who has changed between them is left out.

    Args:
        copy: a SELECT of ``user_id``, ``version``, ``content_hash`` and ``changed_at``.
    """
    # Users come in any order, so their digests are joined by exclusive or.
    return f"""
SELECT bucket, count(content_hash), count(*) - count(content_hash), bit_xor(digest)
FROM (SELECT {BUCKET} AS bucket, content_hash, {DIGEST} AS digest
      FROM ({copy}) AS copy WHERE {_SETTLED}) AS digested
GROUP BY bucket"""


class Digests(Struct, kw_only=True, frozen=True):
    """One side's digests: of how many users and deleted ones, and each bucket's, in hexadecimal."""

    users: int
    deleted: int
    buckets: str

    def differing(self, other: "Digests") -> list[int]:
        """The buckets in which the two are not the same."""
        if self.buckets == other.buckets:
            return []
        return [bucket for bucket in range(BUCKETS) if self._of(bucket) != other._of(bucket)]

    def _of(self, bucket: int) -> str:
        return self.buckets[_DIGITS * bucket : _DIGITS * (bucket + 1)]


class MasterDigests(Digests, kw_only=True, frozen=True):
    """What the master has published, and how to compare with it.

    Changes after ``watermark`` are left out. What a client lacks was lost, rather than being on its
    way, if it was published before ``late``. ``owed`` changes are older than the watermark and not
    published yet.
    """

    at: datetime
    watermark: datetime
    late: datetime
    owed: int


class Published(Struct, frozen=True, gc=False):
    """A user as the master has published them: what a client should have.

    ``content_hash`` is None of a deleted one, ``published_at`` of one who never was published or
    was so long ago. ``owed``: a newer state waits to be published.
    """

    user_id: str
    version: int
    content_hash: str | None
    published_at: datetime | None
    owed: bool


def from_rows(rows: Iterable[tuple[int, int, int, int]]) -> Digests:
    """The digests that ``digests_sql`` finds."""
    found = {bucket: (users, deleted, digest) for bucket, users, deleted, digest in rows}
    return Digests(
        users=sum(users for users, _, _ in found.values()),
        deleted=sum(deleted for _, deleted, _ in found.values()),
        buckets="".join(
            f"{found[bucket][2] % 2**64:016x}" if bucket in found else "0" * _DIGITS
            for bucket in range(BUCKETS)
        ),
    )
