"""Against LocalStack: moto knows no subscription with a filter in CloudFormation."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from usercast import aws, topology
from usercast.contract import Lane
from usercast.errors import ConfigurationError, TopologyError


@pytest.fixture(scope="module")
def topic_arn() -> str:
    return topology.deploy_topic()


@pytest.fixture(scope="module")
def client(topic_arn: str) -> str:
    name = f"c{uuid.uuid4().hex[:8]}"
    topology.deploy_client(name, topic_arn=topic_arn)
    return name


def test_topic_has_the_fixed_name_and_deploying_again_changes_nothing(topic_arn: str) -> None:
    assert topic_arn.endswith(":usercast-users")
    assert topology.deploy_topic() == topic_arn
    topology.require_topic(topic_arn)


def test_client_has_its_four_queues_and_deploying_again_changes_nothing(
    topic_arn: str, client: str
) -> None:
    urls = topology.deploy_client(client, topic_arn=topic_arn)
    assert {url.rsplit("/", 1)[1] for url in urls.values()} == {
        f"usercast-{client}-{kind}" for kind in ("live", "bulk", "dead", "undelivered")
    }


@pytest.mark.parametrize("lane", list(Lane))
def test_message_reaches_its_lane_raw_and_no_other(topic_arn: str, client: str, lane: Lane) -> None:
    body = f"[{uuid.uuid4()}]"
    aws.sns().publish(
        TopicArn=topic_arn,
        Message=body,
        MessageAttributes={"lane": {"DataType": "String", "StringValue": lane.value}},
    )
    url = topology.lane_queue_url(client, lane)
    messages = aws.sqs().receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"]
    assert [message["Body"] for message in messages] == [body]
    (other,) = set(Lane) - {lane}
    idle = aws.sqs().receive_message(
        QueueUrl=topology.lane_queue_url(client, other), WaitTimeSeconds=0
    )
    assert "Messages" not in idle
    aws.sqs().delete_message(QueueUrl=url, ReceiptHandle=messages[0]["ReceiptHandle"])


def test_dead_letters_of_both_lanes_go_to_the_dead_queue(client: str) -> None:
    for lane in Lane:
        attributes = aws.sqs().get_queue_attributes(
            QueueUrl=topology.lane_queue_url(client, lane), AttributeNames=["RedrivePolicy"]
        )["Attributes"]
        target = json.loads(attributes["RedrivePolicy"])["deadLetterTargetArn"]
        assert target.endswith(f":usercast-{client}-dead")


@pytest.mark.parametrize("name", ["", "Billing", "a b", "x" * 41, "-a", "é", "a\n", "users"])
def test_name_that_fits_no_queue_or_is_the_topics_is_refused(topic_arn: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match="client name"):
        topology.deploy_client(name, topic_arn=topic_arn)
    with pytest.raises(ConfigurationError, match="client name"):
        topology.remove_client(name)
    topology.require_topic(topic_arn)


def subscribed(topic_arn: str) -> str:
    pages = aws.sns().get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic_arn)
    return " ".join(found["Endpoint"] for page in pages for found in page["Subscriptions"])


def test_removed_client_leaves_no_queue_and_no_subscription(topic_arn: str, client: str) -> None:
    name = f"c{uuid.uuid4().hex[:8]}"
    topology.deploy_client(name, topic_arn=topic_arn)
    assert f"usercast-{name}-live" in subscribed(topic_arn)
    topology.remove_client(name)
    assert "QueueUrls" not in aws.sqs().list_queues(QueueNamePrefix=f"usercast-{name}-")
    assert name not in subscribed(topic_arn)
    assert f"usercast-{client}-live" in subscribed(topic_arn)
    topology.remove_client(name)
    # And it may come back.
    topology.deploy_client(name, topic_arn=topic_arn)
    assert f"usercast-{name}-bulk" in subscribed(topic_arn)
    topology.remove_client(name)


def test_stack_whose_making_failed_is_made_anew(
    topic_arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"c{uuid.uuid4().hex[:8]}"
    topology.deploy_client(name, topic_arn=topic_arn)
    url = topology.queue_url(name, "dead")
    aws.sqs().send_message(QueueUrl=url, MessageBody="of before")
    monkeypatch.setattr(topology, "_state", lambda stack: "ROLLBACK_COMPLETE")
    topology.deploy_client(name, topic_arn=topic_arn)
    counts = aws.sqs().get_queue_attributes(
        QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"]
    )
    assert counts["Attributes"] == {"ApproximateNumberOfMessages": "0"}
    topology.remove_client(name)


def test_stack_that_cannot_be_deleted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DeleteStack")

    def delete_stack(**_options: str) -> None:
        raise refused

    monkeypatch.setattr(aws.cloudformation(), "delete_stack", delete_stack)
    with pytest.raises(TopologyError, match=r"usercast-nobody.*AccessDenied.*events"):
        topology.remove_client("nobody")


def test_who_may_not_look_at_stacks_is_told_the_other_way(
    topic_arn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DescribeStacks")

    def describe_stacks(**_options: str) -> None:
        raise refused

    monkeypatch.setattr(aws.cloudformation(), "describe_stacks", describe_stacks)
    with pytest.raises(TopologyError, match=r"AccessDenied.*client.yaml.*--without-queues"):
        topology.deploy_client("nobody", topic_arn=topic_arn)


def test_missing_queue_says_how_to_create_it() -> None:
    with pytest.raises(ConfigurationError, match="clients add nobody"):
        topology.lane_queue_url("nobody", Lane.LIVE)


def test_missing_topic_says_how_to_create_it(topic_arn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"USERCAST_TOPIC_ARN.*deploy_topic"):
        topology.require_topic(topic_arn + "-not")


def test_topic_and_queues_are_encrypted_with_one_key(topic_arn: str, client: str) -> None:
    topic = aws.sns().get_topic_attributes(TopicArn=topic_arn)["Attributes"]
    assert ":key/" in topic["KmsMasterKeyId"]
    assert {key_of(client, kind) for kind in KINDS} == {topic["KmsMasterKeyId"]}


KINDS = ("live", "bulk", "dead", "undelivered")


def key_of(client: str, kind: str) -> str | None:
    found = aws.sqs().get_queue_attributes(
        QueueUrl=topology.queue_url(client, kind), AttributeNames=["KmsMasterKeyId"]
    )
    return found.get("Attributes", {}).get("KmsMasterKeyId")


#: LocalStack takes one that AWS does not have for us-east-1.
REGIONS = iter(("us-west-1", "us-west-2"))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A region where nothing has been deployed."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", next(REGIONS))
    aws._forget()
    yield
    aws._forget()


TOPIC_BEFORE_THE_KEY = """
Resources:
  Topic:
    Type: AWS::SNS::Topic
    Properties:
      TopicName: usercast-users
Outputs:
  TopicArn:
    Value: !Ref Topic
"""


def before_the_key(template: str) -> str:
    """A client's template as it was before its queues were encrypted."""
    template = re.sub(r"  KeyArn:\n(?: {4}.*\n)+", "", template)
    template = re.sub(r" +Kms.*\n", "", template)
    # All that dead letters' policy says; and SQS takes none that says nothing.
    template = re.sub(r"  DeadPolicy:\n(?: {4}.*\n)+", "", template)
    return re.sub(r" +- Sid: OnlyByTls\n(?: {12}.*\n)+", "", template)


def test_stacks_of_before_the_key_are_brought_up_to_date(
    elsewhere: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "topic.yaml").write_text(TOPIC_BEFORE_THE_KEY)
    old = before_the_key((topology._TEMPLATES / "client.yaml").read_text())
    (tmp_path / "client.yaml").write_text(old)
    with monkeypatch.context() as patch:
        patch.setattr(topology, "_TEMPLATES", tmp_path)
        topic_arn = topology.deploy_topic()
        parameters = {"Client": "veteran", "TopicArn": topic_arn}
        urls = topology._deploy("usercast-veteran", "client.yaml", parameters)
    assert {key_of("veteran", kind) for kind in KINDS} == {None}
    lane = {"lane": {"DataType": "String", "StringValue": "live"}}
    aws.sns().publish(TopicArn=topic_arn, Message="of before", MessageAttributes=lane)
    # A client cannot be first: there is no key yet.
    with pytest.raises(TopologyError, match=r"usercast-users.* names no key.*deploy_topic"):
        topology.deploy_client("veteran", topic_arn=topic_arn)

    assert topology.deploy_topic() == topic_arn
    assert topology.deploy_client("veteran", topic_arn=topic_arn) == urls
    (key,) = {key_of("veteran", kind) for kind in KINDS}
    assert key
    assert ":key/" in key
    # Nothing was made anew: what waited waits, and what comes arrives once.
    aws.sns().publish(TopicArn=topic_arn, Message="of after", MessageAttributes=lane)
    found = [
        message["Body"]
        for _ in range(2)
        for message in aws.sqs()
        .receive_message(QueueUrl=urls["Live"], WaitTimeSeconds=1)
        .get("Messages", [])
    ]
    assert sorted(found) == ["of after", "of before"]


def test_client_without_a_topic_says_how_to_create_it(elsewhere: None) -> None:
    with pytest.raises(TopologyError, match=r"is not there.*deploy_topic"):
        topology.deploy_client("early", topic_arn="arn:aws:sns:xx:000000000000:usercast-users")
