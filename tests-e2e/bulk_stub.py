"""A stand-in for Elasticsearch: takes templates and ``_bulk``, and applies the mapping strictly.

It refuses what Elasticsearch would, with the same types of error, and a little more: a long must be
written as an integer and a date as ISO 8601, where Elasticsearch also takes 5.0 and milliseconds.
"""

import json
import math
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from observability import composed

Mapping = dict[str, Any]


class Refused(Exception):
    """A document that the index does not take."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def check(document: dict[str, Any], mappings: Mapping) -> None:
    """See to it that each field of a document is in the mapping and has its type.

    Raises:
        Refused: one is not, or has not.
    """
    for name, value in document.items():
        _field(_Place(mappings, "", mappings.get("dynamic_templates", [])), name, value)
    at = document.get("@timestamp")
    if at is None or isinstance(at, list):
        raise Refused("document_parsing_exception", "data stream timestamp field is missing")


class _Place(NamedTuple):
    """An object of the mapping; what it does not say of unknown fields its parent does."""

    mapping: Mapping
    path: str
    dynamic_templates: list[dict[str, Mapping]]

    def child(self, name: str) -> Mapping:
        known = self.mapping.get("properties", {}).get(name)
        if known is None and self.mapping["dynamic"] == "strict":
            raise Refused(
                "strict_dynamic_mapping_exception",
                f"mapping set to strict, dynamic introduction of [{name}] within "
                f"[{self.path.rstrip('.') or '_doc'}] is not allowed",
            )
        return known or self._by_template(self.path + name)

    def _by_template(self, path: str) -> Mapping:
        for named in self.dynamic_templates:
            for template in named.values():
                if fnmatchcase(path, template["path_match"]):
                    mapping: Mapping = template["mapping"]
                    return mapping
        raise NotImplementedError(f"the stub guesses no type for {path}")


def _field(place: _Place, name: str, value: Any) -> None:
    head, _, rest = name.partition(".")
    known, path = place.child(head), place.path + head
    if "properties" in known or known["type"] == "object":
        inner = {"dynamic": place.mapping["dynamic"], **known}
        deeper = place._replace(mapping=inner, path=path + ".")
        for item in _flat({rest: value} if rest else value):
            if not isinstance(item, dict):
                raise Refused(
                    "document_parsing_exception",
                    f"object mapping for [{path}] tried to parse field [{path}] as object, "
                    "but found a concrete value",
                )
            for inside, of in item.items():
                _field(deeper, inside, of)
        return
    is_right = _TYPES[known["type"]]
    for item in _flat(value):
        if rest or not is_right(item, known):
            raise Refused(
                "document_parsing_exception",
                f"failed to parse field [{path}] of type [{known['type']}]: {item!r}",
            )


def _flat(value: Any) -> Iterator[Any]:
    """Arrays have no type of their own, and null is no value."""
    if isinstance(value, list):
        for item in value:
            yield from _flat(item)
    elif value is not None:
        yield value


def _is_scalar(value: Any, _field: Mapping) -> bool:
    return isinstance(value, (str, int, float))


def _is_long(value: Any, _field: Mapping) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _is_double(value: Any, _field: Mapping) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_boolean(value: Any, _field: Mapping) -> bool:
    return value in ("true", "false") or isinstance(value, bool)


def _is_date(value: Any, _field: Mapping) -> bool:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d(T.*)?", value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_the_constant(value: Any, field: Mapping) -> bool:
    return bool(value == field["value"])


_TYPES: dict[str, Callable[[Any, Mapping], bool]] = {
    "keyword": _is_scalar,
    "match_only_text": _is_scalar,
    "wildcard": _is_scalar,
    "constant_keyword": _is_the_constant,
    "long": _is_long,
    "double": _is_double,
    "boolean": _is_boolean,
    "date": _is_date,
}


class Elasticsearch:
    """What the stub was given: templates by PUT, and documents that it took."""

    def __init__(self, url: str) -> None:
        self.url = url
        #: The body of each PUT, by its path.
        self.put: dict[str, dict[str, Any]] = {}
        #: The Authorization of each request.
        self.authorizations: list[str | None] = []
        self.documents: list[dict[str, Any]] = []

    def install(self, template: dict[str, Any]) -> None:
        """Put an index template there that is composed of no components."""
        self.put["_index_template/installed"] = {**template, "composed_of": []}

    def template_of(self, data_stream: str) -> dict[str, Any]:
        """The template that holds for a data stream, its components in it.

        Raises:
            Refused: there is none.
        """
        components = {
            path.removeprefix("_component_template/"): body for path, body in self.put.items()
        }
        for path, body in self.put.items():
            patterns = body.get("index_patterns", [])
            if path.startswith("_index_template/") and data_stream in patterns:
                return composed(body, components)
        raise Refused("index_not_found_exception", f"no such index [{data_stream}]")

    def bulk(self, data_stream: str, lines: list[str]) -> dict[str, Any]:
        """Take or refuse each document, as ``_bulk`` answers."""
        items = [
            self._one(data_stream, json.loads(action), source)
            for action, source in zip(lines[::2], lines[1::2], strict=True)
        ]
        return {"errors": any("error" in item["create"] for item in items), "items": items}

    def _one(self, data_stream: str, action: dict[str, Any], source: str) -> dict[str, Any]:
        try:
            if [*action] != ["create"]:
                raise Refused("illegal_argument_exception", "a data stream only takes create")
            document = json.loads(source, parse_constant=_no_json)
            check(document, self.template_of(data_stream)["template"]["mappings"])
        except Refused as refused:
            error = {"type": refused.kind, "reason": str(refused)}
            return {"create": {"status": 400, "error": error}}
        self.documents.append(document)
        return {"create": {"status": 201, "result": "created"}}


def _no_json(constant: str) -> None:
    raise Refused("document_parsing_exception", f"{constant} is no JSON")


@contextmanager
def elasticsearch() -> Iterator[Elasticsearch]:
    """A stub that answers on a port of its own until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    stub = Elasticsearch(f"http://127.0.0.1:{server.server_port}")

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            stub.put[self.path.removeprefix("/")] = json.loads(self._body())
            self._answer({"acknowledged": True})

        def do_POST(self) -> None:
            body = self._body()
            data_stream = self.path.removeprefix("/").removesuffix("/_bulk")
            assert body.endswith("\n"), "the bulk request must be terminated by a newline"
            self._answer(stub.bulk(data_stream, body.splitlines()))

        def _body(self) -> str:
            stub.authorizations.append(self.headers["Authorization"])
            return self.rfile.read(int(self.headers["Content-Length"])).decode()

        def _answer(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_args: Any) -> None:
            """A test's output is its own."""

    server.RequestHandlerClass = Handler
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
