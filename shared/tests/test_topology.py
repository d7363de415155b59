"""Against LocalStack: moto knows no subscription with a filter in CloudFormation."""

import json
import uuid

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


def test_missing_queue_says_how_to_create_it() -> None:
    with pytest.raises(ConfigurationError, match="clients add nobody"):
        topology.lane_queue_url("nobody", Lane.LIVE)


def test_missing_topic_says_how_to_create_it(topic_arn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"USERCAST_TOPIC_ARN.*deploy_topic"):
        topology.require_topic(topic_arn + "-not")
