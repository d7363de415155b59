"""Dead letters on real queues (LocalStack): listed, shown, redriven to their lanes, purged."""

import io
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from django.core.management import CommandError, call_command

from usercast import aws, topology
from usercast.contract import CONTENT_TYPE, Lane, UserChange, encode_batch, encode_change
from usercast.errors import ConfigurationError
from usercast.lifecycle import Stop
from usercast.testing import deletion, eventually, upsert
from usercast_client.inbox import dead_letters, look, poller
from usercast_client.inbox.dead_letters import Choice, Outcome
from usercast_client.inbox.hold import Hold
from usercast_client.inbox.letters import READS_WELL, Letter, Source
from usercast_client.inbox.tasks import count_dead_letters
from usercast_client.live import clock, feed
from usercast_client.replica.models import User

pytestmark = pytest.mark.django_db

KINDS = ("live", "bulk", "dead", "undelivered")
Queues = dict[str, str]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """LocalStack has one server: a receive that does not wait finds everything."""
    monkeypatch.setattr(look, "WAIT_SECONDS", 0)
    monkeypatch.setattr(aws, "LONG_POLL_SECONDS", 0)
    monkeypatch.setattr(poller, "REJECTED_AGAIN_SECONDS", 0)


@pytest.fixture
def queues(settings: Any) -> Iterator[Queues]:
    """The four queues of a client of the test's own; lanes give up after two receives."""
    settings.USERCAST_CLIENT = f"c{uuid.uuid4().hex[:8]}"
    urls = {
        kind: aws.sqs().create_queue(QueueName=f"usercast-{settings.USERCAST_CLIENT}-{kind}")[
            "QueueUrl"
        ]
        for kind in KINDS
    }
    dead = aws.sqs().get_queue_attributes(QueueUrl=urls["dead"], AttributeNames=["QueueArn"])
    policy = {"deadLetterTargetArn": dead["Attributes"]["QueueArn"], "maxReceiveCount": 2}
    for lane in Lane:
        aws.sqs().set_queue_attributes(
            QueueUrl=urls[lane.value], Attributes={"RedrivePolicy": json.dumps(policy)}
        )
    yield urls
    for url in urls.values():
        aws.sqs().delete_queue(QueueUrl=url)


class Pushes:
    """A broadcaster that remembers."""

    def __init__(self) -> None:
        self.changes: list[dict[str, Any]] = []

    def push(self, told: feed.Told, *, of: object) -> None:
        self.changes += told.as_json()


def poll_once(url: str, pushes: Pushes) -> int:
    messages = poller.receive(url)
    if messages:
        hold = Hold()
        shared = poller.Lanes(Stop(), hold=hold, broadcaster=pushes)  # type: ignore[arg-type]
        poller.handle(messages, lane=Lane.LIVE, queue_url=url, shared=shared)
        hold.close()
    return len(messages)


def left_in(url: str) -> int:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = aws.sqs().get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(counts[name]) for name in names)


def put(url: str, *changes: UserChange, compress: bool = False, **attributes: str) -> str:
    message = encode_batch([encode_change(change) for change in changes], compress=compress)
    if message.content_encoding:
        attributes["content-encoding"] = message.content_encoding
    return put_text(url, message.body, **attributes)


def put_text(url: str, body: str, **attributes: str) -> str:
    return aws.sqs().send_message(
        QueueUrl=url,
        MessageBody=body,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )["MessageId"]


def take_all(url: str) -> list[Any]:
    return (
        aws.sqs()
        .receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
        .get("Messages", [])
    )


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("dead_letters", *arguments, stdout=output, stderr=output)
    return output.getvalue()


def listed(*arguments: str) -> list[dict[str, Any]]:
    return json.loads(run("list", "--json", *arguments))


def redrive(client: str, pause: Callable[[float], None], **choice: Any) -> list[Outcome]:
    chosen = Choice(sources=list(Source), **choice)
    return list(dead_letters.redrive(client, chosen, rate=20, pause=pause))


def no_pause(_seconds: float) -> None:
    pass


# list


def test_list_says_what_is_wrong_and_takes_nothing_away(queues: Queues) -> None:
    bad = encode_change(upsert(username="bob")).decode().replace('"bob"', "7")
    good = encode_change(upsert(username="ann")).decode()
    ids = [
        put_text(queues["dead"], "no batch", lane="live"),
        put_text(queues["dead"], f"[{good},{bad},{good}]", lane="live"),
        put(queues["dead"], upsert(), upsert(), compress=True, lane="bulk"),
        put(queues["undelivered"], upsert(), lane="live"),
        put_text(queues["dead"], "[]", **{"content-encoding": "br"}),
    ]
    rows = {row["message_id"]: row for row in listed()}
    assert [(rows[key]["changes"], rows[key]["bad"]) for key in ids] == [
        (None, None),
        (3, 1),
        (2, 0),
        (1, 0),
        (None, None),
    ]
    reasons = [rows[key]["reason"] for key in ids]
    assert "JSON" in reasons[0]
    assert "username" in reasons[1]
    assert reasons[2:4] == [READS_WELL[Source.DEAD], READS_WELL[Source.UNDELIVERED]]
    assert "'br'" in reasons[4]
    assert [row["received"] for row in listed()] == [2] * 5, "seen again at once, one look later"


def test_list_prints_a_table_without_personal_data(queues: Queues) -> None:
    bad = encode_change(upsert(username="bob", email="bob@example.org")).decode()
    message_id = put_text(queues["dead"], f"[{bad.replace('v1', 'v9')}]", lane="live")
    put_text(queues["dead"], "[]", **{"content-encoding": "\x7f" * 200})
    output = run("list")
    head, *lines, total = output.splitlines()
    columns = ["QUEUE", "MESSAGE ID", "SENT AT", "RECEIVED", "BYTES", "CHANGES", "BAD", "REASON"]
    assert [head.index(title) for title in columns] == sorted(head.index(t) for t in columns)
    assert any(message_id in line and "usercast.user.upserted.v9" in line for line in lines)
    assert total.startswith("2 of 2 messages")
    assert "bob" not in output
    assert "\x7f" not in output, "nothing of a message steers the terminal"


def test_list_of_nothing_says_so(queues: Queues) -> None:
    assert run("list").startswith("0 of 0 messages")
    assert listed() == []


def test_list_stops_at_its_limit_and_hides_nothing(queues: Queues) -> None:
    for _ in range(12):
        put(queues["dead"], upsert(), lane="live")
    assert len(listed("--limit", "11")) == 11
    assert "3 of 12" in run("list", "--limit", "3")
    assert len(listed()) == 12


def test_list_of_one_queue(queues: Queues) -> None:
    put(queues["dead"], upsert())
    put(queues["undelivered"], upsert())
    assert [row["queue"] for row in listed("--queue", "undelivered")] == ["undelivered"]


def test_list_gives_back_what_it_saw_when_it_is_broken_off(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_letter: Letter) -> None:
        raise KeyboardInterrupt

    put(queues["dead"], upsert())
    with monkeypatch.context() as patch:
        patch.setattr(Letter, "summary", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run("list")
    assert len(listed()) == 1


# show


def test_show_tells_good_and_bad_changes_apart(queues: Queues) -> None:
    good = encode_change(upsert(username="ann")).decode()
    bad = encode_change(upsert(username="bob")).decode().replace("bob", r"b\u0000b")
    put(queues["dead"], upsert(), lane="live")
    message_id = put_text(queues["dead"], f"[{bad},{good}]", lane="live", traceparent="00-1-2-01")
    shown = json.loads(run("show", message_id))
    assert (shown["message_id"], shown["changes"], shown["bad"]) == (message_id, 2, 1)
    assert shown["attributes"] == {"lane": "live", "traceparent": "00-1-2-01"}
    first, second = shown["events"]
    assert "NUL" in first["reason"]
    assert first["text"] == bad
    assert second["event"]["data"]["username"] == "ann"


def test_show_unpacks_and_else_shows_the_body(queues: Queues) -> None:
    packed = put(
        queues["undelivered"], upsert(username="ann"), deletion(uuid.uuid4(), 2), compress=True
    )
    shown = json.loads(run("show", packed))
    assert [event["event"]["type"] for event in shown["events"]] == [
        "usercast.user.upserted.v1",
        "usercast.user.deleted.v1",
    ]
    unreadable = put_text(queues["dead"], "no batch")
    assert json.loads(run("show", unreadable))["body"] == "no batch"


def test_unknown_id_is_a_clear_error(queues: Queues) -> None:
    put(queues["dead"], upsert())
    for arguments in (
        ["show", "nobody"],
        ["redrive", "--id", "nobody"],
        ["purge", "--id", "x", "--yes"],
    ):
        with pytest.raises(CommandError, match="no message"):
            run(*arguments)
    assert len(listed()) == 1


# redrive


def test_redriven_messages_are_applied_and_gone(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(queues["dead"], upsert(username="ann"), upsert(username="bob"), compress=True, lane="live")
    put(queues["dead"], upsert(username="cem"), lane="bulk")
    assert "sent to the lanes again: 2\n" in run("redrive")
    pushes = Pushes()
    assert [poll_once(queues[lane], pushes) for lane in ("live", "bulk")] == [1, 1]
    assert {user.username for user in User.objects.all()} == {"ann", "bob", "cem"}
    assert [left_in(url) for url in queues.values()] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("lane", "expected"), [("live", "live"), ("bulk", "bulk"), ("express", "bulk"), (None, "bulk")]
)
def test_message_goes_to_the_lane_it_names_or_to_bulk(
    queues: Queues, lane: str | None, expected: str
) -> None:
    put_text(queues["undelivered"], "body, as it is ✓", **({"lane": lane} if lane else {}))
    run("redrive")
    (arrived,) = take_all(queues[expected])
    assert arrived["Body"] == "body, as it is ✓"


def test_only_our_attributes_are_sent_along(queues: Queues) -> None:
    ours = {
        "lane": "live",
        "content-type": CONTENT_TYPE,
        "content-encoding": "gzip",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    put_text(
        queues["undelivered"], "x", **ours, ErrorCode="AWS.SimpleQueueService.NonExistentQueue"
    )
    run("redrive")
    (arrived,) = take_all(queues["live"])
    found = {name: value["StringValue"] for name, value in arrived["MessageAttributes"].items()}
    assert found == ours


def test_envelope_of_sns_is_taken_off(queues: Queues) -> None:
    """As SNS delivers where raw delivery is off."""
    message = encode_batch([encode_change(upsert(username="ann"))], compress=True)
    envelope = {
        "Type": "Notification",
        "MessageId": str(uuid.uuid4()),
        "TopicArn": "arn:aws:sns:eu-west-1:000000000000:usercast-users",
        "Message": message.body,
        "Timestamp": "2026-01-02T03:04:05.678Z",
        "MessageAttributes": {
            "lane": {"Type": "String", "Value": "live"},
            "content-encoding": {"Type": "String", "Value": "gzip"},
        },
    }
    put_text(queues["undelivered"], json.dumps(envelope))
    assert (listed()[0]["changes"], listed()[0]["bad"]) == (1, 0)
    run("redrive")
    poll_once(queues["live"], Pushes())
    assert User.objects.get().username == "ann"


def test_redrive_of_one_message_and_of_one_queue(queues: Queues) -> None:
    chosen, other = (put(queues["dead"], upsert(), lane="live") for _ in range(2))
    undelivered = put(queues["undelivered"], upsert(), lane="bulk")
    assert "sent to the lanes again: 1\n" in run("redrive", "--id", chosen)
    assert {row["message_id"] for row in listed()} == {other, undelivered}
    run("redrive", "--queue", "undelivered")
    assert [row["message_id"] for row in listed()] == [other]
    assert (left_in(queues["live"]), left_in(queues["bulk"])) == (1, 1)


def test_redrive_stops_at_its_limit_across_both_queues(queues: Queues) -> None:
    for _ in range(2):
        put(queues["dead"], upsert(), lane="live")
        put(queues["undelivered"], upsert(), lane="live")
    assert "sent to the lanes again: 3\n" in run("redrive", "--limit", "3", "--rate", "1000")
    assert len(listed()) == 1
    assert left_in(queues["live"]) == 3


def test_rate_is_kept_by_pauses_between_small_batches(queues: Queues, settings: Any) -> None:
    for _ in range(7):
        put(queues["dead"], upsert(), lane="live")
    pauses: list[float] = []
    chosen = Choice(sources=[Source.DEAD])
    batches = list(
        dead_letters.redrive(settings.USERCAST_CLIENT, chosen, rate=3, pause=pauses.append)
    )
    sizes = [len(batch.done) for batch in batches]
    assert sum(sizes) == 7
    assert max(sizes) <= 3
    assert pauses == [0, *(size / 3 for size in sizes[:-1])]


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "fast"])
def test_senseless_rate_is_refused(queues: Queues, rate: str) -> None:
    with pytest.raises(CommandError, match="rate"):
        run("redrive", "--rate", rate)


def test_crash_between_send_and_delete_does_no_harm(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message is then in both queues; the versions drop the one that comes later."""

    class Crash(BaseException):
        pass

    def crash(*_arguments: object) -> None:
        raise Crash

    user_id = uuid.uuid4()
    put(queues["dead"], upsert(user_id, 1, username="old"), lane="live")
    with monkeypatch.context() as patch:
        patch.setattr(look.Look, "delete", crash)
        with pytest.raises(Crash):
            run("redrive")
    assert (left_in(queues["dead"]), left_in(queues["live"])) == (1, 1)
    pushes = Pushes()
    poll_once(queues["live"], pushes)
    put(queues["live"], upsert(user_id, 2, username="new"), lane="live")
    poll_once(queues["live"], pushes)
    assert "sent to the lanes again: 1\n" in run("redrive")
    poll_once(queues["live"], pushes)
    assert User.objects.get().username == "new"
    assert len(pushes.changes) == 2
    assert (left_in(queues["dead"]), left_in(queues["live"])) == (0, 0)


def test_message_that_a_lane_does_not_take_is_kept_and_the_others_go(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real refusal of one entry: the attribute's value is no text that SQS accepts."""
    good = put(queues["dead"], upsert(), lane="live")
    bad = put(queues["dead"], upsert(), lane="live")
    real = dead_letters._entry

    def entry(position: int, letter: Letter) -> Any:
        made = real(position, letter)
        return {**made, "MessageBody": "\x01"} if letter.message_id == bad else made

    monkeypatch.setattr(dead_letters, "_entry", entry)
    output = io.StringIO()
    with pytest.raises(CommandError, match="1 refused"):
        call_command("dead_letters", "redrive", stdout=output, stderr=output)
    assert f"send of {bad} refused: InvalidMessageContents" in output.getvalue()
    assert "sent to the lanes again: 1\n" in output.getvalue()
    assert [row["message_id"] for row in listed()] == [bad], f"{good} was sent, and deleted"
    assert left_in(queues["live"]) == 1


def test_message_sent_but_not_deleted_is_reported(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    message_id = put(queues["dead"], upsert(), lane="live")
    real = aws.sqs().delete_message_batch

    def delete(*, QueueUrl: str, Entries: list[dict[str, str]]) -> Any:  # noqa: N803
        return real(QueueUrl=QueueUrl, Entries=[{**e, "ReceiptHandle": "none"} for e in Entries])

    output = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(aws.sqs(), "delete_message_batch", delete)
        with pytest.raises(CommandError, match="1 refused"):
            call_command("dead_letters", "redrive", stdout=output, stderr=output)
    assert f"delete of {message_id} refused" in output.getvalue()
    assert [row["message_id"] for row in listed()] == [message_id]


def test_what_fails_again_meanwhile_is_not_taken_again(queues: Queues, settings: Any) -> None:
    """The poller refuses what each batch sends, and all of it is back before the next batch."""
    bodies = [f"no batch {number}" for number in range(30)]
    for body in bodies:
        put_text(queues["dead"], body, lane="live")
    chosen = Choice(sources=[Source.DEAD], sent_before=datetime.now(UTC))
    sent = []
    for outcome in dead_letters.redrive(settings.USERCAST_CLIENT, chosen, rate=100, pause=no_pause):
        sent += [letter.body for letter in outcome.done]
        eventually(lambda: poll_once(queues["live"], Pushes()) == 0, within=10)
    assert sorted(sent) == sorted(bodies), "each once"
    assert len(listed()) == 30


def test_what_arrives_all_the_time_does_not_keep_a_look_from_ending(
    queues: Queues, settings: Any
) -> None:
    put_text(queues["dead"], "the first")
    seen = 0
    for _ in dead_letters.letters(settings.USERCAST_CLIENT, Choice(sources=[Source.DEAD])):
        seen += 1
        put_text(queues["dead"], "one more")
        assert seen < 100
    assert seen >= 1


def test_redrive_ends_though_dead_letters_keep_coming(queues: Queues, settings: Any) -> None:
    """They come faster than others are sent again."""
    for _ in range(5):
        put_text(queues["dead"], "no batch", lane="live")

    def arrive(_seconds: float) -> None:
        for _ in range(20):
            put_text(queues["dead"], "newer", lane="live")

    chosen = {"sources": [Source.DEAD], "sent_before": datetime.now(UTC)}
    outcomes = dead_letters.redrive(
        settings.USERCAST_CLIENT, Choice(**chosen), rate=2, pause=arrive
    )
    bodies = [letter.body for outcome in outcomes for letter in outcome.done]
    assert set(bodies) == {"no batch"}
    assert len(bodies) <= 5


def test_newer_message_than_the_start_stays(queues: Queues, settings: Any) -> None:
    put(queues["dead"], upsert(), lane="live")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    assert redrive(settings.USERCAST_CLIENT, no_pause, sent_before=hour_ago) == []
    assert len(listed()) == 1


def test_ten_large_messages_are_more_than_one_call_may_carry(
    queues: Queues, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        put_text(queues["dead"], str(number) * 60_000, lane="live")
    sizes: list[int] = []
    real = aws.sqs().send_message_batch

    def send(*, QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        sizes.append(sum(len(entry["MessageBody"]) for entry in Entries))
        return real(QueueUrl=QueueUrl, Entries=Entries)

    monkeypatch.setattr(aws.sqs(), "send_message_batch", send)
    redrive(settings.USERCAST_CLIENT, no_pause)
    assert max(sizes) <= 256 * 1024 - 4 * 512
    assert left_in(queues["live"]) == 9


@pytest.mark.parametrize("compress", [False, True])
def test_what_sns_could_not_hand_over_is_redriven_to_the_lane_made_anew(
    settings: Any, *, compress: bool
) -> None:
    """The real thing: the lane's queue is gone, SNS publishes, and the queue comes back."""
    name = settings.USERCAST_CLIENT = f"u{uuid.uuid4().hex[:8]}"
    topic_arn = topology.deploy_topic()
    urls = topology.deploy_client(name, topic_arn=topic_arn)
    aws.sqs().delete_queue(QueueUrl=urls["Live"])
    message = encode_batch([encode_change(upsert(username="ann"))], compress=compress)
    attributes = {"lane": "live", "content-type": CONTENT_TYPE} | (
        {"content-encoding": "gzip"} if compress else {}
    )
    aws.sns().publish(
        TopicArn=topic_arn,
        Message=message.body,
        MessageAttributes={
            key: {"DataType": "String", "StringValue": value} for key, value in attributes.items()
        },
    )
    (row,) = eventually(lambda: listed("--queue", "undelivered"), within=10)
    assert (row["changes"], row["reason"]) == (1, READS_WELL[Source.UNDELIVERED])
    with pytest.raises(ConfigurationError, match=f"usercast-{name}-live.*clients add {name}"):
        run("redrive")
    live = aws.sqs().create_queue(QueueName=f"usercast-{name}-live")["QueueUrl"]
    run("redrive")
    poll_once(live, Pushes())
    assert User.objects.get().username == "ann"
    assert listed() == []


# purge


def test_purge_deletes_one_or_all(queues: Queues) -> None:
    one, *_others = (put(queues["dead"], upsert()) for _ in range(12))
    put(queues["undelivered"], upsert())
    assert "deleted: 1\n" in run("purge", "--id", one, "--yes")
    assert one not in {row["message_id"] for row in listed()}
    assert "deleted: 11\n" in run("purge", "--queue", "dead", "--yes")
    assert [row["queue"] for row in listed()] == ["undelivered"]
    assert "deleted: 1\n" in run("purge", "--yes")
    assert "deleted: 0\n" in run("purge", "--yes")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("yes", 0), ("", 1), ("n", 1)])
def test_purge_asks_on_a_terminal(
    queues: Queues, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    put(queues["dead"], upsert())
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    if left:
        with pytest.raises(CommandError, match="Nothing was deleted"):
            run("purge")
    else:
        run("purge")
    assert "dead (about 1)" in asked[0]
    assert len(listed()) == left


def test_purge_without_terminal_says_what_it_would_delete_and_does_not(queues: Queues) -> None:
    message_id = put(queues["dead"], upsert())
    with pytest.raises(CommandError, match=r"dead .about 1.*--yes"):
        run("purge")
    with pytest.raises(CommandError, match=f"message {message_id} of the queue dead.*--yes"):
        run("purge", "--id", message_id)
    assert len(listed()) == 1


# errors


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "x"], ["redrive"], ["purge", "--yes"]], ids=lambda a: a[0]
)
def test_missing_queue_and_silent_sqs_are_clear_errors(
    settings: Any, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    settings.USERCAST_CLIENT = "nobody"
    with pytest.raises(ConfigurationError, match="clients add nobody"):
        run(*arguments)

    def away(**_arguments: Any) -> None:
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    monkeypatch.setattr(aws.sqs(), "get_queue_url", away)
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL: no answer"):
        run(*arguments)


def test_sqs_going_away_in_between_leaves_the_rest_and_says_how_far_it_got(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(15):
        put(queues["dead"], upsert(), lane="live")
    real = aws.sqs().send_message_batch
    answers = [real]

    def send(**arguments: Any) -> Any:
        if answers:
            return answers.pop()(**arguments)
        raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")

    output = io.StringIO()
    monkeypatch.setattr(aws.sqs(), "send_message_batch", send)
    with pytest.raises(ConfigurationError, match="no answer"):
        call_command("dead_letters", "redrive", "--rate", "1000", stdout=output)
    sent = left_in(queues["live"])
    assert 1 <= sent < 15
    assert output.getvalue() == f"sent to the lanes again: {sent}\n"
    assert len(listed()) == 15 - sent


def test_their_number_is_told_by_the_clock(queues: Queues) -> None:
    for source in ("dead", "undelivered"):
        put(queues[source], upsert())
    count_dead_letters()
    clock.tick()
    last = clock.last()
    assert last is not None
    assert last["dead_letters"] == 2
