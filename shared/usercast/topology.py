"""The AWS topology: deploys the templates of infra/aws and finds what they made.

Names are fixed by the contract: topic ``usercast-users``; for each client the queues
``usercast-<client>-live``, ``-bulk``, ``-dead`` and ``-undelivered``.
"""

import os
import re
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, WaiterError

from usercast import aws
from usercast.contract import Lane
from usercast.errors import ConfigurationError, TopologyError

TOPIC_STACK = "usercast-users"
#: A queue's name has at most 80 characters; "usercast-" and "-undelivered" take 21 of them.
CLIENT_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")

_TEMPLATES = Path(
    os.environ.get("USERCAST_TEMPLATES_DIR") or Path(__file__).parents[2] / "infra" / "aws"
)
_WAIT = {"Delay": 0.3, "MaxAttempts": 1000}
#: A stack in one of these was never used and cannot be updated: it must be deleted first.
_NEVER_MADE = {"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}


def deploy_topic() -> str:
    """Create or update the topic and its key; returns the topic's ARN. Safe to repeat."""
    return _deploy(TOPIC_STACK, "topic.yaml", {})["TopicArn"]


def deploy_client(name: str, *, topic_arn: str) -> dict[str, str]:
    """Create or update one client's queues and subscriptions; returns the queues' URLs by name.

    Raises:
        ConfigurationError: the name does not fit a queue's name.
        TopologyError: there is no key to encrypt them with, or CloudFormation refused, or rolled
            back.
    """
    stack = _client_stack(name)
    parameters = {"Client": name, "TopicArn": topic_arn, "KeyArn": _key_arn()}
    return _deploy(stack, "client.yaml", parameters)


def remove_client(name: str) -> None:
    """Delete one client's queues, with all that waits in them, and its subscriptions.

    Returns when they are gone; safe to repeat.

    Raises:
        ConfigurationError: the name does not fit a queue's name, or AWS cannot be reached.
        TopologyError: CloudFormation refused; what is left can be tried again.
    """
    stack = _client_stack(name)
    try:
        _delete(stack)
    except (ClientError, WaiterError) as error:
        raise TopologyError(
            f"stack {stack} could not be deleted, try it again: {error}. "
            "The stack's events in CloudFormation name what stands in the way"
        ) from error
    except BotoCoreError as error:
        raise unreachable(error) from error


def require_client_name(name: str) -> None:
    """Return when a client may have this name.

    Raises:
        ConfigurationError: it does not fit a queue's name, or its stack would be the topic's.
    """
    if not CLIENT_NAME.fullmatch(name):
        raise ConfigurationError(
            f"client name {name!r}: use 1 to 40 of a-z, 0-9 and '-', starting with a letter"
        )
    if f"usercast-{name}" == TOPIC_STACK:
        raise ConfigurationError(f"client name {name!r}: the topic has it; choose another one")


def lane_queue_url(client: str, lane: Lane) -> str:
    """The URL of one of a client's two lanes.

    Raises:
        ConfigurationError: the queue does not exist, or SQS cannot be reached.
    """
    return queue_url(client, lane.value)


def queue_url(client: str, kind: str) -> str:
    """The URL of one of a client's four queues: ``live``, ``bulk``, ``dead`` or ``undelivered``.

    Raises:
        ConfigurationError: the queue does not exist, or SQS cannot be reached.
    """
    name = f"usercast-{client}-{kind}"
    try:
        return aws.sqs().get_queue_url(QueueName=name)["QueueUrl"]
    except aws.sqs().exceptions.QueueDoesNotExist as error:
        raise ConfigurationError(
            f"USERCAST_CLIENT: there is no queue {name} at {aws.endpoint()}; "
            f"register it on the master: manage.py clients add {client}"
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise unreachable(error) from error


def require_topic(topic_arn: str) -> None:
    """Return when the topic exists.

    Raises:
        ConfigurationError: it does not, or SNS cannot be reached.
    """
    try:
        aws.sns().get_topic_attributes(TopicArn=topic_arn)
    except (aws.sns().exceptions.NotFoundException, aws.sns().exceptions.InvalidParameterException):
        raise ConfigurationError(
            f"USERCAST_TOPIC_ARN: there is no topic {topic_arn} at {aws.endpoint()}; "
            "create it with: manage.py deploy_topic"
        ) from None
    except (BotoCoreError, ClientError) as error:
        raise unreachable(error) from error


def unreachable(error: Exception) -> ConfigurationError:
    """The error for AWS not answering, naming the variable that says where it is."""
    if isinstance(error, NoCredentialsError):
        return ConfigurationError(
            "AWS_ACCESS_KEY_ID: no credentials; set it and AWS_SECRET_ACCESS_KEY, or give the "
            "machine a role"
        )
    return ConfigurationError(
        f"AWS_ENDPOINT_URL: no answer from SNS and SQS at {aws.endpoint()}: {error}"
    )


def _client_stack(name: str) -> str:
    require_client_name(name)
    return f"usercast-{name}"


def _deploy(stack: str, template: str, parameters: dict[str, str]) -> dict[str, str]:
    cloudformation = aws.cloudformation()
    change: dict[str, object] = {
        "StackName": stack,
        "TemplateBody": (_TEMPLATES / template).read_text(),
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
    }
    try:
        state = _state(stack)
        if state in _NEVER_MADE:
            _delete(stack)
            state = None
        if state:
            _update(change)
        else:
            cloudformation.create_stack(**change)  # type: ignore[arg-type]
            cloudformation.get_waiter("stack_create_complete").wait(
                StackName=stack,
                WaiterConfig=_WAIT,  # type: ignore[arg-type]
            )
        return _outputs(stack)
    except (ClientError, WaiterError) as error:
        raise TopologyError(f"stack {stack} from {template}: {error}") from error
    except BotoCoreError as error:
        raise unreachable(error) from error


def _key_arn() -> str:
    """The key of the topic's stack, which also encrypts the queues."""
    try:
        if _state(TOPIC_STACK) and (key := _outputs(TOPIC_STACK).get("KeyArn")):
            return key
        raise TopologyError(
            f"stack {TOPIC_STACK} is not there, or names no key. Bring it up to date first, with: "
            "manage.py deploy_topic"
        )
    except ClientError as error:
        raise TopologyError(
            f"stack {TOPIC_STACK}: {error}. Who may not make queues has others make them, from "
            "infra/aws/client.yaml, and registers with: manage.py clients add --without-queues"
        ) from error
    except BotoCoreError as error:
        raise unreachable(error) from error


def _outputs(stack: str) -> dict[str, str]:
    found = aws.cloudformation().describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in found.get("Outputs", [])}


def _state(stack: str) -> str | None:
    """CloudFormation's word for how the stack stands; None if there is none."""
    try:
        return aws.cloudformation().describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def _delete(stack: str) -> None:
    """Delete a stack and wait until it is gone; one that is not there is gone."""
    aws.cloudformation().delete_stack(StackName=stack)
    aws.cloudformation().get_waiter("stack_delete_complete").wait(
        StackName=stack,
        WaiterConfig=_WAIT,  # type: ignore[arg-type]
    )


def _update(change: dict[str, object]) -> None:
    try:
        aws.cloudformation().update_stack(**change)  # type: ignore[arg-type]
    except ClientError as error:
        if "No updates are to be performed" in str(error):
            return
        raise
    aws.cloudformation().get_waiter("stack_update_complete").wait(
        StackName=str(change["StackName"]),
        WaiterConfig=_WAIT,  # type: ignore[arg-type]
    )
