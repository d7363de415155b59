"""Runs processes and commands of the system with each call that they make to AWS written down.

Python does the writing down in each of them: recorded/sitecustomize.py, which it imports first.
"""

import json
import os
from pathlib import Path

from embedded.deployment import Deployment
from embedded.process import Process
from embedded.service import REGION

ACCOUNT = "000000000000"


class Recorder:
    """Records into one file for each policy that the calls are to be held against."""

    def __init__(self, system: Deployment, directory: Path) -> None:
        self._system = system
        self._directory = directory

    def variables(self, policy: str, environment: dict[str, str]) -> dict[str, str]:
        here = Path(__file__).parent / "recorded"
        return {
            "RECORDED_CALLS": str(self._directory / policy),
            "PYTHONPATH": os.pathsep.join([str(here), environment["PYTHONPATH"]]),
        }

    def instead_of(self, name: str, policy: str) -> Process:
        """Stop a process of the system; start it again, recorded."""
        self._system.stop(name)
        spec = self._system.processes[name]
        process = Process(
            spec.command,
            env={**spec.env, **self.variables(policy, spec.env)},
            cwd=spec.cwd,
            log=self._directory / f"{name}.log",
        )
        process.start()
        return process

    def manage(self, owner: str, policy: str, *arguments: str) -> str:
        """Run a service's command, recorded."""
        recorded = self.variables(policy, self._system.environment(owner))
        return self._system.manage(owner, *arguments, **recorded)

    def calls(self, policy: str) -> set[tuple[str, str]]:
        """The actions called so far, with what they were called on."""
        path = self._directory / policy
        lines = path.read_text().splitlines() if path.exists() else []
        return {self._call(**json.loads(line)) for line in lines}

    def _call(
        self,
        *,
        service: str,
        operation: str,
        TopicArn: str = "",  # noqa: N803 (as AWS has it)
        QueueUrl: str = "",  # noqa: N803
        QueueName: str = "",  # noqa: N803
        StackName: str = "",  # noqa: N803
    ) -> tuple[str, str]:
        names = {
            "sns": TopicArn,
            "sqs": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{QueueName or QueueUrl.rpartition('/')[2]}",
            "cloudformation": (
                f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{StackName}/some-id"
            ),
        }
        # There is no service beyond these three, and no right to a batch.
        return f"{service}:{operation.removesuffix('Batch')}", names[service]
