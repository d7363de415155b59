"""Which clients there are, as AWS has it: real topics and queues of the tests' LocalStack."""

import uuid
from collections.abc import Callable, Iterator

import pytest

from usercast import aws
from usercast_master.clients import subscriptions
from usercast_master.clients.models import Client

pytestmark = pytest.mark.django_db


@pytest.fixture
def topic(settings: object) -> Iterator[str]:
    arn = aws.sns().create_topic(Name=f"test-{uuid.uuid4()}")["TopicArn"]
    settings.USERCAST_TOPIC_ARN = arn  # type: ignore[attr-defined]
    yield arn
    aws.sns().delete_topic(TopicArn=arn)


@pytest.fixture
def deployed(topic: str) -> Iterator[Callable[..., str]]:
    """Makes a client's queues and subscribes two of them; returns its name."""
    urls = []

    def deploy(*kinds: str) -> str:
        name = f"t{uuid.uuid4().hex[:8]}"
        for kind in kinds:
            queue = f"usercast-{name}-{kind}"
            urls.append(aws.sqs().create_queue(QueueName=queue)["QueueUrl"])
            if kind in ("live", "bulk"):
                arn = f"arn:aws:sqs:eu-west-1:000000000000:{queue}"
                aws.sns().subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return name

    yield deploy
    for url in urls:
        aws.sqs().delete_queue(QueueUrl=url)


def fill(name: str, kind: str, count: int) -> None:
    url = aws.sqs().get_queue_url(QueueName=f"usercast-{name}-{kind}")["QueueUrl"]
    for _ in range(count):
        aws.sqs().send_message(QueueUrl=url, MessageBody="x")


def test_clients_and_what_waits_for_them(deployed: Callable[..., str]) -> None:
    name = deployed("live", "bulk", "dead", "undelivered")
    for kind, count in (("live", 1), ("bulk", 2), ("dead", 3), ("undelivered", 4)):
        fill(name, kind, count)
    subscriptions.look()
    assert Client.objects.values_list("name", "waiting", "dead").get() == (name, 3, 7)


def test_queues_that_cannot_be_counted_are_not_known(deployed: Callable[..., str]) -> None:
    name = deployed("live", "bulk")
    subscriptions.look()
    assert Client.objects.values_list("name", "waiting", "dead").get() == (name, 0, None)


def test_others_subscribed_are_no_clients(topic: str) -> None:
    aws.sns().subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:eu-west-1:000000000000:archive"
    )
    subscriptions.look()
    assert not Client.objects.exists()


def test_client_that_is_gone_is_forgotten(topic: str, deployed: Callable[..., str]) -> None:
    deployed("live")
    subscriptions.look()
    aws.sns().delete_topic(TopicArn=topic)
    aws.sns().create_topic(Name=topic.rpartition(":")[2])
    subscriptions.look()
    assert not Client.objects.exists()


def test_with_aws_away_what_is_known_stays(
    deployed: Callable[..., str], settings: object, capsys: pytest.CaptureFixture[str]
) -> None:
    name = deployed("live")
    subscriptions.look()
    settings.USERCAST_TOPIC_ARN += "-that-is-not-there"  # type: ignore[attr-defined]
    subscriptions.look()
    assert [client.name for client in Client.objects.all()] == [name]
