"""Import and export at the desk: the pages, the files they give, and who may see them."""

import io
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.test import Client
from openpyxl import load_workbook
from transferring import counts, csv_file, received, work

from usercast_master.accounts.models import User
from usercast_master.transfer import leases, tasks
from usercast_master.transfer.models import Import, State

pytestmark = pytest.mark.django_db(transaction=True)

IMPORTS = "/admin/transfer/import/"


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def desk(root: User) -> Client:
    browser = Client()
    browser.force_login(root)
    return browser


def upload(desk: Client, content: io.BytesIO, name: str = "staff.csv") -> Any:
    content.seek(0)
    content.name = name
    return desk.post(f"{IMPORTS}add/", {"file": content})


def body(answer: Any) -> str:
    return b"".join(answer).decode("utf-8-sig")


def test_file_is_checked_shown_confirmed_and_imported(desk: Client, root: User) -> None:
    User.objects.create(username="ann", email="old@x.org")
    lines = ["username,email", "ann,new@x.org", "bob,b@x.org", "cy,broken"]
    answer = upload(desk, csv_file(*lines))
    found = Import.objects.get()
    page = f"{IMPORTS}{found.pk}/"
    assert (answer.status_code, answer["Location"]) == (302, f"{page}change/")
    assert "data-at-work" in desk.get(f"{page}change/").content.decode()
    tasks.work_on_imports()
    shown = desk.get(f"{page}status/").content.decode()
    assert "data-at-work" not in shown
    for text in ("old@x.org", "new@x.org", "Import 2 rows", "Enter a valid email address."):
        assert text in shown
    assert desk.post(f"{page}confirm/").status_code == 302
    tasks.work_on_imports()
    found.refresh_from_db()
    assert (found.state, counts(found), found.created_by) == (State.DONE, (1, 1, 0, 1), root)
    assert "Imported" in desk.get(f"{page}change/").content.decode()
    report = desk.get(f"{page}errors.csv")
    assert report["Content-Disposition"] == f'attachment; filename="import-{found.pk}.errors.csv"'
    assert body(report).splitlines() == [
        "line,error,username,email",
        "4,email: Enter a valid email address.,cy,broken",
    ]
    assert "staff.csv" in desk.get(IMPORTS).content.decode()


def test_corrected_report_can_be_imported(desk: Client) -> None:
    found = work(received(csv_file("username,first_name,email", "'=bob,@Bob,broken")))
    report = body(desk.get(f"{IMPORTS}{found.pk}/errors.csv"))
    assert "'=bob,'@Bob," in report
    again = work(received(csv_file(report.replace("broken", "b@x.org").replace("'=bob", "bob"))))
    assert counts(again) == (1, 0, 0, 0)
    assert ["first_name", "", "@Bob"] in again.preview[0]["changes"]


@pytest.mark.parametrize(
    ("content", "name", "why"),
    [
        (b"username\n", "a.csv", "has a header, but no rows"),
        (b"username,shoe\nann,42\n", "a.csv", "“shoe” is none"),
        (b"PK\3\4", "a.xlsx", "no XLSX workbook"),
        (b"", "a.csv", "The file is empty."),
    ],
)
def test_unusable_file_is_refused_at_once(
    content: bytes, name: str, why: str, desk: Client
) -> None:
    answer = upload(desk, io.BytesIO(content), name)
    assert answer.status_code == 200
    assert why in answer.content.decode()
    assert not Import.objects.exists()


def test_cancelled_once_and_neither_confirmed_nor_cancelled_after(desk: Client) -> None:
    found = work(received(csv_file("username", "ann")))
    for way in ("cancel", "confirm", "cancel"):
        assert desk.post(f"{IMPORTS}{found.pk}/{way}/").status_code == 302
    shown = desk.get(f"{IMPORTS}{found.pk}/change/").content.decode()
    assert "Cancelled" in shown
    assert "was not waiting for a yes" in shown
    assert "had ended already" in shown
    assert not User.objects.filter(username="ann").exists()


def test_upload_is_taken_with_the_broker_away(desk: Client, monkeypatch: Any) -> None:
    def away(**_kwargs: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(tasks.work_on_imports, "apply_async", away)
    assert upload(desk, csv_file("username", "ann")).status_code == 302
    assert leases.claim(), "beat's next look finds it"


def test_export_is_what_the_list_shows(desk: Client) -> None:
    sales = Group.objects.create(name="sales")
    ann = User.objects.create(username="ann", first_name="=1+1", email="a@x.org")
    ann.groups.add(sales)
    User.objects.create(username="bob", is_active=False)
    page = desk.get("/admin/accounts/user/?is_active__exact=1").content.decode()
    assert f'href="{IMPORTS}export/csv/?is_active__exact=1"' in page
    answer = desk.get(f"{IMPORTS}export/csv/?q=ann&groups__id__exact={sales.pk}")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    header, *rows = body(answer).splitlines()
    assert header == "id,username,email,first_name,last_name,is_active,groups,date_joined,version"
    joined = ann.date_joined.isoformat()
    assert rows == [f"{ann.pk},ann,a@x.org,'=1+1,,true,sales,{joined},2"]
    answer = desk.get(f"{IMPORTS}export/xlsx/?is_active__exact=1")
    book = load_workbook(io.BytesIO(b"".join(answer)))
    assert [row[1] for row in book.active.values] == ["username", "ann", "root"]
    assert desk.get(f"{IMPORTS}export/pdf/").status_code == 404
    assert desk.get(f"{IMPORTS}export/csv/?nonsense=1").status_code == 404


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_selected_users_are_exported_by_an_action(kind: str, desk: Client) -> None:
    ann = User.objects.create(username="ann")
    User.objects.create(username="bob")
    data = {"action": f"export_{kind}", "_selected_action": [str(ann.pk)]}
    answer = desk.post("/admin/accounts/user/", data)
    content = b"".join(answer)
    assert f".{kind}" in answer["Content-Disposition"]
    if kind == "csv":
        assert [line.split(",")[1] for line in content.decode().splitlines()] == ["username", "ann"]
    else:
        values = load_workbook(io.BytesIO(content)).active.values
        assert [row[1] for row in values] == ["username", "ann"]


PAGES = [
    ("get", "add/"),
    ("post", "add/"),
    ("get", "{}/change/"),
    ("get", "{}/status/"),
    ("post", "{}/confirm/"),
    ("post", "{}/cancel/"),
    ("get", "{}/errors.csv"),
    ("get", ""),
]


@pytest.mark.parametrize(
    ("method", "page"), [*PAGES, ("get", "export/csv/"), ("get", "export/xlsx/")]
)
def test_pages_want_permission(method: str, page: str) -> None:
    found = work(received(csv_file("username", "ann")))
    path = IMPORTS + page.format(found.pk)
    assert getattr(Client(), method)(path).status_code == 302, "to the sign-in"
    helper = User.objects.create_user("helper", is_staff=True)
    helper.user_permissions.add(Permission.objects.get(codename="change_user"))
    browser = Client()
    browser.force_login(helper)
    assert getattr(browser, method)(path).status_code == 403
    found.refresh_from_db()
    assert found.state == State.CHECKED
    assert "Import" not in body(browser.get("/admin/accounts/user/")).split("<main")[-1]


@pytest.mark.parametrize("way", ["confirm", "cancel"])
def test_only_a_post_changes_anything(way: str, desk: Client) -> None:
    found = work(received(csv_file("username", "ann")))
    assert desk.get(f"{IMPORTS}{found.pk}/{way}/").status_code == 405
    found.refresh_from_db()
    assert found.state == State.CHECKED
