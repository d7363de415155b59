"""The second factor: a code after the password, from the setting up of an app to its reset."""

import base64
import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice
from knox.models import get_token_model

from usercast_master.accounts.models import User
from usercast_master.signin import second_factor
from usercast_master.signin.models import RecoveryCodes

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"
USERS = "/admin/accounts/user/"
CODE, SET_UP = "/admin/second-factor/", "/admin/second-factor/set-up/"


@pytest.fixture(autouse=True)
def _switched_on(settings: object) -> None:
    settings.USERCAST_SECOND_FACTOR = True
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def root() -> User:
    return User.objects.create_superuser("root", password=PASSWORD)


@pytest.fixture
def codes(root: User) -> list[str]:
    """The user's recovery codes, with an app set up."""
    return set_up_long_ago(root)


KEY = "3132333435363738393031323334353637383930"


def code_of(key: str) -> str:
    """What an app shows now."""
    return f"{totp(bytes.fromhex(key)):06d}"


def set_up_long_ago(user: User) -> list[str]:
    """Set up an app, whose code of now is not used yet; the recovery codes."""
    device, codes = second_factor.enrol(user, KEY, code_of(KEY))
    TOTPDevice.objects.filter(pk=device.pk).update(last_t=-1, drift=0)
    return codes


def with_password(page: str = USERS) -> tuple[Client, str]:
    """A browser that has given the password on the way to a page, and where it was led."""
    browser = Client()
    form = browser.get(page, follow=True)
    answer = browser.post(
        form.request["PATH_INFO"] + "?" + form.request["QUERY_STRING"],
        {"username": "root", "password": PASSWORD, "next": page},
        follow=True,
    )
    return browser, address_of(answer)


def address_of(answer: object) -> str:
    return f"{answer.request['PATH_INFO']}?{answer.request['QUERY_STRING']}"


def is_in(browser: Client) -> bool:
    return browser.get(USERS).status_code == 200


def error_of(answer: object) -> str:
    [error] = answer.context["form"].errors["code"]
    return error


def test_app_is_set_up_after_the_password_and_leads_on(root: User) -> None:
    browser, address = with_password(f"{USERS}?q=ann")
    assert address.startswith(SET_UP)
    page = browser.get(address).content.decode()
    assert "<svg" in page
    assert page.count('name="code"') == page.count('name="start_over"') == 1
    shown = re.search(r"<code>([A-Z2-7 ]{39})</code>", page)[1].replace(" ", "")
    key = base64.b32decode(shown).hex()
    wrong = browser.post(address, {"code": "000000"})
    assert "not right" in error_of(wrong)
    assert not TOTPDevice.objects.exists(), "nothing is kept before a right code"
    session = browser.session.session_key
    answer = browser.post(address, {"code": code_of(key)})
    shown_codes = re.findall(
        r"<code>([a-z0-9]{4}(?: [a-z0-9]{4}){3})</code>", answer.content.decode()
    )
    assert len(set(shown_codes)) == 10
    assert answer.context["next"] == f"{USERS}?q=ann"
    assert "no-store" in answer["Cache-Control"]
    assert is_in(browser)
    assert browser.session.session_key != session
    assert key not in str(dict(browser.session))
    again = browser.get(address, follow=True)
    assert shown_codes[0] not in again.content.decode(), "shown once"


def test_code_is_asked_for_after_the_password_and_taken_once(root: User, codes: list[str]) -> None:
    browser, address = with_password(USERS)
    assert address == f"{CODE}?next=%2Fadmin%2Faccounts%2Fuser%2F"
    assert not is_in(browser)
    before, token = browser.session.session_key, browser.get(address).context["csrf_token"]
    code = code_of(KEY)
    answer = browser.post(address, {"code": f"{code[:3]} {code[3:]}"})
    assert (answer.status_code, answer.url) == (302, USERS)
    assert is_in(browser)
    assert browser.session.session_key != before
    assert browser.get(USERS).context["csrf_token"] != token
    other, address = with_password()
    assert "used before" in error_of(other.post(address, {"code": code}))
    assert not is_in(other)


def test_recovery_code_lets_in_once(root: User, codes: list[str]) -> None:
    browser, address = with_password()
    typed = " ".join(codes[3][at : at + 4] for at in (0, 4, 8, 12)).upper()
    landed = browser.post(address, {"code": typed}, follow=True)
    assert landed.status_code == 200
    assert "recovery code: 9 left" in landed.content.decode()
    other, address = with_password()
    assert "used before" in error_of(other.post(address, {"code": typed}))
    assert not is_in(other)


def test_recovery_codes_are_kept_as_hashes_only(codes: list[str]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(r)::text FROM signin_recoverycodes r")
        [(row,)] = cursor.fetchall()
    assert len(RecoveryCodes.objects.get().digests) == 10
    assert not [code for code in codes if code in row]


@pytest.mark.parametrize("right", [lambda codes: code_of(KEY), lambda codes: codes[0]])
def test_right_code_too_soon_after_wrong_ones_is_told_how_long(
    root: User, codes: list[str], right: Callable[[list[str]], str]
) -> None:
    code = right(codes)
    device = TOTPDevice if code.isdecimal() else RecoveryCodes
    device.objects.update(throttling_failure_count=10, throttling_failure_timestamp=timezone.now())
    browser, address = with_password()
    answer = browser.post(address, {"code": code})
    assert re.search(r"counts in [89] minutes", error_of(answer))
    assert not is_in(browser)
    device.objects.update(throttling_failure_timestamp=timezone.now() - timedelta(seconds=513))
    assert browser.post(address, {"code": code}).status_code == 302
    assert is_in(browser)


def test_each_wrong_code_doubles_the_wait(root: User, codes: list[str]) -> None:
    browser, address = with_password()
    waits = []
    for _ in range(3):
        waits.append(error_of(browser.post(address, {"code": "wrong"})))
        RecoveryCodes.objects.update(
            throttling_failure_timestamp=timezone.now() - timedelta(minutes=1)
        )
    assert [re.search(r"in (.*)\.", wait)[1] for wait in waits] == [
        "1 second",
        "2 seconds",
        "4 seconds",
    ]


@pytest.mark.parametrize("page", [USERS, "/admin/", "/api/v1/users/", "/api/schema/", "/api/docs/"])
def test_password_alone_opens_nothing(root: User, codes: list[str], page: str) -> None:
    browser, _ = with_password()
    assert browser.get(page).status_code in (302, 401, 403)
    browser.post(CODE, {"code": codes[0]})
    assert browser.get(page).status_code == 200


def test_password_alone_writes_nothing(root: User, codes: list[str]) -> None:
    browser, _ = with_password()
    new = {"username": "eve"}
    refused = browser.post("/api/v1/users/", new, content_type="application/json")
    assert refused.status_code in (401, 403)
    browser.post(f"{USERS}add/", {**new, "usable_password": "false"})
    assert not User.objects.filter(username="eve").exists()


def test_token_is_asked_for_no_code(root: User) -> None:
    _, token = get_token_model().objects.create(root, name="payroll", scopes=["read"])
    answer = Client().get("/api/v1/users/", headers={"Authorization": f"Token {token}"})
    assert answer.status_code == 200


@pytest.mark.parametrize("has_app", [True, False])
def test_password_of_long_ago_counts_no_more(root: User, has_app: bool) -> None:
    if has_app:
        set_up_long_ago(root)
    browser, address = with_password()
    session = browser.session
    session["password_given_at"] -= 601
    session.save()
    answer = browser.post(address, {"code": code_of(KEY)}, follow=True)
    assert address_of(answer).startswith("/admin/login/")
    assert TOTPDevice.objects.count() == has_app
    assert not is_in(browser)


@pytest.mark.parametrize("page", [CODE, SET_UP])
def test_pages_lead_strangers_to_the_password(page: str) -> None:
    assert Client().get(page).url.startswith("/admin/login/")


def test_whoever_has_an_app_sets_up_no_other(root: User, codes: list[str]) -> None:
    browser, _ = with_password()
    other_key = "00" * 20
    session = browser.session
    session["key_to_enrol"] = other_key
    session.save()
    browser.post(SET_UP, {"code": code_of(other_key)})
    assert [device.key for device in TOTPDevice.objects.all()] == [KEY]
    assert not is_in(browser)
    with pytest.raises(second_factor.ValidationError, match="already"):
        second_factor.enrol(root, other_key, code_of(other_key))


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example/", "javascript:alert(1)"]
)
def test_leads_on_within_the_site_only(root: User, codes: list[str], target: str) -> None:
    browser, _ = with_password()
    answer = browser.post(f"{CODE}?next={target}", {"code": codes[0]})
    assert answer.url == "/admin/"


def test_sign_in_can_start_over(root: User, codes: list[str]) -> None:
    browser, address = with_password()
    answer = browser.post(address, {"start_over": "yes", "code": ""}, follow=True)
    assert address_of(answer).startswith("/admin/login/")
    assert answer.context["form"].fields.keys() == {"username", "password"}


def by_command(root: User) -> None:
    call_command("second_factor", "reset", "root", verbosity=0)


def at_the_desk(root: User) -> None:
    other = User.objects.create_superuser("other", password=PASSWORD)
    second_factor.enrol(other, "11" * 20, code_of("11" * 20))
    desk = Client()
    desk.force_login(other)
    session = desk.session
    session["otp_device_id"] = TOTPDevice.objects.get(user=other).persistent_id
    session.save()
    mine = TOTPDevice.objects.get(user=root)
    page = desk.get("/admin/signin/secondfactor/")
    assert KEY not in page.content.decode()
    done = desk.post(
        "/admin/signin/secondfactor/",
        {"action": "reset", "_selected_action": [mine.pk]},
        follow=True,
    )
    assert "1 reset" in done.content.decode()
    line = LogEntry.objects.get(object_id=str(root.pk))
    assert (line.user, line.change_message) == (other, "Second factor reset.")


@pytest.mark.parametrize("way", [by_command, at_the_desk])
def test_reset_ends_sessions_and_asks_to_set_up_anew(
    root: User, codes: list[str], way: Callable[[User], None], caplog: pytest.LogCaptureFixture
) -> None:
    browser, address = with_password()
    browser.post(address, {"code": codes[0]})
    assert is_in(browser)
    way(root)
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    [line] = [line for line in lines if line["event"] == "second_factor_reset"]
    assert line["user_id"] == str(root.pk)
    assert not is_in(browser)
    assert not RecoveryCodes.objects.filter(user=root).exists()
    assert with_password()[1].startswith(SET_UP)


@pytest.mark.parametrize(("name", "reason"), [("nobody", "no user"), ("root", "no second factor")])
def test_reset_of_nothing_says_so(root: User, name: str, reason: str) -> None:
    with pytest.raises(CommandError, match=reason):
        call_command("second_factor", "reset", name)


def test_staff_without_superuser_see_no_second_factors(codes: list[str]) -> None:
    from usercast_master.signin.admin import SecondFactorAdmin

    staff = User.objects.create_user("staff", password=PASSWORD, is_staff=True)
    desk = Client()
    desk.force_login(staff)
    session = desk.session
    device = TOTPDevice.objects.create(user=staff, key=KEY)
    session["otp_device_id"] = device.persistent_id
    session.save()
    assert desk.get("/admin/").status_code == 200
    assert desk.get("/admin/signin/secondfactor/").status_code == 403
    assert desk.get("/admin/otp_totp/totpdevice/").status_code == 404
    assert "key" not in SecondFactorAdmin.fields


def test_off_a_password_is_enough(root: User, settings: object) -> None:
    settings.USERCAST_SECOND_FACTOR = False
    second_factor.enrol(root, KEY, code_of(KEY))
    browser, address = with_password()
    assert address == f"{USERS}?"
    assert browser.get(CODE, follow=True).request["PATH_INFO"] == "/admin/"


def test_off_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    import runpy

    import usercast_master.settings as module

    for value, expected in (("", False), ("true", True)):
        monkeypatch.setenv("USERCAST_SECOND_FACTOR", value)
        assert runpy.run_path(module.__file__)["USERCAST_SECOND_FACTOR"] is expected
