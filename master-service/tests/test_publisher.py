"""From outbox entries to messages on a real topic (LocalStack)."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from botocore.exceptions import EndpointConnectionError
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.utils import timezone

from usercast import aws
from usercast.contract import UserGone, UserState
from usercast.errors import PublishFailed
from usercast_master.accounts.models import User
from usercast_master.outbox import publisher, status
from usercast_master.outbox.models import OutboxEntry

Deliveries = Callable[[], list]
pytestmark = pytest.mark.django_db


def due() -> int:
    return sum(entry.version > entry.published_version for entry in OutboxEntry.objects.all())


def test_saved_user_goes_alone_as_plain_json_in_the_live_lane(deliveries: Deliveries) -> None:
    user = User.objects.create(username="ann", email="ann@example.org", first_name="Ann")
    user.groups.set([Group.objects.create(name=name) for name in ("writers", "editors")])
    assert publisher.publish_pending() == 1
    [(attributes, [change])] = deliveries()
    assert attributes == {"lane": "live", "content-type": "application/cloudevents-batch+json"}
    assert change.data == UserState(
        id=user.pk,
        version=2,
        username="ann",
        email="ann@example.org",
        first_name="Ann",
        last_name="",
        is_active=True,
        date_joined=user.date_joined,
        groups=("editors", "writers"),
    )
    assert due() == 0
    assert publisher.publish_pending() == 0


def test_hundred_saves_while_sns_is_away_are_one_message(deliveries: Deliveries) -> None:
    user = User.objects.create(username="ann")
    for number in range(99):
        user.first_name = f"Ann {number}"
        user.save()
    publisher.publish_pending()
    [(_, [change])] = deliveries()
    assert change.version == 100


def test_deletion_and_leaving_the_scope_are_deletions(deliveries: Deliveries) -> None:
    gone, promoted = (User.objects.create(username=name) for name in ("gone", "promoted"))
    keys = {gone.pk, promoted.pk}
    gone.delete()
    promoted.is_staff = True
    promoted.save()
    publisher.publish_pending()
    [(attributes, changes)] = deliveries()
    assert attributes["lane"] == "live"
    assert {change.data for change in changes} == {UserGone(id=key, version=2) for key in keys}


def test_bulk_write_is_packed_compressed_in_the_bulk_lane(deliveries: Deliveries) -> None:
    User.objects.bulk_create([User(username=f"user{i}", email="x@y.org") for i in range(450)])
    assert publisher.publish_pending() == 450
    arrived = deliveries()
    assert sorted(len(changes) for _, changes in arrived) == [50, 200, 200]
    assert all(a["lane"] == "bulk" and a["content-encoding"] == "gzip" for a, _ in arrived)


def test_deactivation_overtakes_a_bulk_write(deliveries: Deliveries) -> None:
    users = User.objects.bulk_create([User(username=f"user{i}") for i in range(20)])
    users[11].is_active = False
    users[11].save()
    [first, *_] = publisher.claim(limit=1, lease_seconds=60)
    assert first.user_id == users[11].pk


def test_backlog_of_single_saves_leaves_the_live_lane_to_what_is_urgent(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    monkeypatch.setattr(publisher, "CLAIM_LIMIT", 3)
    users = [User.objects.create(username=f"user{i}") for i in range(3)]
    users[1].is_active = False
    users[1].save()
    publisher.publish_pending()
    lanes = {change.user_id: a["lane"] for a, changes in deliveries() for change in changes}
    assert lanes == {users[0].pk: "bulk", users[1].pk: "live", users[2].pk: "bulk"}


def test_message_never_exceeds_64_kib() -> None:
    import random

    noise = random.Random(1)
    users = [
        User(
            username=f"{i}-" + "".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(140)),
            first_name="".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(150)),
            last_name="".join(chr(noise.randrange(0x4E00, 0x9FFF)) for _ in range(150)),
        )
        for i in range(200)
    ]
    User.objects.bulk_create(users)
    claims = publisher.claim(limit=500, lease_seconds=60)
    parcels = list(publisher.pack(publisher.read(claims), backlog=False, refused=[]))
    assert len(parcels) > 1
    assert all(parcel.message.size_bytes <= 64 * 1024 for parcel in parcels)
    assert sum(len(parcel.readings) for parcel in parcels) == 200


def test_state_is_never_older_than_its_version(deliveries: Deliveries) -> None:
    user = User.objects.create(username="ann")
    claims = publisher.claim(limit=10, lease_seconds=60)
    user.first_name = "newer"
    user.save()
    [reading] = publisher.read(claims)
    assert reading.claim.version == 1
    assert isinstance(reading.change.data, UserState)
    assert reading.change.data.first_name == "newer"
    publisher.settle(publisher.Outcome([reading], []), claims)
    assert due() == 1, "the newer version is still owed"


@pytest.mark.django_db(transaction=True)
def test_two_publishers_never_hold_the_same_entry() -> None:
    User.objects.bulk_create([User(username=f"user{i}") for i in range(10)])
    first = publisher.claim(limit=6, lease_seconds=60)
    second = publisher.claim(limit=6, lease_seconds=60)
    assert (len(first), len(second)) == (6, 4)
    assert not {c.user_id for c in first} & {c.user_id for c in second}


def test_lease_of_a_killed_publisher_runs_out() -> None:
    User.objects.create(username="ann")
    assert publisher.claim(limit=1, lease_seconds=60)
    assert not publisher.is_due()
    OutboxEntry.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert publisher.is_due()
    assert publisher.claim(limit=1, lease_seconds=60)


def test_late_publisher_gives_back_no_lease_but_its_own() -> None:
    User.objects.create(username="ann")
    late = publisher.claim(limit=1, lease_seconds=60)
    OutboxEntry.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    publisher.claim(limit=1, lease_seconds=60)
    publisher.settle(publisher.Outcome([], []), late)
    assert not publisher.is_due(), "the second publisher's lease was given away"


def test_sns_away_frees_everything_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    User.objects.bulk_create([User(username=f"user{i}") for i in range(5)])

    def away(**_kwargs: object) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    with monkeypatch.context() as patch:
        patch.setattr(aws.sns(), "publish_batch", away)
        with pytest.raises(PublishFailed):
            publisher.publish_pending()
    assert publisher.is_due()
    assert publisher.publish_pending() == 5
    assert sum(len(changes) for _, changes in deliveries()) == 5


def test_refused_message_waits_while_the_others_arrive(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    users = [User.objects.create(username=name) for name in ("bad", "good")]
    real = aws.sns().publish_batch
    monkeypatch.setattr(publisher, "MAX_CHANGES_PER_MESSAGE", 1)

    def refuse_first(**kwargs: list) -> dict:
        entries = kwargs["PublishBatchRequestEntries"]
        bad = [e for e in entries if '"bad"' in e["Message"]]
        good = [e for e in entries if e not in bad]
        response = real(**{**kwargs, "PublishBatchRequestEntries": good}) if good else {}
        failed = [{"Id": e["Id"], "Code": "InternalError", "SenderFault": False} for e in bad]
        return {**response, "Failed": failed}

    monkeypatch.setattr(aws.sns(), "publish_batch", refuse_first)
    before = timezone.now()
    assert publisher.publish_pending() == 1
    held = OutboxEntry.objects.get(user_id=users[0].pk)
    assert held.attempts == 1
    assert held.claimed_until > before
    [(_, [change])] = deliveries()
    assert change.user_id == users[1].pk


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_sns_is_called(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    with transaction.atomic():
        User.objects.create(username="ann")
    real, seen = aws.sns().publish_batch, []

    def spy(**kwargs: object) -> object:
        seen.append(connection.in_atomic_block)
        return real(**kwargs)

    monkeypatch.setattr(aws.sns(), "publish_batch", spy)
    publisher.publish_pending()
    assert seen == [False]


def test_republish_owes_every_user_once_more(deliveries: Deliveries) -> None:
    User.objects.bulk_create([User(username=f"user{i}") for i in range(3)])
    publisher.publish_pending()
    deliveries()
    assert status.republish() == 3
    assert status.republish() == 0, "what is owed already is not counted again"
    publisher.publish_pending()
    [(attributes, changes)] = deliveries()
    assert attributes["lane"] == "bulk"
    assert {change.version for change in changes} == {1}
