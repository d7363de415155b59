"""From outbox entries to messages on a real topic (LocalStack)."""

import base64
import gzip
import random
import string
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from django.contrib.auth.models import Group
from django.db import InterfaceError, OperationalError, connection, transaction
from django.utils import timezone

from usercast import aws
from usercast.contract import UserGone, UserState
from usercast.errors import PublishFailed
from usercast_master.accounts.models import User
from usercast_master.outbox import lease, packing, publisher, status, topic
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
    assert attributes == {
        "lane": "live",
        "content-type": "application/cloudevents-batch+json",
        "traceparent": change.traceparent,
    }
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


def test_a_change_that_waited_long_was_published_just_now(deliveries: Deliveries) -> None:
    """By this a client's comparison tells what is lost from what is on its way."""
    User.objects.create(username="ann")
    OutboxEntry.objects.update(changed_at=timezone.now() - timedelta(hours=1))
    assert OutboxEntry.objects.get().published_at is None
    before = timezone.now()
    publisher.publish_pending()
    first = OutboxEntry.objects.get().published_at
    assert first is not None
    assert before <= first <= timezone.now()
    User.objects.update(first_name="Ann")
    assert OutboxEntry.objects.get().published_at == first, "nothing new has been sent"


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
    [first, *_] = lease.claim(limit=1, lease_seconds=60)
    assert first.user_id == str(users[11].pk)


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
    claims = lease.claim(limit=500, lease_seconds=60)
    parcels = list(packing.pack(publisher.read(claims), backlog=False, refused=[]))
    assert len(parcels) > 1
    assert all(parcel.message.size_bytes <= 64 * 1024 for parcel in parcels)
    assert sum(len(parcel.readings) for parcel in parcels) == 200


def test_state_is_never_older_than_its_version(deliveries: Deliveries) -> None:
    user = User.objects.create(username="ann")
    claims = lease.claim(limit=10, lease_seconds=60)
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
    first = lease.claim(limit=6, lease_seconds=60)
    second = lease.claim(limit=6, lease_seconds=60)
    assert (len(first), len(second)) == (6, 4)
    assert not {c.user_id for c in first} & {c.user_id for c in second}


def test_lease_of_a_killed_publisher_runs_out() -> None:
    User.objects.create(username="ann")
    assert lease.claim(limit=1, lease_seconds=60)
    assert not lease.is_due()
    OutboxEntry.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    assert lease.is_due()
    assert lease.claim(limit=1, lease_seconds=60)


def test_late_publisher_gives_back_no_lease_but_its_own() -> None:
    User.objects.create(username="ann")
    late = lease.claim(limit=1, lease_seconds=60)
    OutboxEntry.objects.update(claimed_until=timezone.now() - timedelta(seconds=1))
    lease.claim(limit=1, lease_seconds=60)
    publisher.settle(publisher.Outcome([], []), late)
    assert not lease.is_due(), "the second publisher's lease was given away"


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
    assert lease.is_due()
    assert publisher.publish_pending() == 5
    assert sum(len(changes) for _, changes in deliveries()) == 5


Refuse = Callable[[str], bool]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """SNS, but it answers Failed for each message whose readable text a condition picks."""
    real = aws.sns().publish_batch

    def install(refuse: Refuse, *, code: str = "InvalidParameter", our_fault: bool = True) -> None:
        def publish_batch(**kwargs: list) -> dict:
            entries = kwargs["PublishBatchRequestEntries"]
            bad = [entry for entry in entries if refuse(readable(entry))]
            good = [entry for entry in entries if entry not in bad]
            answer = real(**{**kwargs, "PublishBatchRequestEntries": good}) if good else {}
            failed = [
                {"Id": e["Id"], "Code": code, "Message": "no", "SenderFault": our_fault}
                for e in bad
            ]
            return {**answer, "Failed": failed}

        monkeypatch.setattr(aws.sns(), "publish_batch", publish_batch)

    return install


def readable(entry: dict) -> str:
    body = entry["Message"]
    if body.startswith("["):
        return body
    return gzip.decompress(base64.urlsafe_b64decode(body + "===")).decode()


def forget_backoff() -> None:
    OutboxEntry.objects.filter(attempts__gt=0).update(claimed_until=None)


def test_refused_message_waits_while_the_others_arrive(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries, refusing: Callable[..., None]
) -> None:
    """Each message of a call is settled by itself."""
    users = [User.objects.create(username=name) for name in ("bad", "good")]
    monkeypatch.setattr(packing, "MAX_CHANGES_PER_MESSAGE", 1)
    refusing(lambda text: '"bad"' in text, our_fault=False)
    before = timezone.now()
    assert publisher.publish_pending() == 1
    held = OutboxEntry.objects.get(user_id=users[0].pk)
    assert held.attempts == 1
    assert held.claimed_until > before
    [(_, [change])] = deliveries()
    assert change.user_id == users[1].pk


def test_waits_double_up_to_five_minutes_with_jitter() -> None:
    for attempts, longest in [(0, 1), (1, 2), (4, 16), (20, 300), (10_000, 300)]:
        waits = {lease.backoff_seconds(attempts) for _ in range(50)}
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_one_that_spoils_its_message_is_found_and_parked_and_the_others_arrive(
    deliveries: Deliveries, refusing: Callable[..., None]
) -> None:
    User.objects.bulk_create([User(username=f"user{i}") for i in range(20)])
    bad = User.objects.get(username="user7")
    refusing(lambda text: '"user7"' in text)
    assert publisher.publish_pending() == 0, "they share a message"
    forget_backoff()
    assert publisher.publish_pending() == 19, "each has one of its own now"
    for _ in range(publisher.MAX_REFUSALS):
        forget_backoff()
        publisher.publish_pending()
    [parked] = OutboxEntry.objects.exclude(parked_reason="")
    assert (parked.user_id, parked.parked_reason) == (bad.pk, "InvalidParameter: no")
    assert not lease.is_due()
    assert len({c.user_id for _, changes in deliveries() for c in changes}) == 19


@pytest.mark.parametrize(
    ("code", "our_fault"),
    [("InternalError", False), ("KMSDisabled", True), ("KMSThrottling", True)],
)
def test_what_will_pass_is_never_a_reason_to_park(
    deliveries: Deliveries, refusing: Callable[..., None], code: str, our_fault: bool
) -> None:
    """SNS calls it the sender's fault that a key is disabled."""
    User.objects.create(username="ann")
    refusing(lambda _: True, code=code, our_fault=our_fault)
    for _ in range(publisher.MAX_REFUSALS + 3):
        publisher.publish_pending()
        forget_backoff()
    entry = OutboxEntry.objects.get()
    assert (entry.parked_reason, entry.attempts) == ("", publisher.MAX_REFUSALS + 3)


def test_fault_of_snss_own_leaves_a_backlog_packed(
    deliveries: Deliveries, refusing: Callable[..., None]
) -> None:
    User.objects.bulk_create([User(username=f"user{i}") for i in range(400)])
    refusing(lambda _: True, our_fault=False)
    assert publisher.publish_pending() == 0
    refusing(lambda _: False)
    forget_backoff()
    assert publisher.publish_pending() == 400
    assert sorted(len(changes) for _, changes in deliveries()) == [200, 200]


def test_other_faults_do_not_count_towards_parking(
    deliveries: Deliveries, refusing: Callable[..., None]
) -> None:
    User.objects.create(username="ann")
    refusing(lambda _: True, our_fault=False)
    for _ in range(publisher.MAX_REFUSALS):
        publisher.publish_pending()
        forget_backoff()
    refusing(lambda _: True)
    publisher.publish_pending()
    assert OutboxEntry.objects.get().parked_reason == ""


def test_parked_entry_is_tried_anew_after_the_next_change(deliveries: Deliveries) -> None:
    ann = User.objects.create(username="ann")
    OutboxEntry.objects.update(parked_reason="too large", attempts=6)
    assert publisher.publish_pending() == 0
    ann.email = "a@x.org"
    ann.save()
    assert publisher.publish_pending() == 1


def test_change_too_large_for_any_message_is_parked_and_the_others_arrive(
    deliveries: Deliveries,
) -> None:
    """Over three thousand groups with names that do not compress."""
    noise = random.Random(1)
    names = ["".join(noise.choices(string.ascii_letters, k=150)) for _ in range(3000)]
    Group.objects.bulk_create([Group(name=name) for name in names])
    large, small = (User.objects.create(username=name) for name in ("large", "small"))
    large.groups.set(Group.objects.all())
    assert publisher.publish_pending() == 1
    parked = OutboxEntry.objects.get(user_id=large.pk)
    assert "SNS takes" in parked.parked_reason
    assert not lease.is_due()
    [(_, [change])] = deliveries()
    assert change.user_id == small.pk


def test_change_over_64_kib_travels_alone(deliveries: Deliveries) -> None:
    noise = random.Random(1)
    names = ["".join(noise.choices(string.ascii_letters, k=150)) for _ in range(900)]
    Group.objects.bulk_create([Group(name=name) for name in names])
    users = [User.objects.create(username=f"user{i}") for i in range(3)]
    users[1].groups.set(Group.objects.all())
    assert publisher.publish_pending() == 3
    [alone] = [
        changes for _, changes in deliveries() if users[1].pk in {c.user_id for c in changes}
    ]
    assert len(alone) == 1


def test_what_no_client_could_read_is_parked_with_its_field(deliveries: Deliveries) -> None:
    """Raw SQL put in what Django's forms would not."""
    ann, bob = (User.objects.create(username=name) for name in ("ann", "bob"))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_user SET username = '' WHERE id = %s", [str(ann.pk)])
    assert publisher.publish_pending() == 1
    assert "$.data.username" in OutboxEntry.objects.get(user_id=ann.pk).parked_reason
    [(_, [change])] = deliveries()
    assert change.user_id == bob.pk


def test_call_refused_for_one_message_goes_message_by_message(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    monkeypatch.setattr(packing, "MAX_CHANGES_PER_MESSAGE", 1)
    users = [User.objects.create(username=f"user{i}") for i in range(4)]
    real = aws.sns().publish_batch

    def refuse_whole_call(**kwargs: list) -> dict:
        if any('"user2"' in entry["Message"] for entry in kwargs["PublishBatchRequestEntries"]):
            error = {"Error": {"Code": "InvalidParameter", "Message": "Invalid characters"}}
            raise ClientError(error, "PublishBatch")
        return real(**kwargs)

    monkeypatch.setattr(aws.sns(), "publish_batch", refuse_whole_call)
    assert publisher.publish_pending() == 3
    assert OutboxEntry.objects.get(user_id=users[2].pk).attempts == 1


@pytest.mark.parametrize("code", ["Throttled", "AuthorizationError", "NotFound", "KMSThrottling"])
def test_call_refused_for_another_reason_leaves_all_due(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries, code: str
) -> None:
    User.objects.create(username="ann")

    def refuse(**_kwargs: object) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "…"}}, "PublishBatch")

    monkeypatch.setattr(aws.sns(), "publish_batch", refuse)
    with pytest.raises(PublishFailed, match=code):
        publisher.publish_pending()
    assert lease.is_due()
    assert OutboxEntry.objects.get().attempts == 0


def test_no_message_has_more_attributes_than_sns_hands_on(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    User.objects.bulk_create([User(username=f"user{i}") for i in range(3)])
    monkeypatch.setattr(topic, "MAX_ATTRIBUTES", 2)
    with pytest.raises(AssertionError, match="attributes"):
        publisher.publish_pending()
    assert lease.is_due(), "nothing was lost by it"


def test_sending_stops_in_time_for_the_lease(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    """Of a claim that takes too long, what is left is free again, and goes with the next one."""
    monkeypatch.setattr(packing, "MAX_CHANGES_PER_MESSAGE", 1)
    monkeypatch.setattr(publisher, "SENDING_SECONDS", 0.0)
    User.objects.bulk_create([User(username=f"user{i}") for i in range(25)])
    real, sent = publisher.settle, []

    def settle(outcome: publisher.Outcome, claims: list) -> None:
        sent.append((len(outcome.sent), len(claims)))
        real(outcome, claims)

    monkeypatch.setattr(publisher, "settle", settle)
    assert publisher.publish_pending() == 25
    assert sent == [(10, 25), (10, 15), (5, 5)], "a batch a claim"


def test_it_stops_between_two_claims_when_it_is_enough(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    monkeypatch.setattr(publisher, "CLAIM_LIMIT", 2)
    User.objects.bulk_create([User(username=f"user{i}") for i in range(7)])
    looks = iter([False, False, True])
    assert publisher.publish_pending(enough=lambda: next(looks)) == 4
    assert lease.is_due()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("commits", [True, False])
def test_settling_waits_for_nobodys_open_transaction(deliveries: Deliveries, commits: bool) -> None:
    """An import that holds a user for long must not hold up the publisher, nor deadlock with it."""
    ann, bob = (User.objects.create(username=name) for name in ("ann", "bob"))
    claims = lease.claim(limit=10, lease_seconds=60)
    saved, settled = threading.Event(), threading.Event()
    outlived: list[bool] = []

    def long_transaction() -> None:
        with suppress(ZeroDivisionError), transaction.atomic():
            User.objects.filter(pk=ann.pk).update(first_name="long")
            saved.set()
            outlived.append(settled.wait(10))
            _ = 1 / commits
        connection.close()

    thread = threading.Thread(target=long_transaction)
    thread.start()
    saved.wait(10)
    publisher.settle(publisher.Outcome(list(publisher.read(claims)), []), claims)
    assert OutboxEntry.objects.get(user_id=bob.pk).published_version == 1
    settled.set()
    thread.join()
    assert outlived == [True], "settling waited for the transaction to end"
    entry = OutboxEntry.objects.get(user_id=ann.pk)
    assert entry.version > entry.published_version, "sent again: once too often, or the new version"
    assert (entry.claimed_until is None) == commits


def test_nobody_at_work_is_told_from_somebody_at_work(deliveries: Deliveries) -> None:
    for name in ("ann", "bob"):
        User.objects.create(username=name)
    OutboxEntry.objects.update(owed_since=timezone.now() - timedelta(seconds=30))
    assert lease.is_neglected(for_seconds=20)
    assert not lease.is_neglected(for_seconds=40)
    lease.claim(limit=1, lease_seconds=60)
    assert not lease.is_neglected(for_seconds=20)


@pytest.mark.django_db(transaction=True)
def test_break_of_the_database_does_not_make_the_claims_wait_for_their_lease(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    """Between sending and settling; what was sent is recorded all the same."""
    User.objects.create(username="ann")
    real, breaks = publisher.settle, [OperationalError("reset"), InterfaceError("closed")]

    def settle(*args: object) -> None:
        if breaks:
            raise breaks.pop()
        real(*args)

    monkeypatch.setattr(publisher, "settle", settle)
    monkeypatch.setattr(publisher, "SETTLE_AGAIN_SECONDS", 0.01)
    assert publisher.publish_pending() == 1
    assert due() == 0


def test_backlog_asks_for_help_once(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    monkeypatch.setattr(publisher, "CLAIM_LIMIT", 2)
    User.objects.bulk_create([User(username=f"user{i}") for i in range(7)])
    asked: list[bool] = []
    assert publisher.publish_pending(on_backlog=lambda: asked.append(True)) == 7
    assert asked == [True]


def test_who_changes_all_the_time_is_not_overtaken_for_ever() -> None:
    first = User.objects.create(username="first")
    User.objects.create(username="second")
    first.email = "changed@after.org"
    first.save()
    [claimed] = lease.claim(limit=1, lease_seconds=60)
    assert (claimed.user_id, claimed.version) == (str(first.pk), 2)


@pytest.mark.django_db(transaction=True)
def test_publishers_side_by_side_send_each_change_once(
    monkeypatch: pytest.MonkeyPatch, deliveries: Deliveries
) -> None:
    monkeypatch.setattr(publisher, "CLAIM_LIMIT", 7)
    User.objects.bulk_create([User(username=f"user{i}") for i in range(100)])
    start, counts = threading.Barrier(4), []

    def publish() -> None:
        start.wait()
        counts.append(publisher.publish_pending())
        connection.close()

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 100
    changes = [change.user_id for _, changes in deliveries() for change in changes]
    assert len(changes) == len(set(changes)) == 100


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
