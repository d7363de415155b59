"""What a process writes: a line an event, in ECS with types that hold, and nobody's data in it."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from usercast.errors import ConfigurationError, PublishFailed, reason
from usercast.logging import FIELDS, cleaned, stack_trace

REPOSITORY = Path(__file__).parents[2]
SETUP = """
import logging, logging.config, sys
sys.argv = ["manage.py", "relay"]
from usercast.env import Environment
from usercast.logging import log_crashes, logging_config
logging.config.dictConfig(logging_config(Environment(), "usercast-master"))
log_crashes()
import structlog
log = structlog.get_logger("ours")
"""
LEAKY = """
import django.db.utils as db
try:
    try:
        raise ValueError("Ann Example <ann@example.org>, swordfish")
    except ValueError as first:
        raise KeyError("Ann Example") from first
except KeyError:
    log.exception("ours_failed", user_id="42")
    logging.getLogger("theirs").exception("failed", {"password": "swordfish"})
logging.getLogger("theirs").warning("login of ann@example.org at redis://user:swordfish@host/0")
log.info("told", client="ucm_a6bd86966eb58ce6475d741c6f219024")
raise db.DataError('invalid input syntax for type uuid: "Ann Example"')
"""


def run(script: str, **environment: str) -> list[dict[str, Any]]:
    """The lines of a process that runs this, on stdout, as objects."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": "", **environment},
        check=False,
    )
    assert not done.stderr, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_line_an_event_by_ecs() -> None:
    script = """
from usercast import tracing
with tracing.span("work", of=["00-" + "a" * 32 + "-" + "b" * 16 + "-01"]):
    log.info("published", changes=2, unheard_of=3)
"""
    [line] = run(script)
    assert line["@timestamp"].endswith("Z")
    assert line["message"] == "published"
    assert line["event"] == {"action": "published"}
    assert (line["log.level"], line["log"]["logger"]) == ("info", "ours")
    assert line["service"]["name"] == "usercast-master"
    assert line["process"]["name"] == "relay"
    assert line["process"]["pid"] > 0
    assert line["usercast"] == {"changes": 2}
    assert line["trace"] == {"id": "a" * 32}
    assert line["labels"] == {"unheard_of": "3"}, "what the index knows no field for"


def test_failures_say_where_and_what_but_quote_nobody() -> None:
    lines = run(LEAKY)
    assert [line["message"] for line in lines] == [
        "ours_failed",
        "failed",
        "login of …@… at redis://…@host/0",
        "told",
        "crashed",
    ]
    ours, theirs, _, _, crash = lines
    assert ours["error"]["type"] == theirs["error"]["type"] == "builtins.KeyError"
    assert "line " in ours["error"]["stack_trace"]
    assert "ValueError" in ours["error"]["stack_trace"], "and what it came from"
    assert ours["user"]["id"] == "42"
    assert crash["error"]["type"] == "django.db.utils.DataError"
    for told in ("Ann", "ann@example.org", "swordfish", "ucm_a6bd"):
        # The stack trace shows lines of code; here they alone hold the values.
        shown = json.dumps([line | {"error": None} for line in lines])
        assert told not in shown
        assert told not in ours["error"]["message"] + crash["error"]["message"]


def test_file_takes_the_same_lines_and_is_rotated(tmp_path: Path) -> None:
    script = "for n in range(200): log.info('published', changes=n)"
    file = tmp_path / "log.json"
    told = run(script, LOG_FILE=str(file), LOG_FILE_BYTES="10000", LOG_FILE_COUNT="2")
    kept = sorted(tmp_path.glob("log.json*"))
    assert [one.name for one in kept] == ["log.json", "log.json.1", "log.json.2"]
    assert all(one.stat().st_size < 11_000 for one in kept)
    newest = json.loads(file.read_text().splitlines()[-1])
    assert newest == told[-1]


def test_unknown_format_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETUP],
        capture_output=True,
        text=True,
        env={"LOG_FORMAT": "xml"},
        check=False,
    )
    assert "LOG_FORMAT: 'xml' is neither 'console' nor 'ecs'" in done.stderr


def test_reason_speaks_only_for_errors_that_quote_nobody() -> None:
    assert reason(PublishFailed("SNS at x: away")) == "SNS at x: away"
    assert reason(ConfigurationError("NAME: not set")) == "NAME: not set"
    assert reason(ValueError("invalid: 'Ann'")) == "ValueError"
    assert reason(ConnectionRefusedError(111, "Connection refused")) == (
        "ConnectionRefusedError: Connection refused"
    )


def test_e_mail_addresses_and_tokens_are_told_by_their_form() -> None:
    assert cleaned("to <ann.b+c@mail.example.org>, bye") == "to <…@…>, bye"
    assert cleaned("Authorization: Token ucm_0123abc") == "Authorization: Token ucm_…"
    assert cleaned("a sentence without any") == "a sentence without any"


def test_stack_trace_ends_on_a_circle_of_causes() -> None:
    first, second = ValueError("a"), KeyError("b")
    first.__cause__, second.__cause__ = second, first
    assert stack_trace(first).count("ValueError") == 1


#: What a method of a logger is called where the level is chosen first.
_CHOSEN = ("tell", "report")


def _calls() -> Iterator[tuple[Path, ast.Call]]:
    """Each call of a logger in the three packages."""
    for root in ("shared/usercast", "master-service", "client-service"):
        for path in sorted((REPOSITORY / root).rglob("*.py")):
            if "/tests/" in str(path):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _is_logging(node.func):
                    yield path, node


def _is_logging(called: ast.expr) -> bool:
    if isinstance(called, ast.Attribute):
        return isinstance(called.value, ast.Name) and called.value.id == "log"
    return isinstance(called, ast.Name) and called.id in _CHOSEN


def test_every_field_that_is_logged_has_a_type() -> None:
    calls = list(_calls())
    assert len(calls) > 60
    unknown = {
        f"{path.name}:{call.lineno} {keyword.arg}"
        for path, call in calls
        for keyword in call.keywords
        if keyword.arg not in (*FIELDS, "exc_info")
    }
    assert not unknown


def test_every_field_of_our_own_is_logged_by_some_call() -> None:
    logged = {keyword.arg for _, call in _calls() for keyword in call.keywords}
    own = {name for name, field in FIELDS.items() if field.name.startswith("usercast.")}
    assert own - logged == {"task"}, "that one is of Celery's lines"


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_no_field_is_called_like_a_part_of_another(name: str) -> None:
    others = [field.name for other, field in FIELDS.items() if other != name]
    assert not any(other.startswith(FIELDS[name].name + ".") for other in others)
    assert FIELDS[name].name not in others
