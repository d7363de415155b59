"""Digests: of what has been published, the same whoever computes them, for whom may have them."""

import gzip
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from usercast.digest import BUCKET, BUCKETS, DIGEST, LATE_AFTER, SETTLED_AFTER, Published
from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope
from usercast_master.outbox import digests
from usercast_master.outbox.content import content_sql
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timezone.now() - timedelta(days=1)
_AS_PUBLISHED = """
UPDATE outbox_entry SET published_version = entry.version, published_hash = content.content_hash,
    changed_at = %s
FROM outbox_entry AS entry LEFT JOIN ({content}) AS content ON content.id = entry.user_id
WHERE outbox_entry.user_id = entry.user_id
"""


def publish(at: datetime = LONG_AGO) -> None:
    """As if all had been taken by SNS, and had changed then."""
    with connection.cursor() as cursor:
        cursor.execute(_AS_PUBLISHED.format(content=content_sql()), [at])


def bucket_of(user_id: UUID) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {BUCKET} FROM (SELECT %s::uuid AS user_id) AS one", [str(user_id)])
        return int(cursor.fetchone()[0])


@pytest.fixture
def api() -> APIClient:
    user = User.objects.create_user("client.billing", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_user"))
    return caller(user, Scope.SNAPSHOT)


def caller(user: User, *scopes: Scope) -> APIClient:
    _, token = ApiToken.objects.create(user, name="t", scopes=list(scopes))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return client


def lines(answer: Any) -> Iterator[dict[str, Any]]:
    body = gzip.decompress(b"".join(answer.streaming_content))
    return (json.loads(line) for line in body.splitlines())


def test_users_and_deleted_ones_are_counted_and_digested() -> None:
    users = [User.objects.create_user(f"u{number}") for number in range(5)]
    users[4].delete()
    User.objects.create_superuser("root")
    assert (digests.look(None).users, digests.look(None).deleted) == (0, 0), "nothing is published"
    publish()
    found = digests.look(None)
    assert (found.users, found.deleted, found.owed) == (4, 1, 0)
    entries = OutboxEntry.objects.values_list("user_id", flat=True)
    filled = {n for n in range(BUCKETS) if found.buckets[16 * n : 16 * n + 16] != "0" * 16}
    assert filled == {bucket_of(user_id) for user_id in entries}
    assert digests.look(None).buckets == found.buckets


def test_a_digest_is_of_id_version_and_content_and_never_changes() -> None:
    """It is part of the contract: masters and clients of different versions compare."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""SELECT {BUCKET}, {DIGEST} FROM (VALUES
                ('0198c8a0-0000-7000-8000-000000000001'::uuid, 7::bigint,
                 '0cc175b9-c0f1-b6a8-31c3-99e269772661'::uuid),
                ('0198c8a0-0000-7000-8000-000000000001'::uuid, 8, NULL)
            ) AS copy (user_id, version, content_hash)"""
        )
        assert cursor.fetchall() == GOLDEN


#: md5 of the id, its first three digits; md5 of id, version and hash, its first sixteen.
GOLDEN = [(1364, 3581551163557369266), (1364, 8353521231174516602)]


@pytest.mark.parametrize("field", ["version", "content"])
def test_any_difference_shows_in_its_bucket_alone(field: str) -> None:
    users = [User.objects.create_user(f"u{number}") for number in range(5)]
    publish()
    before = digests.look(None)
    changed = OutboxEntry.objects.filter(user_id=users[2].pk)
    if field == "version":
        changed.update(published_version=9, version=9)
    else:
        changed.update(published_hash=uuid4())
    assert digests.look(None).differing(before) == [bucket_of(users[2].pk)]


def test_who_has_just_changed_is_left_out() -> None:
    User.objects.create_user("old")
    publish()
    User.objects.create_user("new")
    OutboxEntry.objects.filter(published_version=0).update(
        published_version=1, published_hash=uuid4()
    )
    found = digests.look(None)
    assert found.users == 1
    assert found.at - found.watermark == SETTLED_AFTER
    assert found.at - found.late == LATE_AFTER
    OutboxEntry.objects.update(changed_at=timezone.now() - timedelta(seconds=6))
    assert digests.look(None).users == 2
    assert digests.look(timezone.now() - timedelta(seconds=2)).users == 0


def test_a_client_ahead_of_its_time_gets_the_masters() -> None:
    found = digests.look(timezone.now() + timedelta(hours=1))
    assert found.at - found.watermark == SETTLED_AFTER


def test_what_is_owed_is_counted_but_not_what_is_parked() -> None:
    for number in range(3):
        User.objects.create_user(f"u{number}")
    publish()
    OutboxEntry.objects.update(version=2)
    parked = OutboxEntry.objects.first()
    assert parked is not None
    OutboxEntry.objects.filter(pk=parked.pk).update(parked_reason="too long")
    assert digests.look(None).owed == 2


# The API


def test_a_client_asks_for_digests_and_looks_into_buckets(api: APIClient) -> None:
    users = [User.objects.create_user(f"u{number}") for number in range(3)]
    publish()
    key = users[1].pk
    users[1].delete()
    answer = api.get("/api/v1/digests/").json()
    # Whose deletion is owed has just changed.
    assert (answer["users"], answer["deleted"], len(answer["buckets"])) == (2, 0, 16 * BUCKETS)
    wanted = f"{bucket_of(users[0].pk)},{bucket_of(key)}"
    *found, end = lines(api.get("/api/v1/digests/users/", {"buckets": wanted}))
    assert end == {"type": "end", "count": len(found)}
    told = {UUID(one["user_id"]): Published(**one) for one in found}
    assert told.keys() >= {users[0].pk, key}
    assert (told[users[0].pk].version, told[users[0].pk].owed) == (1, False)
    assert (told[key].version, told[key].owed) == (1, True)


def test_some_users_of_the_snapshot(api: APIClient) -> None:
    users = [User.objects.create_user(f"u{number}") for number in range(4)]
    publish()
    wanted = [users[0].pk, users[2].pk, uuid4()]
    ids = ",".join(str(one) for one in wanted)
    begin, *found, end = lines(api.get("/api/v1/snapshot/", {"ids": ids}))
    assert [UUID(one["data"]["id"]) for one in found] == sorted(wanted[:2])
    assert (begin["total"], end["count"]) == (2, 2)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("digests/", {"before": "yesterday"}),
        ("digests/", {"after": "2026-01-01"}),
        ("digests/", {"before": "0001-01-01T00:00:02Z"}),
        ("digests/users/", {}),
        ("digests/users/", {"buckets": ""}),
        ("digests/users/", {"buckets": "1,x"}),
        ("digests/users/", {"buckets": "4096"}),
        ("digests/users/", {"buckets": "-1"}),
        ("digests/users/", {"buckets": ",".join(["1000"] * 600)}),
        ("snapshot/", {"ids": "x"}),
        ("snapshot/", {"ids": ",".join([str(uuid4())] * 101)}),
    ],
)
def test_bad_questions_are_refused(api: APIClient, path: str, query: dict[str, str]) -> None:
    answer = api.get(f"/api/v1/{path}", query)
    assert answer.status_code == 400
    assert answer.json()["errors"]


def test_it_takes_the_scope_snapshot() -> None:
    root = User.objects.create_superuser("root")
    reader = caller(root, Scope.READ, Scope.WRITE, Scope.REPORT)
    for path in ("digests/", "digests/users/?buckets=1"):
        assert reader.get(f"/api/v1/{path}").status_code == 403
