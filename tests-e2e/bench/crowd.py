"""The bench's hold on a crowd of WebSockets (``bench.crowd_program``), a process of its own."""

import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import msgspec
import psutil

from bench.crowd_program import Account
from bench.system import CLIENT, BenchFailed
from embedded.deployment import Deployment
from embedded.ports import LOOPBACK
from embedded.process import STACK_VARIABLE, log_tail

ANSWER_SECONDS = 120.0


class Crowd:
    """Its sockets are those of one signed-in operator, at the dashboards of the client."""

    def __init__(self, child: subprocess.Popen[bytes], deployment: Deployment) -> None:
        self._child = child
        self._log = deployment.log("crowd")
        service = deployment.clients[CLIENT]
        headers = {"Origin": service.url, "Cookie": _cookie(deployment)}
        self._ask(LOOPBACK, service.port, headers)

    @property
    def process(self) -> psutil.Process:
        return psutil.Process(self._child.pid)

    def open(self, count: int) -> float:
        """Have so many sockets open, together with those that are; returns the seconds it took."""
        began = time.monotonic()
        self._ask("open", count)
        return time.monotonic() - began

    def slowest(self) -> int | None:
        """Up to which cursor all sockets have been told; None if there is no socket."""
        return self._ask("slowest")

    def account(self) -> Account:
        """What has come since the last account."""
        return msgspec.convert(self._ask("account"), Account, strict=False)

    def _ask(self, *command: Any) -> Any:
        answer = b""
        with suppress(BrokenPipeError):
            os.write(self._child.stdin.fileno(), json.dumps(command).encode() + b"\n")
            if select.select([self._child.stdout], [], [], ANSWER_SECONDS)[0]:
                answer = self._child.stdout.readline()
        if not answer:
            raise BenchFailed(f"The crowd did not answer {command[0]!r}:\n{log_tail(self._log)}")
        return msgspec.json.decode(answer)


@contextmanager
def gathered(deployment: Deployment) -> Iterator[Crowd]:
    """A crowd that has no sockets yet; they are gone at the end."""
    with (
        deployment.log("crowd").open("ab") as log,
        subprocess.Popen(
            [sys.executable, "-m", "bench.crowd_program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, STACK_VARIABLE: str(deployment.state_dir)},
            # The terminal's ctrl-C is for the bench. The crowd ends when its standard input does,
            # however the bench has ended.
            start_new_session=True,
        ) as child,
    ):
        try:
            yield Crowd(child, deployment)
        finally:
            child.kill()


def _cookie(deployment: Deployment) -> str:
    """What a browser sends once the client's operator has signed in."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    login = json.loads((deployment.state_dir / "credentials.json").read_text())["clients"][CLIENT]
    with httpx.Client(base_url=login["url"], trust_env=False, timeout=20) as browser:
        browser.get("/login/").raise_for_status()
        token = next(value for name, value in browser.cookies.items() if name.endswith("_csrf"))
        form = {"username": login["username"], "password": login["password"]}
        answer = browser.post("/login/", data={**form, "csrfmiddlewaretoken": token})
        if answer.status_code != httpx.codes.FOUND:
            raise BenchFailed(f"{CLIENT} did not sign its operator in: {answer.status_code}.")
        return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
