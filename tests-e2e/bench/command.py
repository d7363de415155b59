"""A command of a service, run to its end and measured."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench.system import BenchFailed
from embedded.deployment import Deployment


@dataclass(frozen=True)
class Run:
    """What it printed, how long it took, the start of Python included, and its peak memory."""

    output: str
    seconds: float
    peak_bytes: int


def measured(
    deployment: Deployment, service: str, *arguments: str, expected: int = 0, **variables: Any
) -> Run:
    """Run a service's ``manage.py``.

    Raises:
        BenchFailed: it ended with another exit code than the expected one.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=deployment.services[service].directory,
        env={**deployment.environment(service), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode != expected:
        ended = f"{arguments[0]} ended with {process.returncode}"
        raise BenchFailed(f"{ended}: {output[-2000:]}")
    return Run(output, seconds, used.ru_maxrss * 1024)
