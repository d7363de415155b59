"""Runs a service's process and writes down its calls to AWS, and on request where it spends time.

``python -m bench.probe [--sample] OUT celery …`` or ``… OUT python manage.py …``: the calls go to
``OUT.calls``, the samples to ``OUT.samples``, one JSON array a line, each beginning with the time.
"""

import json
import os
import runpy
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import boto3

SAMPLE_SECONDS = 0.005


class Log:
    """A file of JSON lines; each is written whole, also when the process is killed after it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, *values: object) -> None:
        os.write(self._fd, json.dumps([time.time(), *values]).encode() + b"\n")


def count_calls(log: Log) -> None:
    """Write down every call of boto3's default session: operation, requests, bytes, messages."""
    boto3.setup_default_session()
    events = boto3.DEFAULT_SESSION.events

    def before(params: dict[str, Any], context: dict[str, Any], **_rest: Any) -> None:
        context["bench_sent"] = params

    def after(parsed: dict[str, Any], model: Any, context: dict[str, Any], **_rest: Any) -> None:
        sent = context.get("bench_sent", {})
        requests = 1 + parsed.get("ResponseMetadata", {}).get("RetryAttempts", 0)
        messages = sent.get("PublishBatchRequestEntries") or parsed.get("Messages") or []
        payload = sum(map(payload_bytes, messages)) or payload_bytes(sent)
        service = model.service_model.service_name
        log.add(service, model.name, requests, payload, len(messages))

    events.register("before-parameter-build.*.*", before)
    events.register("after-call.*.*", after)


def payload_bytes(message: dict[str, Any]) -> int:
    """What AWS counts of a message: its body and its attributes' names, types and values."""
    body = message.get("Message") or message.get("Body") or message.get("MessageBody") or ""
    attributes = message.get("MessageAttributes", {})
    texts = [body, *attributes]
    texts += [str(part) for attribute in attributes.values() for part in attribute.values()]
    return sum(len(text.encode()) for text in texts)


def sample(log: Log) -> None:
    """Every 5 ms, note where each thread within Usercast's code is, and its CPU time since."""
    own = threading.get_ident()
    used: dict[int, float] = {}
    while True:
        time.sleep(SAMPLE_SECONDS)
        for ident, frame in sys._current_frames().items():
            now = time.clock_gettime(time.pthread_getcpuclockid(ident))
            spent = now - used.get(ident, now)
            used[ident] = now
            place = _place(frame)
            if place and ident != own:
                log.add(place, _name(frame), spent)


def _place(leaf: FrameType) -> str | None:
    """The innermost line of the service's own code; None for a thread that has none."""
    frame: FrameType | None = leaf
    while frame is not None:
        if "/usercast" in frame.f_code.co_filename:
            return f"{_name(frame)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def _name(frame: FrameType) -> str:
    code = frame.f_code
    return f"{Path(code.co_filename).stem}.{code.co_qualname}"


def main(arguments: list[str]) -> None:
    sampled = arguments[0] == "--sample"
    out, program, *rest = arguments[sampled:]
    count_calls(Log(Path(f"{out}.calls")))
    if sampled:
        log = Log(Path(f"{out}.samples"))
        threading.Thread(target=sample, args=[log], name="sampler", daemon=True).start()
    run([program, *rest] if program != "python" else rest)


def run(command: list[str]) -> None:
    """Become ``manage.py …``, ``-m module …`` or ``celery …`` in this very process."""
    if command[0].endswith(".py"):
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
    else:
        sys.argv = command[1:] if command[0] == "-m" else command
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
