"""Lines: JSON, one value a line, compressed while it is read from the database."""

import zlib
from collections.abc import Generator, Iterator
from contextlib import closing

from django.http import StreamingHttpResponse
from rest_framework.renderers import JSONRenderer

from usercast.snapshot import CONTENT_TYPE


class LinesRenderer(JSONRenderer):
    """Lets a caller ask for the media type of lines; problems are JSON as elsewhere."""

    media_type = CONTENT_TYPE
    format = "ndjson"


def answer(pieces: Generator[bytes, None, None]) -> StreamingHttpResponse:
    """The lines as an answer, always as gzip: none of it is held longer than it takes to send."""
    headers = {"Content-Encoding": "gzip", "Cache-Control": "no-store"}
    return StreamingHttpResponse(compressed(pieces), content_type=CONTENT_TYPE, headers=headers)


def compressed(pieces: Generator[bytes, None, None]) -> Iterator[bytes]:
    """Each piece as gzip that can be read as soon as it has come.

    Closing it closes the pieces, and with them the transaction that they are read in.
    """
    gzip = zlib.compressobj(level=1, wbits=31)
    with closing(pieces):
        for piece in pieces:
            yield gzip.compress(piece) + gzip.flush(zlib.Z_SYNC_FLUSH)
    yield gzip.flush()
