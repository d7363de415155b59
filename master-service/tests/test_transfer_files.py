"""Files to be imported: what is taken, and what is refused as a whole, with a reason."""

import io
import re
import zipfile
from datetime import datetime
from itertools import pairwise

import pytest
from transferring import csv_file, xlsx_file

from usercast_master.transfer import files, tables, workbooks
from usercast_master.transfer.errors import UnusableFile

pytestmark = pytest.mark.django_db


def cells_of(content: io.BytesIO, kind: str = "csv") -> list[tuple[int, ...]]:
    return [(row.line, *row.cells) for row in files.READERS[kind](content).rows()]


@pytest.mark.parametrize(
    "text",
    [
        "username,email\nann,a@x.org\n",
        "\ufeffusername,email\r\nann,a@x.org\r\n",
        "username;email\nann;a@x.org\n",
        '"username";"email"\n"ann";"a@x.org"\n',
        "username\temail\rann\ta@x.org\r",
        "USERNAME, Email \nann,a@x.org",
    ],
    ids=["comma", "byte order mark", "semicolon", "quoted", "tab", "written otherwise"],
)
def test_csv_as_spreadsheets_write_it(text: str) -> None:
    table = tables.Text(io.BytesIO(text.encode()))
    assert table.header == ("username", "email")
    assert [row.cells for row in table.rows()] == [("ann", "a@x.org")]
    assert table.count() == 1


def test_lines_are_those_of_the_file() -> None:
    content = csv_file("", "username,first_name", "ann,A", "", '"bob","two', 'lines"', "cy,C")
    assert [row[:2] for row in cells_of(content)] == [(3, "ann"), (5, "bob"), (7, "cy")]


def test_sheet_values_become_text_and_rows_keep_their_numbers() -> None:
    when = datetime(2024, 5, 6, 7, 8)  # noqa: DTZ001 - a spreadsheet's dates have no zone
    content = xlsx_file(
        [
            ("username", "first_name", "is_active", "date_joined"),
            (12345, 1.5, True, when),
            (),
            ("x",),
        ]
    )
    assert cells_of(content, "xlsx") == [
        (2, "12345", "1.5", "true", "2024-05-06T07:08:00+00:00"),
        (4, "x", "", "", ""),
    ]


def changed_part(content: io.BytesIO, name: str, change: tuple[str, str]) -> io.BytesIO:
    """A workbook, one part of which has been written by somebody else."""
    result = io.BytesIO()
    with zipfile.ZipFile(content) as old, zipfile.ZipFile(result, "w", zipfile.ZIP_DEFLATED) as new:
        for part in old.namelist():
            text = old.read(part)
            if part == name:
                text = re.sub(change[0].encode(), change[1].encode(), text, count=1)
            new.writestr(part, text)
    return result


SHEET = "xl/worksheets/sheet1.xml"


@pytest.mark.parametrize("said", ["A1:A1", "A1:XFD1048576", "A1:A99999999999"])
def test_a_sheet_that_lies_about_its_size_loses_no_row(said: str) -> None:
    content = xlsx_file([("username", "email"), ("ann", "a@x.org"), ("bob", "b@x.org")])
    content = changed_part(content, SHEET, ('dimension ref="[^"]*"', f'dimension ref="{said}"'))
    assert [row[1] for row in cells_of(content, "xlsx")] == ["ann", "bob"]
    assert workbooks.Workbook(content).count() is None


def bomb(name: str) -> io.BytesIO:
    content = io.BytesIO()
    with (
        zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed,
        packed.open(name, "w") as part,
    ):
        for _ in range(420):
            part.write(bytes(1024 * 1024))
    return content


ENTITIES = "".join(f'<!ENTITY {a} "{f"&{b};" * 10}">' for b, a in pairwise("abcdefghi"))


def entity_bomb() -> io.BytesIO:
    content = xlsx_file([("username",), ("ann",)])
    prolog = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{ENTITIES}]><worksheet'
    return changed_part(
        changed_part(content, SHEET, ("<worksheet", prolog)), SHEET, (">ann<", ">&i;<")
    )


def truncated(content: io.BytesIO) -> io.BytesIO:
    return io.BytesIO(content.getvalue()[:-200])


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (io.BytesIO(b"username\nann"), "staff.txt", "must end in .csv or .xlsx"),
        (io.BytesIO(b""), "a.csv", "is empty"),
        (io.BytesIO(b"\n \n"), "a.csv", "must name the columns"),
        (csv_file("username,email"), "a.csv", "has a header, but no rows"),
        (csv_file("username,shoe size", "ann,42"), "a.csv", "“shoe_size” is none"),
        (csv_file("username,email,Username", "a,b,c"), "a.csv", "username is there twice"),
        (csv_file("email,first_name", "a@x.org,Ann"), "a.csv", "username or id"),
        (io.BytesIO("username\nJosé".encode("latin-1")), "a.csv", "not UTF-8"),
        (io.BytesIO("username\nann".encode("utf-16")), "a.csv", "not UTF-8"),
        (io.BytesIO("username\nann".encode("utf-16-le")), "a.csv", "not UTF-8"),
        (csv_file("username", "ann", '"bob', "cy"), "a.csv", "record in line 3 is no CSV"),
        (io.BytesIO(b"PK no zip"), "a.xlsx", "no XLSX"),
        (csv_file("username", "ann"), "a.xlsx", "no XLSX"),
        (truncated(xlsx_file([("username",), ("ann",)])), "a.xlsx", "no XLSX"),
        (xlsx_file([]), "a.xlsx", "first sheet is empty"),
        (xlsx_file([("username", None, "email"), ("ann", 1, 2)]), "a.xlsx", "“” is none"),
        (bomb(SHEET), "a.xlsx", "too large when unpacked"),
        (bomb("xl/sharedStrings.xml"), "a.xlsx", "too large when unpacked"),
    ],
)
def test_unusable_file_is_refused_with_the_reason(content: io.BytesIO, name: str, why: str) -> None:
    with pytest.raises(UnusableFile, match=re.escape(why)):
        files.receive(content, name)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (entity_bomb(), "damaged"),
        (
            changed_part(
                xlsx_file([("username",), ("ann",)]), SHEET, ('row r="2"', 'row r="9999999999"')
            ),
            "beyond the last",
        ),
    ],
    ids=["entities", "a row far away"],
)
def test_damage_further_down_is_found_when_it_is_read(content: io.BytesIO, why: str) -> None:
    with pytest.raises(UnusableFile, match=why):
        cells_of(content, "xlsx")


def test_limits_of_size_and_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 2)
    monkeypatch.setattr(files, "MAX_BYTES", 50)
    with pytest.raises(UnusableFile, match="more than 2 rows"):
        files.receive(csv_file("username", "a", "b", "c"), "a.csv")
    with pytest.raises(UnusableFile, match="larger than"):
        files.receive(csv_file("username", "a" * 50), "a.csv")
