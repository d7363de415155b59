import uuid
from collections.abc import Callable, Iterator

import pytest

from usercast import startup

startup.configure("usercast_master.settings")


@pytest.fixture
def deliveries(settings: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list]]:
    """A topic of the test's own with a queue on it; what has arrived there since the last look."""
    from django.conf import settings as django_settings

    from usercast import aws
    from usercast.contract import Message, decode_batch

    topic = aws.sns().create_topic(Name=f"test-{uuid.uuid4()}")["TopicArn"]
    queue = aws.sqs().create_queue(QueueName=f"test-{uuid.uuid4()}")["QueueUrl"]
    arn = aws.sqs().get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    aws.sns().subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=arn["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )
    django_settings.USERCAST_TOPIC_ARN = topic

    def arrived() -> list:
        found = []
        while True:
            messages = (
                aws.sqs()
                .receive_message(
                    QueueUrl=queue,
                    MaxNumberOfMessages=10,
                    WaitTimeSeconds=1,
                    MessageAttributeNames=["All"],
                )
                .get("Messages", [])
            )
            if not messages:
                return found
            for message in messages:
                attributes = {
                    name: value["StringValue"]
                    for name, value in message["MessageAttributes"].items()
                }
                batch = decode_batch(
                    Message(
                        body=message["Body"], content_encoding=attributes.get("content-encoding")
                    )
                )
                assert not batch.rejected
                found.append((attributes, batch.changes))
                aws.sqs().delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])

    yield arrived
    aws.sns().delete_topic(TopicArn=topic)
    aws.sqs().delete_queue(QueueUrl=queue)
