"""Finding topic and queues, against moto; and what is said when AWS is configured wrongly."""

from collections.abc import Iterator

import boto3
import pytest
from moto import mock_aws

from usercast import aws, topology
from usercast.contract import Lane
from usercast.errors import ConfigurationError


@pytest.fixture
def clean_aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No endpoint of the test servers, and clients that are made anew."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # It keeps credentials.
    for client in (aws.sns, aws.sqs):
        client.cache_clear()
    yield monkeypatch
    for client in (aws.sns, aws.sqs):
        client.cache_clear()


def test_queue_and_topic_are_found_by_name(clean_aws: pytest.MonkeyPatch) -> None:
    with mock_aws():
        url = aws.sqs().create_queue(QueueName="usercast-billing-live")["QueueUrl"]
        arn = aws.sns().create_topic(Name="usercast-users")["TopicArn"]
        assert topology.lane_queue_url("billing", Lane.LIVE) == url
        topology.require_topic(arn)


def test_missing_region_is_named(clean_aws: pytest.MonkeyPatch) -> None:
    clean_aws.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match="AWS_DEFAULT_REGION"):
        topology.lane_queue_url("billing", Lane.LIVE)


def test_endpoint_without_scheme_is_named(clean_aws: pytest.MonkeyPatch) -> None:
    clean_aws.setenv("AWS_ENDPOINT_URL", "localhost:4566")
    with pytest.raises(ConfigurationError, match="AWS_ENDPOINT_URL"):
        topology.require_topic("arn:aws:sns:eu-west-1:000000000000:usercast-users")


def test_missing_credentials_are_named(clean_aws: pytest.MonkeyPatch) -> None:
    clean_aws.delenv("AWS_ACCESS_KEY_ID")
    clean_aws.delenv("AWS_SECRET_ACCESS_KEY")
    clean_aws.setenv("AWS_EC2_METADATA_DISABLED", "true")
    clean_aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="AWS_ACCESS_KEY_ID"):
        topology.require_topic("arn:aws:sns:eu-west-1:000000000000:usercast-users")


def test_nobody_answering_names_the_endpoint(clean_aws: pytest.MonkeyPatch) -> None:
    clean_aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"AWS_ENDPOINT_URL.*127\.0\.0\.1:1"):
        topology.lane_queue_url("billing", Lane.BULK)
