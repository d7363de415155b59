"""Against LocalStack: moto knows no subscription with a filter in CloudFormation."""

import json
import uuid

import pytest

from usercast import aws, topology
from usercast.contract import Lane
from usercast.errors import ConfigurationError


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


@pytest.mark.parametrize("name", ["", "Billing", "a b", "x" * 41, "-a", "é"])
def test_name_that_fits_no_queue_is_refused(topic_arn: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match="client name"):
        topology.deploy_client(name, topic_arn=topic_arn)


def test_missing_queue_says_how_to_create_it() -> None:
    with pytest.raises(ConfigurationError, match="deploy_client nobody"):
        topology.lane_queue_url("nobody", Lane.LIVE)


def test_missing_topic_says_how_to_create_it(topic_arn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"USERCAST_TOPIC_ARN.*deploy_topic"):
        topology.require_topic(topic_arn + "-not")
