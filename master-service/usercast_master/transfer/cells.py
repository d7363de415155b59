"""Cells: how a user's fields are written in a file, and read from one.

The same rules for CSV and XLSX, and for both directions, so that an exported file says nothing new
when it is imported.
"""

import csv
import io
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

#: A spreadsheet takes a cell that begins like this for a formula; the last four are the wide forms
#: of the first four.
_FORMULA = re.compile(r"'*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
#: What XML cannot hold or would not keep, and what would be taken for its stand-in.
_NOT_XML = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")
#: Halves of surrogate pairs are no text.
_STAND_IN = re.compile(r"_x(?![Dd][89A-Fa-f])([0-9A-Fa-f]{4})_")


def guarded(text: str) -> str:
    """The text as no spreadsheet takes it for a formula: behind an apostrophe, if it begins so.

    One that has apostrophes before a formula's sign gets another, so that ``unguarded`` is exact.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(text: str) -> str:
    """The text that ``guarded`` was given; any other text unchanged."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def for_xlsx(text: str) -> str:
    """The text as XLSX holds it: ``_x0001_`` stands for a character that XML does not have."""
    return _NOT_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", text)


def text_of(value: Any) -> str:
    """A spreadsheet's value as text: ``true``, ``12345`` (not ``12345.0``), an ISO time in UTC."""
    match value:
        case None:
            return ""
        case str():
            return _STAND_IN.sub(lambda found: chr(int(found[1], 16)), value)
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case datetime():
            return value.replace(tzinfo=value.tzinfo or UTC).isoformat()
        case _:
            return str(value)


def joined(names: Iterable[str]) -> str:
    """Names of groups in one cell: ``sales;support``; one that holds a ``;`` is quoted."""
    cell = io.StringIO()
    # What ends lines is quoted too: both characters.
    csv.writer(cell, delimiter=";", lineterminator="\r\n").writerow(names)
    return cell.getvalue().removesuffix("\r\n")


def split(cell: str) -> list[str]:
    """The names that ``joined`` was given, without spaces around them; none of an empty cell.

    Raises:
        ValueError: a quote is not closed, or a line ends outside of quotes.
    """
    try:
        names = next(csv.reader([cell], delimiter=";", strict=True), [])
    except csv.Error:
        raise ValueError("Separate names by a semicolon, and close each quote.") from None
    return [name.strip() for name in names if name.strip()]
