"""From messages on real queues (LocalStack) to the replica."""

import json
import logging
import threading
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.db import (
    DatabaseError,
    DataError,
    InternalError,
    OperationalError,
    ProgrammingError,
    connection,
)
from django.db.models.signals import pre_delete
from django.utils import timezone

from usercast import aws, topology
from usercast.contract import (
    Lane,
    Message,
    UserChange,
    decode_batch,
    encode_batch,
    encode_change,
    encode_probe,
)
from usercast.errors import ConfigurationError
from usercast.lifecycle import Stop
from usercast.testing import deletion, eventually, upsert
from usercast_client.inbox import hold as hold_module
from usercast_client.inbox import messages, poller, probes
from usercast_client.inbox.hold import Hold
from usercast_client.inbox.models import LaneProbe
from usercast_client.live import feed
from usercast_client.replica.models import User

pytestmark = pytest.mark.django_db


class Pushes:
    """A broadcaster that remembers."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []

    def push(self, told: feed.Told, *, of: object) -> None:
        self.changes += told.as_json()


@pytest.fixture
def pushes() -> Pushes:
    return Pushes()


@pytest.fixture
def queue() -> Iterator[str]:
    dead = aws.sqs().create_queue(QueueName=f"dead-{uuid.uuid4()}")["QueueUrl"]
    url = aws.sqs().create_queue(
        QueueName=f"test-{uuid.uuid4()}",
        Attributes={
            "RedrivePolicy": json.dumps(
                {"deadLetterTargetArn": queue_arn(dead), "maxReceiveCount": 2}
            )
        },
    )["QueueUrl"]
    yield url
    aws.sqs().delete_queue(QueueUrl=url)
    aws.sqs().delete_queue(QueueUrl=dead)


def queue_arn(url: str) -> str:
    return aws.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]


def put(queue: str, *changes: UserChange, compress: bool = False) -> None:
    message = encode_batch([encode_change(change) for change in changes], compress=compress)
    put_text(queue, message.body, encoding=message.content_encoding)


def put_text(queue: str, body: str, *, encoding: str | None = None) -> None:
    attributes = {"lane": "live"} | ({"content-encoding": encoding} if encoding else {})
    aws.sqs().send_message(
        QueueUrl=queue,
        MessageBody=body,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )


def handle(messages: list, queue: str, pushes: Pushes, *, stop: Stop | None = None) -> None:
    hold = Hold()
    shared = poller.Lanes(stop or Stop(), hold=hold, broadcaster=pushes)  # type: ignore[arg-type]
    try:
        poller.handle(messages, lane=Lane.LIVE, queue_url=queue, shared=shared)
    finally:
        hold.close()


def poll_once(queue: str, pushes: Pushes) -> int:
    messages = poller.receive(queue)
    if messages:
        handle(messages, queue, pushes)
    return len(messages)


def left_in(queue: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = aws.sqs().get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(counts[name]) for name in names)


@pytest.mark.parametrize("compress", [False, True])
def test_message_is_applied_pushed_and_deleted(queue: str, pushes: Pushes, compress: bool) -> None:
    put(queue, upsert(username="ann"), upsert(username="bob"), compress=compress)
    assert poll_once(queue, pushes) == 1
    assert {user.username for user in User.objects.all()} == {"ann", "bob"}
    assert [change["user"]["username"] for change in pushes.changes] == ["ann", "bob"]
    assert left_in(queue) == 0


def test_message_delivered_twice_changes_nothing(queue: str, pushes: Pushes) -> None:
    change = upsert(username="ann")
    put(queue, change)
    poll_once(queue, pushes)
    put(queue, change)
    assert poll_once(queue, pushes) == 1
    assert len(pushes.changes) == 1
    assert left_in(queue) == 0


def test_late_message_changes_nothing(queue: str, pushes: Pushes) -> None:
    first = upsert(username="ann")
    put(queue, deletion(first.user_id, 2))
    poll_once(queue, pushes)
    put(queue, first)
    poll_once(queue, pushes)
    assert not User.objects.exists()


def test_malformed_message_ends_in_the_dead_letters_and_stops_nobody(
    queue: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(poller, "REJECTED_AGAIN_SECONDS", 0)
    caplog.set_level(logging.ERROR)
    put_text(queue, "this is no batch")
    put(queue, upsert(username="ann"))
    eventually(lambda: poll_once(queue, pushes) == 0, within=30, what="an empty queue")
    assert User.objects.get().username == "ann"
    rejected = [r.msg for r in caplog.records if r.msg["event"] == "change_rejected"]
    assert len(rejected) == 2, "one line for each time it was received"
    assert "JSON" in rejected[0]["reason"]
    sources = aws.sqs().get_queue_attributes(QueueUrl=queue, AttributeNames=["RedrivePolicy"])
    dead_arn = json.loads(sources["Attributes"]["RedrivePolicy"])["deadLetterTargetArn"]
    dead = aws.sqs().get_queue_url(QueueName=dead_arn.rsplit(":", 1)[1])["QueueUrl"]
    eventually(lambda: left_in(dead) == 1, within=5, what="a dead letter")


def test_bad_change_among_good_ones_does_not_hold_them_up(queue: str, pushes: Pushes) -> None:
    good = encode_change(upsert(username="ann")).decode()
    bad = encode_change(upsert(username="bob")).decode().replace("bob", r"b\u0000b")
    put_text(queue, f"[{bad},{good}]")
    poll_once(queue, pushes)
    assert [user.username for user in User.objects.all()] == ["ann"]
    assert left_in(queue) == 1, "the message stays, for the dead letters"


def test_unknown_content_encoding_is_rejected_with_its_name(
    queue: str, pushes: Pushes, caplog: pytest.LogCaptureFixture
) -> None:
    put_text(queue, "[]", encoding="br")
    poll_once(queue, pushes)
    assert "'br'" in caplog.records[0].msg["reason"]


def test_message_the_database_refuses_is_singled_out(
    queue: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = poller.apply

    def refuse_bob(changes: list[UserChange]) -> Any:
        if any(change.data.username == "bob" for change in changes):  # type: ignore[union-attr]
            raise DataError("refused")
        return real(changes)

    monkeypatch.setattr(poller, "apply", refuse_bob)
    for name in ("ann", "bob", "cem"):
        put(queue, upsert(username=name))
    eventually(lambda: User.objects.count() == 2 or not poll_once(queue, pushes), within=10)
    assert {user.username for user in User.objects.all()} == {"ann", "cem"}
    assert left_in(queue) == 1


def test_single_change_the_database_refuses_is_singled_out_of_its_packed_message(
    queue: str, pushes: Pushes, caplog: pytest.LogCaptureFixture
) -> None:
    """A constraint of the client's own, and three packed messages received together."""
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE replica_user ADD CONSTRAINT own CHECK (email NOT LIKE '%@bad.example')"
        )
    bad = upsert(username="bad", email="secret@bad.example")
    for number in range(3):
        changes = [upsert(username=f"user{number}-{i}") for i in range(150)]
        put(queue, *changes[:77], *([bad] if number == 1 else []), *changes[77:], compress=True)
    eventually(lambda: poll_once(queue, pushes) == 0 or User.objects.count() == 450, within=20)
    assert User.objects.count() == 450
    assert left_in(queue) == 1
    [refused] = [r.msg for r in caplog.records if r.msg["event"] == "change_refused"]
    assert (refused["user_id"], refused["version"]) == (str(bad.user_id), 1)
    assert "secret" not in caplog.text, "personal data in the log"


REFUSING = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.username = 'bad' THEN RAISE EXCEPTION 'not here'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT ON replica_user FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.parametrize("what", ["a trigger that raises", "a receiver that raises"])
def test_what_is_not_the_databases_fault_holds_up_nobody_else(
    queue: str, pushes: Pushes, what: str
) -> None:
    """Something of the client's own refuses one change; the lane goes on."""
    ann = upsert(username="bad")

    def refuse(instance: User, **_kwargs: Any) -> None:
        if instance.username == "bad":
            raise ValueError("not here")

    if what == "a trigger that raises":
        with connection.cursor() as cursor:
            cursor.execute(REFUSING)
        changes = [ann, upsert(username="good")]
    else:
        put(queue, ann, upsert(username="good"))
        poll_once(queue, pushes)
        pre_delete.connect(refuse, sender=User)
        changes = [deletion(ann.user_id, 2), upsert(username="better")]
    try:
        put(queue, *changes)
        poll_once(queue, pushes)
    finally:
        pre_delete.disconnect(refuse, sender=User)
    good = {"good"} if what == "a trigger that raises" else {"good", "better"}
    assert good <= {user.username for user in User.objects.all()}
    assert left_in(queue) == 1, "the message of the one that is refused"


def test_messages_in_hand_stay_unseen_for_as_long_as_it_takes(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_module, "VISIBILITY_SECONDS", 2)
    aws.sqs().set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "2"})
    put(queue, upsert())
    [message] = messages.receive(queue)
    hold = Hold(renew_seconds=0.3)
    with hold.holding(queue, [message["ReceiptHandle"]]):
        for _ in range(2):
            assert messages.receive(queue) == [], "each of these waits longer than the time-out"
    assert len(messages.receive(queue)) == 1, "and then it comes again"
    hold.close()


def test_hold_survives_a_queue_that_does_not_answer(
    queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def away(**_kwargs: object) -> None:
        asked.append(True)
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(aws.sqs(), "change_message_visibility_batch", away)
    hold = Hold(renew_seconds=0.01)
    with hold.holding(queue, ["handle"]):
        eventually(lambda: len(asked) > 1, within=5)
    hold.close()


@pytest.mark.django_db(transaction=True)  # It reconnects, which a test's transaction forbids.
@pytest.mark.parametrize(
    "fault", [OperationalError("gone"), InternalError("read-only"), ProgrammingError("no column")]
)
def test_database_that_cannot_take_messages_does_not_make_them_dead_letters(
    queue: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch, fault: DatabaseError
) -> None:
    """The queue's limit is two receives; the database fails four times."""
    real, faults = poller.apply, [fault] * 4

    def failing(changes: list[UserChange]) -> Any:
        if faults:
            raise faults.pop()
        return real(changes)

    monkeypatch.setattr(poller, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(poller, "apply", failing)
    put(queue, upsert(username="ann"))
    assert poll_once(queue, pushes) == 1
    assert User.objects.get().username == "ann"
    assert left_in(queue) == 0


def test_stopping_while_the_database_is_away_gives_the_messages_back(
    queue: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Stop()

    def away(_changes: object) -> None:
        stop.request()
        raise OperationalError("gone")

    put(queue, upsert(username="ann"))
    with monkeypatch.context() as patch:
        patch.setattr(poller, "apply", away)
        handle(poller.receive(queue), queue, pushes, stop=stop)
    assert poll_once(queue, pushes) == 1, "it came again at once"
    assert User.objects.get().username == "ann"


def test_crash_before_the_deletion_loses_nothing(
    queue: str, pushes: Pushes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delete comes last: what is never deleted comes again."""

    class Crash(BaseException):
        pass

    def crash(_changes: object) -> None:
        raise Crash

    put(queue, upsert(username="ann"))
    monkeypatch.setattr(poller, "apply", crash)
    with pytest.raises(Crash):
        poll_once(queue, pushes)
    assert left_in(queue) == 1


@pytest.mark.django_db(transaction=True)
def test_running_poller_drains_both_lanes_and_stops_when_asked() -> None:
    name = f"p{uuid.uuid4().hex[:8]}"
    urls = topology.deploy_client(name, topic_arn=topology.deploy_topic())
    put(urls["Bulk"], upsert(username="bulk"), compress=True)
    put(urls["Live"], upsert(username="live"))
    put_text(urls["Live"], "no batch")
    stop = Stop()

    def stop_when_both_are_there() -> None:
        from django.db import connection

        try:
            eventually(lambda: User.objects.count() == 2, within=20)
        finally:
            connection.close()
            stop.request()

    watcher = threading.Thread(target=stop_when_both_are_there)
    watcher.start()
    poller.run(stop, client=name)
    watcher.join()
    assert {user.username for user in User.objects.all()} == {"bulk", "live"}


def test_poller_without_queues_says_how_to_create_them() -> None:
    with pytest.raises(ConfigurationError, match="clients add"):
        poller.run(Stop(), client="nobody")


def test_lane_names_are_the_contracts() -> None:
    assert {lane.value for lane in Lane} == {"live", "bulk"}


# Probes


def put_probe(queue: str, lane: Lane, sent_at: datetime) -> None:
    put_text(queue, encode_batch([encode_probe(lane, sent_at)], compress=False).body)


def test_probe_is_noted_and_deleted_beside_changes(queue: str, pushes: Pushes) -> None:
    at = timezone.now() - timedelta(seconds=3)
    put_probe(queue, Lane.LIVE, at)
    put(queue, upsert(uuid.uuid4(), username="ann"))
    taken = 0
    while taken < 2:
        taken += poll_once(queue, pushes)
    assert User.objects.filter(username="ann").exists()
    assert LaneProbe.objects.values_list("lane", "sent_at").get() == ("live", at)
    assert left_in(queue) == 0


def test_newest_probe_of_each_lane_counts() -> None:
    now = timezone.now()

    def come(lane: Lane, **before: float) -> None:
        message = encode_batch([encode_probe(lane, now - timedelta(**before))], compress=False)
        probes.note(decode_batch(message).probes)

    come(Lane.LIVE, seconds=3)
    assert probes.all_sent_before() is None
    come(Lane.BULK, seconds=60)
    come(Lane.LIVE, seconds=9)
    assert probes.all_sent_before() == now - timedelta(seconds=60)
    come(Lane.BULK, seconds=-3600)
    assert probes.all_sent_before() == now - timedelta(seconds=3)
    come(Lane.BULK, seconds=5)
    assert probes.all_sent_before() == now - timedelta(seconds=5), "that clock was set right"


def test_probe_from_the_edge_of_the_calendar_is_rejected(queue: str, pushes: Pushes) -> None:
    probe = json.loads(encode_probe(Lane.LIVE, timezone.now()))
    for at in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "yesterday"):
        batch = decode_batch(Message(body=json.dumps([{**probe, "time": at}])))
        assert (len(batch.rejected), batch.probes) == (1, [])
    batch = decode_batch(Message(body=json.dumps([{**probe, "subject": "express"}])))
    assert len(batch.rejected) == 1
