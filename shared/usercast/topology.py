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


def deploy_topic() -> str:
    """Create or update the topic; returns its ARN. Safe to repeat."""
    return _deploy(TOPIC_STACK, "topic.yaml", {})["TopicArn"]


def deploy_client(name: str, *, topic_arn: str) -> dict[str, str]:
    """Create or update one client's queues and subscriptions; returns the queues' URLs by name.

    Raises:
        ConfigurationError: the name does not fit a queue's name.
        TopologyError: CloudFormation refused, or rolled back.
    """
    if not CLIENT_NAME.fullmatch(name):
        raise ConfigurationError(
            f"client name {name!r}: use 1 to 40 of a-z, 0-9 and '-', starting with a letter"
        )
    return _deploy(f"usercast-{name}", "client.yaml", {"Client": name, "TopicArn": topic_arn})


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
            f"create it with: manage.py deploy_client {client}"
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
        if _exists(stack):
            _update(change)
        else:
            cloudformation.create_stack(**change)  # type: ignore[arg-type]
            cloudformation.get_waiter("stack_create_complete").wait(
                StackName=stack,
                WaiterConfig=_WAIT,  # type: ignore[arg-type]
            )
        outputs = cloudformation.describe_stacks(StackName=stack)["Stacks"][0].get("Outputs", [])
    except (ClientError, WaiterError) as error:
        raise TopologyError(f"stack {stack} from {template}: {error}") from error
    except BotoCoreError as error:
        raise unreachable(error) from error
    return {output["OutputKey"]: output["OutputValue"] for output in outputs}


def _exists(stack: str) -> bool:
    try:
        aws.cloudformation().describe_stacks(StackName=stack)
    except ClientError as error:
        if "does not exist" in str(error):
            return False
        raise
    return True


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
