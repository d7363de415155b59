"""Files of imports: kept in the database, so that any worker can go on, until the import ends."""

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import BinaryIO

from django.db import transaction

from usercast import tracing
from usercast_master.accounts.models import User
from usercast_master.transfer.errors import UnusableFile
from usercast_master.transfer.models import OPEN, Import, Part
from usercast_master.transfer.tables import MAX_BYTES, Table, Text
from usercast_master.transfer.workbooks import Workbook

_PART_BYTES = 1024 * 1024
READERS: dict[str, type[Table]] = {"csv": Text, "xlsx": Workbook}


def receive(
    file: BinaryIO, name: str, *, by: User | None = None, by_command: bool = False
) -> Import:
    """Keep a file to be checked and imported.

    Args:
        file: can be sought in; stays open.
        by: whom history shall name.
        by_command: the caller works on it, and no worker does.

    Raises:
        UnusableFile: it is no CSV or XLSX, too large, empty, or its columns are not ours.
    """
    kind = PurePath(name).suffix.lower().removeprefix(".")
    if kind not in READERS:
        raise UnusableFile("The file's name must end in .csv or .xlsx, as its content is.")
    size = file.seek(0, 2)
    if size > MAX_BYTES:
        raise UnusableFile(f"The file is larger than {MAX_BYTES // 1024**2} MB; split it.")
    table = READERS[kind](file)
    count = table.count()
    if count == 0:
        raise UnusableFile("The file has a header, but no rows.")
    with transaction.atomic():
        found = Import.objects.create(
            file_name=PurePath(name).name[-255:],
            kind=kind,
            size_bytes=size,
            content_hash=content_hash(file),
            created_by=by,
            by_command=by_command,
            header=table.header,
            row_count=count,
            traceparent=tracing.current(),
        )
        for number, content in enumerate(_pieces(file)):
            Part.objects.create(of=found, number=number, content=content)
    return found


def stopped_import(file: BinaryIO) -> Import | None:
    """The import of this very content that a command was stopped in."""
    open_ones = Import.objects.filter(by_command=True, state__in=OPEN)
    return open_ones.filter(content_hash=content_hash(file)).first()


@contextmanager
def opened(found: Import) -> Iterator[Table]:
    """The import's file as a table, on this machine's disk.

    Raises:
        UnusableFile: as ``receive``, if what could not be known then is found now.
    """
    with tempfile.TemporaryFile() as file:
        for number in found.parts.order_by("number").values_list("number", flat=True):
            file.write(found.parts.values_list("content", flat=True).get(number=number))
        yield READERS[found.kind](file)


def content_hash(file: BinaryIO) -> str:
    """SHA-256 of the whole file, in hex."""
    digest = hashlib.sha256()
    for piece in _pieces(file):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    file.seek(0)
    while piece := file.read(_PART_BYTES):
        yield piece
