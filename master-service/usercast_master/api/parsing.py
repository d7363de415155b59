"""Bodies: JSON in UTF-8, of a size and depth, and with texts that can be stored."""

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

from usercast_master.api.problems import TooLarge

MAX_BODY_BYTES = 256 * 1024
_HALF_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class StrictJSONParser(JSONParser):
    """JSON as RFC 8259 has it: UTF-8, no NaN; and no half of a surrogate pair, which is no text."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        body = stream.read(MAX_BODY_BYTES + 1)
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"A body may have up to {MAX_BODY_BYTES:,} bytes.")
        try:
            data = json.loads(body.decode(), parse_constant=_refuse)
            if _HALF_SURROGATE.search(body):
                json.dumps(data, ensure_ascii=False).encode()
        except UnicodeDecodeError as error:
            raise ParseError(f"The body is no UTF-8: byte {error.start}.") from None
        except UnicodeEncodeError:
            raise ParseError("A text of the body holds half of a surrogate pair.") from None
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is no JSON: {error}") from None
        return data


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of its values")
