"""Rows: what each means for its user, and why it is refused, by line and column."""

import io

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from transferring import counts, csv_file, errors_of, imported, received, work, xlsx_file

from usercast_master.accounts.models import PasswordHistory, User
from usercast_master.outbox.capture import Priority
from usercast_master.outbox.models import OutboxEntry
from usercast_master.transfer import cells, exporting
from usercast_master.transfer.models import Import, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann", "ann@x.org", "a fine long word", first_name="Ann")


def version(user: User) -> int:
    return OutboxEntry.objects.get(user_id=user.pk).version


def test_rows_create_change_and_leave_users(ann: User, root: User) -> None:
    Group.objects.create(name="sales")
    bob = User.objects.create_user("bob", "bob@x.org")
    lines = [
        "username,email,groups,is_active",
        "ann,new@x.org,sales,no",
        "bob,bob@x.org,,",
        "cy,,,",
    ]
    found = imported(csv_file(*lines), by=root)
    assert (found.state, counts(found)) == (State.DONE, (1, 1, 1, 0))
    ann.refresh_from_db()
    assert (ann.email, ann.first_name, ann.is_active) == ("new@x.org", "Ann", False)
    assert [group.name for group in ann.groups.all()] == ["sales"]
    assert ann.check_password("a fine long word"), "what the file does not say stays"
    assert PasswordHistory.objects.filter(user=ann).count() == 1
    assert not User.objects.get(username="cy").has_usable_password()
    assert (version(ann), version(bob)) == (2, 1), "one import, one version; unchanged, none"
    urgent = OutboxEntry.objects.get(user_id=ann.pk)
    assert urgent.priority == Priority.URGENT, "a deactivation"


def test_id_tells_whom_a_row_is_about_so_that_users_can_be_renamed(ann: User) -> None:
    found = imported(csv_file("id,username", f"{ann.pk},anna"))
    ann.refresh_from_db()
    assert (counts(found), ann.username) == ((0, 1, 0, 0), "anna")


REFUSALS = [
    ("username,email", "bob,nonsense", "email", "Enter a valid email address."),
    ("username", "b" * 151, "username", "at most 150 characters"),
    ("username", "bob smith", "username", "Enter a valid username."),
    ("username,first_name", f"bob,{'x' * 151}", "first_name", "at most 150 characters"),
    ("username,first_name", "bob,\0", "first_name", "Null characters are not allowed."),
    ("username", "b\0b", "username", "Null characters are not allowed."),
    ("username,is_active", "bob,perhaps", "is_active", "Write true or false."),
    ("username,groups", "bob,sales;ghosts", "groups", "These groups do not exist: “ghosts”."),
    ("username,groups", 'bob,"""sales"', "groups", "close each quote"),
    ("username,date_joined", "bob,yesterday", "date_joined", "Write a time as"),
    ("username,date_joined", "bob,2024-13-01T00:00", "date_joined", "Write a time as"),
    ("username,email", "bob", "", "The row has 1 cells, the header 2."),
    ("username,email", "bob,b@x.org,more", "", "The row has 3 cells, the header 2."),
    ("id,email", "no-uuid,b@x.org", "id", "No account has this id."),
    ("id,email", "01990000-0000-7000-8000-000000000000,b@x.org", "id", "No account has this id."),
    ("username,email", ",b@x.org", "username", "This field cannot be blank."),
    ("username", "root", None, ""),
    ("username,email", "root,b@x.org", "", "whom only a superuser changes"),
    ("username,version", "ann,1", None, ""),
    ("username,email,version", "ann,b@x.org,1", None, ""),
    ("username,email,version", "ann,b@x.org,7", "version", "The user has changed since"),
]


@pytest.mark.parametrize(("header", "row", "column", "message"), REFUSALS)
def test_bad_row_is_refused_by_line_and_the_others_go_on(
    header: str, row: str, column: str | None, message: str, ann: User, root: User
) -> None:
    Group.objects.create(name="sales")
    filler = ",".join([*(header.split(",")[1:])]).replace("date_joined", "").replace("version", "")
    good = "good" + "".join("," for _ in filler.split(",") if filler or "," in header)
    lines = [header, row] if header.startswith("id") else [header, row, good]
    found = imported(csv_file(*lines))
    expected = [] if column is None else [(2, column, message)]
    told = errors_of(found)
    assert [(line, where) for line, where, _ in told] == [(2, where) for _, where, _ in expected]
    assert all(message in text for _, _, text in told)
    assert found.state == State.DONE
    assert header.startswith("id") or User.objects.filter(username="good").exists()


def test_message_does_not_repeat_what_the_row_says() -> None:
    found = work(received(csv_file("username,email,is_active", "bob,secret@,secret")))
    assert found.refused == 1
    assert not [text for _, _, text in errors_of(found) if "secret" in text]


def test_second_row_about_one_user_is_refused(ann: User) -> None:
    lines = ["id,username", f"{ann.pk},anna", ",ann", ",bob", ",bob"]
    found = imported(csv_file(*lines))
    same = "is about the same account or username."
    assert errors_of(found) == [(3, "", f"Line 2 {same}"), (5, "", f"Line 4 {same}")]


def test_taken_username_is_refused(ann: User) -> None:
    bob = User.objects.create_user("bob")
    found = imported(csv_file("id,username", f"{bob.pk},ann"))
    assert errors_of(found) == [(2, "username", "Another account has this username.")]


def test_only_a_superuser_changes_staff(root: User) -> None:
    helper = User.objects.create_user("helper", is_staff=True)
    lines = ["username,email", "helper,h@x.org"]
    assert counts(imported(csv_file(*lines), by=helper)) == (0, 0, 0, 1)
    assert counts(imported(csv_file(*lines))) == (0, 0, 0, 1), "a program is no superuser"
    assert counts(imported(csv_file(*lines), by=root)) == (0, 1, 0, 0)
    helper.refresh_from_db()
    assert (helper.email, helper.is_staff) == ("h@x.org", True)


def test_preview_shows_from_what_to_what(ann: User) -> None:
    found = work(received(csv_file("username,email", "ann,new@x.org", "bob,b@x.org")))
    assert found.preview == [
        {
            "line": 2,
            "username": "ann",
            "is_new": False,
            "changes": [["email", "ann@x.org", "new@x.org"]],
        },
        {
            "line": 3,
            "username": "bob",
            "is_new": True,
            "changes": [["email", "", "b@x.org"]],
        },
    ]


def test_statements_do_not_grow_with_rows(root: User) -> None:
    def statements(prefix: str, count: int) -> int:
        rows = [f"{prefix}{number},{prefix}{number}@x.org" for number in range(count)]
        with CaptureQueriesContext(connection) as queries:
            imported(csv_file("username,email", *rows), by=root)
        return len(queries)

    statements("warm", 1)
    assert statements("few", 2) == statements("many", 300)


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
NAME = st.one_of(
    TEXT, TEXT.map("=1+1".__add__), TEXT.map("'@".__add__), TEXT.map("_x000D_".__add__)
)


@given(NAME)
def test_guard_is_exact_and_safe(text: str) -> None:
    guarded = cells.guarded(text)
    assert cells.unguarded(guarded) == text
    assert not guarded.startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))  # noqa: RUF001
    assert cells.text_of(cells.for_xlsx(text)) == text


@given(st.lists(TEXT.map(str.strip).filter(bool), max_size=3))
@example(["a\nb", "c\rd", 'e"f', "g;h"])
def test_names_of_groups_are_joined_exactly(names: list[str]) -> None:
    assert cells.split(cells.joined(names)) == names


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@given(names=st.lists(NAME, max_size=4), groups=st.lists(NAME.filter(str.strip), max_size=3))
@hypothesis_settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_was_exported_says_nothing_new(kind: str, names: list[str], groups: list[str]) -> None:
    User.objects.all().delete()
    Group.objects.all().delete()
    known = [Group.objects.create(name=name) for name in {name.strip()[:20] for name in groups}]
    for number, name in enumerate(names):
        user = User.objects.create(username=f"@u{number}", first_name=name, last_name=name[::-1])
        user.groups.set(known)
    User.objects.create_superuser("root", is_active=False)
    found = imported(exported(kind), f"users.{kind}")
    assert errors_of(found) == []
    assert counts(found) == (0, 0, len(names) + 1, 0)


def exported(kind: str) -> io.BytesIO:
    if kind == "csv":
        return io.BytesIO("".join(exporting.to_csv(User.objects.all())).encode())
    with exporting.to_xlsx(User.objects.all()) as file:
        return io.BytesIO(file.read())


def test_exported_users_can_be_created_elsewhere(ann: User) -> None:
    ann.groups.add(Group.objects.create(name="a;b"))
    before = {
        name: getattr(ann, name) for name in ("email", "first_name", "is_active", "date_joined")
    }
    lines = "".join(exporting.to_csv(User.objects.all())).splitlines()
    header, row = lines[0].lstrip("\ufeff").split(",", 1)[1], lines[1].split(",", 1)[1]
    ann.delete()
    content = csv_file(header.rsplit(",", 1)[0], row.rsplit(",", 1)[0])
    assert counts(imported(content)) == (1, 0, 0, 0)
    again = User.objects.get(username="ann")
    assert {name: getattr(again, name) for name in before} == before
    assert [group.name for group in again.groups.all()] == ["a;b"]


def test_sheets_cells_are_read_as_fields() -> None:
    found = imported(xlsx_file([("username", "is_active"), (4711, False)]), "staff.xlsx")
    assert counts(found) == (1, 0, 0, 0)
    assert not User.objects.get(username="4711").is_active
    assert Import.objects.get().kind == "xlsx"
