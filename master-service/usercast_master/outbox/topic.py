"""The topic: takes messages from ``outbox.publisher``, hands them to SNS, up to ten in a call."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from usercast import aws
from usercast.contract import CONTENT_TYPE, Lane, Message
from usercast.errors import PublishFailed

if TYPE_CHECKING:
    from mypy_boto3_sns.type_defs import PublishBatchRequestEntryTypeDef

T = TypeVar("T")

#: PublishBatch takes at most 10 entries and 256 KiB in all, attributes included.
MAX_BATCH_ENTRIES = 10
MAX_BATCH_BYTES = 256 * 1024
#: What our attributes take at most, names, types and values.
ATTRIBUTES_BYTES = 256
MAX_MESSAGE_BYTES = MAX_BATCH_BYTES - ATTRIBUTES_BYTES
#: SNS silently drops a message with more than 10 when it hands it on raw; half of that is ours.
MAX_ATTRIBUTES = 5
#: SNS complains about what is in a call, rather than about who calls, how often or where.
_ABOUT_THE_CONTENT = {"InvalidParameter", "InvalidParameterValue", "ParameterValueInvalid",
                      "ValidationError", "BatchRequestTooLong"}  # fmt: skip


class Outgoing(NamedTuple):
    """A message for a lane, and the trace that its work is part of; empty for none."""

    lane: Lane
    message: Message
    traceparent: str = ""


class Refusal(NamedTuple):
    """Why SNS did not take a message.

    ``blamed``: SNS says that the sender is at fault, so the message may spoil others beside it.
    ``for_its_content``: for what is in it, so sending the same again will not help.
    """

    reason: str
    blamed: bool
    for_its_content: bool


def batches(items: Iterable[T], *, size_bytes: Callable[[T], int]) -> Iterator[list[T]]:
    """Items in groups that one PublishBatch takes."""
    group: list[T] = []
    group_bytes = 0
    for item in items:
        size = size_bytes(item) + ATTRIBUTES_BYTES
        if group and (len(group) == MAX_BATCH_ENTRIES or group_bytes + size > MAX_BATCH_BYTES):
            yield group
            group, group_bytes = [], 0
        group.append(item)
        group_bytes += size
    if group:
        yield group


def publish(messages: Sequence[Outgoing]) -> list[Refusal | None]:
    """Publish up to ten messages; for each, None when SNS took it, or why it did not.

    Raises:
        PublishFailed: SNS cannot be reached, is busy, or refuses this publisher altogether.
    """
    try:
        response = aws.sns().publish_batch(
            TopicArn=settings.USERCAST_TOPIC_ARN,
            PublishBatchRequestEntries=[
                _entry(position, outgoing) for position, outgoing in enumerate(messages)
            ],
        )
    except ClientError as error:
        if error.response["Error"]["Code"] not in _ABOUT_THE_CONTENT:
            raise PublishFailed(f"SNS at {aws.endpoint()}: {error}") from error
        if len(messages) > 1:
            # One of them spoils the call for all: which, each alone will tell.
            return [refusal for message in messages for refusal in publish([message])]
        return [Refusal(str(error), blamed=True, for_its_content=True)]
    except BotoCoreError as error:
        raise PublishFailed(f"SNS at {aws.endpoint()} does not answer: {error}") from error
    refusals: list[Refusal | None] = [None] * len(messages)
    for failed in response.get("Failed", []):
        reason = f"{failed['Code']}: {failed.get('Message', '')}".removesuffix(": ")
        # Also that a key is disabled counts as the sender's fault: that will pass.
        refusals[int(failed["Id"])] = Refusal(
            reason,
            blamed=failed["SenderFault"],
            for_its_content=failed["SenderFault"] and failed["Code"] in _ABOUT_THE_CONTENT,
        )
    return refusals


def _entry(position: int, outgoing: Outgoing) -> "PublishBatchRequestEntryTypeDef":
    lane, message, traceparent = outgoing
    attributes = {"lane": lane.value, "content-type": CONTENT_TYPE}
    if traceparent:
        attributes["traceparent"] = traceparent
    if message.content_encoding:
        attributes["content-encoding"] = message.content_encoding
    if len(attributes) > MAX_ATTRIBUTES:
        raise AssertionError(f"{len(attributes)} message attributes; at most {MAX_ATTRIBUTES}")
    return {
        "Id": str(position),
        "Message": message.body,
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    }
