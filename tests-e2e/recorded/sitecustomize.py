"""Has a process write down each call that it makes to AWS, for test_cloudformation.

Python imports a module of this name by itself, before the program, from wherever PYTHONPATH leads.
"""

import json
import os
from pathlib import Path
from typing import Any

import boto3


def note(params: dict[str, Any], model: Any, **_kwargs: Any) -> None:
    """Append a line; short enough that threads do not mix theirs."""
    resource = {
        name: params[name]
        for name in ("TopicArn", "QueueUrl", "QueueName", "StackName")
        if name in params
    }
    call = {"service": model.service_model.service_name, "operation": model.name, **resource}
    with Path(os.environ["RECORDED_CALLS"]).open("a") as file:
        file.write(json.dumps(call) + "\n")


if os.environ.get("RECORDED_CALLS"):
    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register("provide-client-params", note)
