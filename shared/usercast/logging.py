"""Logging for every process: short fixed event names with fields, through structlog.

Readable lines in a terminal; elsewhere JSON by the Elastic Common Schema (ECS), a line an event, on
stdout, and by setting in a rotating file too. Every line carries the correlation id of the change
or request it is about (``usercast.tracing``). No personal data but the user id belongs in a field:
``reason`` is how an error's words get into one, and what other libraries log is cleaned here.
"""

import logging
import os
import re
import socket
import sys
import threading
import traceback
from importlib.metadata import version
from types import TracebackType
from typing import Any, NamedTuple, TextIO

import ecs_logging
import structlog
from environs import validate

from usercast import tracing
from usercast.env import Environment
from usercast.errors import ConfigurationError, reason
from usercast.process import COMMAND, process_name

Event = dict[str, Any]


class Field(NamedTuple):
    """A field of a log line: its name, in ECS or our own, and its type in Elasticsearch."""

    name: str
    type: str


#: What log calls may say, by the name they say it under. The index template has the same fields
#: (infra/observability/elasticsearch); it takes no others.
FIELDS = {
    # Of every line.
    "timestamp": Field("@timestamp", "date"),
    "level": Field("log.level", "keyword"),
    "logger": Field("log.logger", "keyword"),
    "action": Field("event.action", "keyword"),
    "message": Field("message", "match_only_text"),
    "ecs": Field("ecs.version", "keyword"),
    "service": Field("service.name", "keyword"),
    "service_version": Field("service.version", "keyword"),
    "node": Field("service.node.name", "keyword"),
    "process": Field("process.name", "keyword"),
    "pid": Field("process.pid", "long"),
    #: A correlation id, or several of a packed message.
    "trace": Field("trace.id", "keyword"),
    # Of errors.
    "reason": Field("error.message", "match_only_text"),
    "error_type": Field("error.type", "keyword"),
    "exception": Field("error.stack_trace", "wildcard"),
    "code": Field("error.code", "keyword"),
    # Of requests.
    "request_id": Field("http.request.id", "keyword"),
    "method": Field("http.request.method", "keyword"),
    "status": Field("http.response.status_code", "long"),
    "duration_ns": Field("event.duration", "long"),
    "user_id": Field("user.id", "keyword"),
    "route": Field("usercast.route", "keyword"),
    # Of our own.
    "behind": Field("usercast.behind", "long"),
    "by": Field("usercast.by", "keyword"),
    "changed": Field("usercast.changed", "long"),
    "changes": Field("usercast.changes", "long"),
    "channel": Field("usercast.channel", "keyword"),
    "client": Field("usercast.client", "keyword"),
    "count": Field("usercast.count", "long"),
    "created": Field("usercast.created", "long"),
    "cursor": Field("usercast.cursor", "long"),
    "drift": Field("usercast.drift", "long"),
    "for_seconds": Field("usercast.for_seconds", "double"),
    "import_id": Field("usercast.import_id", "long"),
    "lane": Field("usercast.lane", "keyword"),
    "marked": Field("usercast.marked", "long"),
    "message_id": Field("usercast.message_id", "keyword"),
    "position": Field("usercast.position", "long"),
    "receive_count": Field("usercast.receive_count", "long"),
    "sockets": Field("usercast.sockets", "long"),
    "stale": Field("usercast.stale", "long"),
    "task": Field("usercast.task", "keyword"),
    "type": Field("usercast.type", "keyword"),
    "users": Field("usercast.users", "long"),
    "version": Field("usercast.version", "long"),
    "wrong": Field("usercast.wrong", "keyword"),
}

_E_MAIL = re.compile(r"[^\s@\"'<>()\[\],;:=]+@[^\s@\"'<>()\[\],;:=]+\.\w+")
_PLACES = re.compile(r"[\s:]*%[rs]?")
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^\s/@]*:[^\s/@]*(?=@)")
#: Of the master's API; no other service's tokens can be told from any text.
_TOKEN = re.compile(r"\bucm_\w+")


def logging_config(env: Environment, service: str) -> dict[str, Any]:
    """Django's LOGGING: the standard library's records and structlog's, in one format.

    ``LOG_LEVEL``; ``LOG_FORMAT`` (``console`` or ``ecs``; by default the first in a terminal);
    ``LOG_FILE``, into which every process that is given it writes ECS as well, with
    ``LOG_FILE_BYTES`` (100 MB; 10 kB or more) a file and ``LOG_FILE_COUNT`` (5) old ones kept.

    Raises:
        environs.EnvError, ConfigurationError: a setting is wrong.
    """
    stream = _stream()
    chosen = env.str("LOG_FORMAT", "console" if stream.isatty() else "ecs")
    if chosen not in ("console", "ecs"):
        raise ConfigurationError(f"LOG_FORMAT: {chosen!r} is neither 'console' nor 'ecs'")
    structlog.configure(
        processors=[*_every_event(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    ecs = _formatter(_InEcs(service), ecs_logging.StructlogFormatter(ensure_ascii=False))
    console = _formatter(
        structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handlers: dict[str, Any] = {
        "stream": {"class": "logging.StreamHandler", "stream": stream, "formatter": chosen}
    }
    if file := env.str("LOG_FILE", None):
        handlers["file"] = {
            # Several processes may write the one file, and any of them rotate it.
            "class": "concurrent_log_handler.ConcurrentRotatingFileHandler",
            "filename": file,
            "maxBytes": env.int("LOG_FILE_BYTES", 100_000_000, validate=validate.Range(min=10_000)),
            "backupCount": env.int("LOG_FILE_COUNT", 5, validate=validate.Range(min=1)),
            "encoding": "utf-8",
            "formatter": "ecs",
        }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"ecs": ecs, "console": console},
        "handlers": handlers,
        "root": {"handlers": list(handlers), "level": env.log_level("LOG_LEVEL", logging.INFO)},
        "loggers": {
            "django": {"level": "INFO", "propagate": True, "handlers": []},
            # usercast.middleware tells of every request, with its route in place of its path.
            "django.request": {"level": "CRITICAL"},
            # A refused form is a line of the request log, too; this one names the path.
            "django.security.csrf": {"level": "CRITICAL"},
            "django.server": {"level": "CRITICAL", "propagate": True, "handlers": []},
            "django.channels.server": {"level": "WARNING"},
            # The servers bring handlers of their own, for plain text, before they load this.
            "gunicorn.error": {"level": "INFO", "propagate": True, "handlers": []},
            "uvicorn": {"level": "WARNING", "propagate": True, "handlers": []},
            "uvicorn.error": {"level": "WARNING", "propagate": True, "handlers": []},
            "botocore": {"level": "WARNING"},
            # A line for each request to the master, and a client reports every five seconds.
            "httpx": {"level": "WARNING"},
            # A line for each task received and each done would say what the task says itself.
            "celery.app.trace": {"level": "WARNING"},
            "celery.worker.strategy": {"level": "WARNING"},
            "celery.beat": {"level": "WARNING"},
        },
    }


def _stream() -> TextIO:
    """A process's log is its output; a command's output is its own, for people and programs."""
    return sys.stderr if process_name() == COMMAND else sys.stdout


def _formatter(*renderers: Any) -> dict[str, Any]:
    return {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": [_of_a_library, *_every_event()],
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    }


def _every_event() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _with_trace,
        _with_error,
        _cleaned,
    ]


def _of_a_library(_logger: Any, _method: str, event: Event) -> Event:
    """Of a failure the error says what there is to say: a library would put its words in, too."""
    record: logging.LogRecord = event["_record"]
    if record.exc_info and record.exc_info[0] is not None:
        # Without the places for what went wrong: `Message Error: %s`
        event["event"] = _PLACES.sub("", str(record.msg).partition("\n")[0]).strip()
        if task := getattr(record, "data", {}).get("name"):  # Celery's
            event["event"], event["task"] = "task_failed", task
    return event


def _with_trace(_logger: Any, _method: str, event: Event) -> Event:
    if "trace" not in event and (found := tracing.trace_id()):
        event["trace"] = found
    return event


def _with_error(_logger: Any, _method: str, event: Event) -> Event:
    exc_info = event.pop("exc_info", None)
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    if exc_info and exc_info[1] is not None:
        error: BaseException = exc_info[1]
        event.setdefault("reason", reason(error))
        event["error_type"] = f"{type(error).__module__}.{type(error).__qualname__}"
        event["exception"] = stack_trace(error)
    return event


def stack_trace(error: BaseException) -> str:
    """Where an error came from, and its causes; of their words no more than ``reason`` tells."""
    parts: list[str] = []
    known: set[int] = set()
    now: BaseException | None = error
    while now is not None and id(now) not in known:
        known.add(id(now))
        frames = "".join(traceback.format_tb(now.__traceback__))
        name = type(now).__qualname__
        parts.append(f"{frames}{name}: {reason(now)}" if reason(now) != name else frames + name)
        now = now.__cause__ or (None if now.__suppress_context__ else now.__context__)
    return "\nAbove came from:\n".join(parts)


def _cleaned(_logger: Any, _method: str, event: Event) -> Event:
    """A last look over every text, for what can be told by its form."""
    for name, value in event.items():
        if isinstance(value, str) and not name.startswith("_"):
            event[name] = cleaned(value)
    return event


def cleaned(text: str) -> str:
    """The text without e-mail addresses, passwords in URLs, and the master's tokens."""
    if "@" in text:
        text = _PASSWORD_IN_URL.sub("…", text)
        text = _E_MAIL.sub("…@…", text)
    return _TOKEN.sub("ucm_…", text) if "ucm_" in text else text


class _InEcs:
    """Names each field by ECS, and adds what every line of this process says."""

    def __init__(self, service: str) -> None:
        self._always = {
            FIELDS["service"].name: service,
            FIELDS["service_version"].name: version("usercast"),
            FIELDS["node"].name: socket.gethostname(),
            FIELDS["process"].name: process_name(),
        }

    def __call__(self, _logger: Any, _method: str, event: Event) -> Event:
        named = {FIELDS[name].name: event.pop(name) for name in [*event] if name in FIELDS}
        text = event.pop("event")
        # What has not been given a name in ECS would not be taken by the index.
        labels = {f"labels.{name}": str(value) for name, value in event.items()}
        action = {FIELDS["action"].name: text} if re.fullmatch(r"[a-z_]{1,40}", text) else {}
        pid = {FIELDS["pid"].name: os.getpid()}
        return {"event": text, **named, **action, **self._always, **pid, **labels}


def log_crashes() -> None:
    """Have what ends this process, or a thread of it, in the log like all else: one line."""
    log = structlog.get_logger("usercast")

    def crashed(
        kind: type[BaseException], error: BaseException, _frames: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            return
        log.critical("crashed", exc_info=error)

    sys.excepthook = crashed
    threading.excepthook = lambda told: (
        crashed(told.exc_type, told.exc_value, told.exc_traceback)
        if told.exc_value is not None
        else None
    )
