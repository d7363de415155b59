"""A stand-in for Filebeat: does to log files what filebeat.yml says, and sends what comes of it."""

import json
import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import yaml

from bulk_stub import elasticsearch
from observability import DIRECTORY

FILEBEAT = DIRECTORY / "filebeat" / "filebeat.yml"
BATCH_LINES = 1600  # Filebeat's own.

Document = dict[str, Any]


class Refusal(NamedTuple):
    """A line that the index did not take, and why."""

    path: Path
    line: int
    kind: str
    reason: str
    document: Document


class Shipped(NamedTuple):
    """A line as it is sent."""

    path: Path
    line: int
    document: Document


def ship(paths: Iterable[Path], template: dict[str, Any]) -> list[Refusal]:
    """Send all lines of log files to a strict stub of Elasticsearch; the lines it refused.

    Args:
        paths: as LOG_FILE or a process's output.
        template: of the index, its components in it (``observability.index_template``).

    Raises:
        ValueError: a file has no line that Filebeat would send; that would prove nothing.
    """
    config = yaml.safe_load(FILEBEAT.read_text())
    refusals: list[Refusal] = []
    with elasticsearch() as stub, httpx.Client(base_url=stub.url, trust_env=False) as http:
        stub.install(template)
        for path in paths:
            lines = shipped(path)
            sent = 0
            while batch := list(islice(lines, BATCH_LINES)):
                sent += len(batch)
                refusals += _sent(http, config["output.elasticsearch"]["index"], batch)
            if not sent:
                raise ValueError(f"{path} has no line of Usercast's")
    return refusals


def _sent(http: httpx.Client, index: str, batch: list[Shipped]) -> Iterator[Refusal]:
    lines = [f'{{"create": {{}}}}\n{json.dumps(one.document)}\n' for one in batch]
    answer = http.post(
        f"/{index}/_bulk",
        content="".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
    )
    for one, item in zip(batch, answer.raise_for_status().json()["items"], strict=True):
        if error := item["create"].get("error"):
            yield Refusal(one.path, one.line, error["type"], error["reason"], one.document)


def shipped(path: Path) -> Iterator[Shipped]:
    """The lines of a file that Filebeat would send, each as it would."""
    [drop, include] = yaml.safe_load(FILEBEAT.read_text())["processors"]
    needed = drop["drop_event.when.not.has_fields"]
    kept = include["include_fields"]["fields"]
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            event = _event(path, offset, line)
            offset += len(line)
            if all(_get(event, name) is not None for name in needed):
                yield Shipped(path, number, _only(event, kept))


def _event(path: Path, offset: int, line: bytes) -> Document:
    """The ndjson parser's work, on top of what Filebeat says of itself and of the file."""
    event: Document = {
        "@timestamp": "1970-01-01T00:00:00.000Z",
        "agent": {
            "ephemeral_id": str(uuid.UUID(int=1)),
            "id": str(uuid.UUID(int=2)),
            "name": "node-1",
            "type": "filebeat",
            "version": "9.0.0",
        },
        "ecs": {"version": "8.0.0"},
        "host": {"name": "node-1"},
        "input": {"type": "filestream"},
        "log": {
            "offset": offset,
            "file": {"path": str(path), "device_id": "1", "inode": "2", "fingerprint": "3"},
        },
    }
    text = line.decode(errors="replace").rstrip("\n")
    try:
        said = json.loads(text)
    except ValueError:
        said = None
    _update(event, _expanded(said) if isinstance(said, dict) else {"message": text})
    return event


def _expanded(value: Any) -> Any:
    """Dotted names as objects (``expand_keys``)."""
    if not isinstance(value, dict):
        return value
    found: Document = {}
    for name, inner in value.items():
        head, _, rest = name.partition(".")
        inner = _expanded({rest: inner} if rest else inner)
        if isinstance(inner, dict) and isinstance(found.get(head), dict):
            _update(found[head], inner)
        else:
            found[head] = inner
    return found


def _update(event: Document, said: Document) -> None:
    """What the line says holds (``overwrite_keys``), and leaves beside it what it does not say."""
    for name, value in said.items():
        if isinstance(value, dict) and isinstance(event.get(name), dict):
            _update(event[name], value)
        else:
            event[name] = value


def _get(event: Document, name: str) -> Any:
    value: Any = event
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _only(event: Document, names: list[str]) -> Document:
    """What ``include_fields`` leaves; @timestamp always stays."""
    left: Document = {"@timestamp": event["@timestamp"]}
    for name in names:
        value = _get(event, name)
        if value is not None:
            *parents, last = name.split(".")
            inner = left
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = value
    return left
