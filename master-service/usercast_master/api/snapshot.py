"""Snapshot: every replicated user and tombstone as compressed lines of JSON, for a first load.

PostgreSQL writes the lines, in the format that ``usercast.snapshot`` reads on the client.
"""

from collections.abc import Generator, Sequence
from uuid import UUID

import msgspec
from django.db import connection, transaction
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.viewsets import ViewSet

from usercast.contract import STATE_FIELDS
from usercast.snapshot import Begin, End
from usercast_master.api.lines import LinesRenderer, answer
from usercast_master.api.models import Scope
from usercast_master.api.permissions import MayCall, MayTakeSnapshot
from usercast_master.api.query import SnapshotQuery, asked
from usercast_master.api.views import Throttled
from usercast_master.outbox.content import content_sql

#: Lines fetched, compressed and sent at a time; more are never held.
CHUNK_LINES = 2_000

_READ_ONLY = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
# Of the entries alone: the first line must not wait for a join of all users.
_TOTAL = "SELECT count(*) FROM outbox_entry WHERE {wanted}"
# Who has an entry and is neither there nor deleted, left by raw SQL: the audit will see to it.
_LINES = """
SELECT (
    SELECT row_to_json(line)::text FROM (
        SELECT CASE WHEN entry.deleted_at IS NULL THEN 'user' ELSE 'deleted' END AS type,
               entry.changed_at,
               CASE WHEN entry.deleted_at IS NULL
                   THEN (SELECT row_to_json(state) FROM (SELECT {state}) AS state)
                   ELSE (SELECT row_to_json(gone) FROM (SELECT {gone}) AS gone)
               END AS data
    ) AS line
)
FROM (SELECT * FROM outbox_entry WHERE {entries}) AS entry
LEFT JOIN (SELECT * FROM ({content}) AS users WHERE {users}) AS content
       ON content.id = entry.user_id
WHERE content.id IS NOT NULL OR entry.deleted_at IS NOT NULL
ORDER BY entry.user_id
"""
_GONE = "entry.user_id AS id, entry.version"
_STATE = ", ".join([_GONE, *(f"content.{field}" for field in STATE_FIELDS)])
_WANTED = """(%(after)s::uuid IS NULL OR {id} > %(after)s::uuid)
    AND (%(ids)s::uuid[] IS NULL OR {id} = ANY(%(ids)s::uuid[]))"""


def lines(
    after: UUID | None = None, ids: Sequence[UUID] | None = None
) -> Generator[bytes, None, None]:
    """The snapshot in pieces, each of whole lines; all of it is as of one moment.

    Closing it ends the transaction that it reads in.

    Args:
        after: users and tombstones whose id is greater.
        ids: only these.

    Raises:
        OperationalError: the database is away. What was sent until then has no end line.
    """
    parameters = {
        "after": None if after is None else str(after),
        "ids": None if ids is None else [str(one) for one in ids],
    }
    count = 0
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_READ_ONLY)
            cursor.execute(_TOTAL.format(wanted=_WANTED.format(id="user_id")), parameters)
            (total,) = cursor.fetchone()
        yield _line(Begin(total))
        with connection.chunked_cursor() as cursor:
            cursor.execute(_lines_sql(), parameters)
            while rows := cursor.fetchmany(CHUNK_LINES):
                count += len(rows)
                yield "".join([f"{line}\n" for (line,) in rows]).encode()
    yield _line(End(count))


class SnapshotViewSet(Throttled, ViewSet):
    """Everything at once, for a client's first load."""

    permission_classes = (MayCall, MayTakeSnapshot)
    required_scope = Scope.SNAPSHOT
    renderer_classes = (LinesRenderer,)
    serializer_class = OpenApiTypes.BINARY
    tag = "snapshot"
    http_method_names = ["get"]

    @extend_schema(parameters=[SnapshotQuery])
    def list(self, request: Request) -> StreamingHttpResponse:
        """Every user and tombstone, as of one moment.

        Lines of JSON, always as gzip. The first, `{"type": "begin", "total": …}`, says about how
        many are to come. Then come, in the order of their ids, users (`{"type": "user",
        "changed_at": …, "data": {…}}`) and deleted ones (`"type": "deleted"`, `data` being `id`
        and `version`). The last, `{"type": "end", "count": …}`, says how many they were; without
        it the snapshot was cut off: ask for the rest with `after`.
        With `ids`, these alone; of one that the master does not know there is no line.
        """
        wanted = asked(request.query_params.dict(), SnapshotQuery)
        return answer(lines(wanted.get("after"), wanted.get("ids")))


def _lines_sql() -> str:
    return _LINES.format(
        state=_STATE,
        gone=_GONE,
        content=content_sql(),
        entries=_WANTED.format(id="user_id"),
        users=_WANTED.format(id="id"),
    )


def _line(edge: Begin | End) -> bytes:
    return msgspec.json.encode(edge) + b"\n"
