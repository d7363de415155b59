"""Clients of SNS, SQS and CloudFormation, with time-outs that suit a pipeline.

Endpoint, region and credentials come from the environment as boto3 reads it (``AWS_ENDPOINT_URL``,
``AWS_DEFAULT_REGION``, ``AWS_ACCESS_KEY_ID`` or an instance role).
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import NoRegionError

from usercast.errors import ConfigurationError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

#: For as long a receive may wait for messages. SQS allows 20 s; a process that is asked to stop
#: finishes its receive first, and 3 s of waiting cost about half a dollar a month and queue.
LONG_POLL_SECONDS = 3
_SQS_READ_SECONDS = LONG_POLL_SECONDS + 3


def _config(*, read_timeout_seconds: int) -> Config:
    return Config(
        connect_timeout=2,
        read_timeout=read_timeout_seconds,
        # The outbox and the queues retry for as long as it takes; here only a hiccup is bridged.
        retries={"mode": "standard", "total_max_attempts": 2},
        tcp_keepalive=True,
        max_pool_connections=20,
    )


@contextmanager
def _clear_errors() -> Iterator[None]:
    """boto3 refuses to make a client for two reasons; say which variable is behind each."""
    try:
        yield
    except NoRegionError:
        raise ConfigurationError(
            "AWS_DEFAULT_REGION: not set; name the region of the topic, such as eu-west-1"
        ) from None
    except ValueError as error:
        raise ConfigurationError(f"AWS_ENDPOINT_URL: {error}") from error


@cache
def sns() -> "SNSClient":
    """SNS, answering or failing within 12 s: two attempts of 2 s to connect and 3 s to read."""
    with _clear_errors():
        return boto3.client("sns", config=_config(read_timeout_seconds=3))


@cache
def sqs() -> "SQSClient":
    """SQS, patient enough for a long poll; each of two attempts answers or fails within 8 s."""
    with _clear_errors():
        return boto3.client("sqs", config=_config(read_timeout_seconds=_SQS_READ_SECONDS))


@cache
def cloudformation() -> "CloudFormationClient":
    """CloudFormation, for deploying the topology."""
    with _clear_errors():
        return boto3.client("cloudformation", config=_config(read_timeout_seconds=30))


def _forget() -> None:
    for client in (sns, sqs, cloudformation):
        client.cache_clear()


# A connection shared with a forked worker would carry the answers of both.
os.register_at_fork(after_in_child=_forget)


def endpoint() -> str:
    """Where SNS and SQS are spoken to, for messages to people."""
    return sns().meta.endpoint_url
