"""Export: takes users, gives the columns that an import takes, as CSV or XLSX."""

import tempfile
from collections.abc import Iterator
from typing import BinaryIO

from django.contrib.auth.models import Group
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import OuterRef, QuerySet, Subquery
from openpyxl import Workbook

from usercast_master.accounts.models import User
from usercast_master.outbox.models import OutboxEntry
from usercast_master.transfer import cells
from usercast_master.transfer.reports import as_csv
from usercast_master.transfer.resource import UserResource

_CHUNK_ROWS = 2000


def to_csv(users: QuerySet[User]) -> Iterator[str]:
    """The users as pieces of a CSV file in UTF-8; memory does not grow with their number."""
    return as_csv(_rows(users))


def to_xlsx(users: QuerySet[User]) -> BinaryIO:
    """The users as a workbook in a temporary file, which the caller closes.

    Written row by row, in constant memory; nothing can be sent before the last row is.
    """
    book = Workbook(write_only=True)
    sheet = book.create_sheet("users")
    for row in _rows(users):
        sheet.append([cells.for_xlsx(cell) for cell in row])
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the answer that sends it closes it
    book.save(file)
    file.seek(0)
    return file


def _rows(users: QuerySet[User]) -> Iterator[list[str]]:
    resource = UserResource()
    yield resource.get_export_headers()
    members = Group.objects.filter(user=OuterRef("pk")).order_by("name").values("name")
    entries = OutboxEntry.objects.filter(user_id=OuterRef("pk")).values("version")
    rows = users.annotate(group_names=ArraySubquery(members), version=Subquery(entries))
    for user in rows.iterator(chunk_size=_CHUNK_ROWS):
        yield resource.export_resource(user)
