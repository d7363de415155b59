"""What clients report, what the desk makes of it, and the canary that tells their lanes' health."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client as Browser
from django.utils import timezone
from rest_framework.test import APIClient

from usercast.contract import CONTRACT_VERSION, Lane, decode_batch
from usercast.errors import PublishFailed
from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope
from usercast_master.clients import canary, health, tasks
from usercast_master.clients.health import State
from usercast_master.clients.models import Canary, Client
from usercast_master.desk.templatetags.desk import seconds, sparkline
from usercast_master.outbox import topic

pytestmark = pytest.mark.django_db

ADDRESS = "/api/v1/clients/billing/status/"


def ago(**passed: float) -> datetime:
    return timezone.now() - timedelta(**passed)


def report(**fields: Any) -> dict[str, Any]:
    lane = {"sent_at": ago(seconds=3).isoformat(), "took_ms": 40}
    check = {"at": ago(seconds=9).isoformat(), "took_ms": 30, "drift": 0, "behind": 0}
    return {
        "contract": CONTRACT_VERSION,
        "service": "0.1.0",
        "users": 1234,
        "lag_ms": 55,
        "lag_history": [{"start": 1_790_000_000, "worst_ms": 70}],
        "dead_letters": 0,
        "live": lane,
        "bulk": lane,
        "check": check,
        "receipts": [],
        **fields,
    }


@pytest.fixture
def account() -> User:
    return User.objects.create_user("client.billing", is_staff=True)


@pytest.fixture
def billing(account: User) -> Client:
    Canary.objects.create(sent_at=ago(seconds=2), since=ago(hours=1))
    return Client.objects.create(name="billing", registered_at=ago(days=1), account=account)


def caller(user: User, *scopes: Scope) -> APIClient:
    _, token = ApiToken.objects.create(user, name="t", scopes=list(scopes))
    api = APIClient()
    api.credentials(HTTP_AUTHORIZATION=f"Token {token}")
    return api


@pytest.fixture
def api(account: User, billing: Client) -> APIClient:
    return caller(account, Scope.REPORT)


# The report


def test_report_is_kept_and_shown(api: APIClient, billing: Client) -> None:
    assert api.put(ADDRESS, report()).status_code == 204
    (one,) = health.look().clients
    assert (one.state, one.drift, one.behind, one.users) == (State.IN_STEP, 0, 0, 1234)
    assert (one.lag_ms, one.worst_lag_ms, one.contract) == (55, 70, CONTRACT_VERSION)
    assert [lane.took_ms for lane in one.lanes] == [40, 40]


def test_what_a_client_does_not_know_is_not_known_here(api: APIClient) -> None:
    unknown = dict.fromkeys(("users", "lag_ms", "dead_letters", "live", "bulk", "check"))
    answer = api.put(ADDRESS, report(**unknown, lag_history=[]))
    assert answer.status_code == 204
    (one,) = health.look().clients
    assert (one.drift, one.lag_ms, one.dead, one.worst_lag_ms) == (None, None, None, None)
    assert one.state is State.POLLER_SILENT


def test_the_newest_report_counts(api: APIClient) -> None:
    api.put(ADDRESS, report(users=1))
    api.put(ADDRESS, report(users=2))
    assert health.look().clients[0].users == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"users": -1},
        {"lag_ms": "x"},
        {"contract": "\0"},
        {"service": "x" * 41},
        {"live": {"sent_at": "yesterday", "took_ms": 1}},
        {"check": {"drift": 1}},
        {"lag_history": [{"start": 1, "worst_ms": 1}] * 71},
        {"receipts": [{"user_id": "x"}]},
    ],
)
def test_a_report_that_is_not_valid_is_refused(api: APIClient, wrong: dict[str, Any]) -> None:
    assert api.put(ADDRESS, report(**wrong)).status_code == 400
    assert Client.objects.get().reported_at is None


def test_only_the_client_itself_reports(account: User, billing: Client) -> None:
    other = User.objects.create_user("client.support", is_staff=True)
    assert caller(other, Scope.REPORT).put(ADDRESS, report()).status_code == 403
    assert caller(account, Scope.SNAPSHOT, Scope.WRITE).put(ADDRESS, report()).status_code == 403
    root = User.objects.create_superuser("root")
    assert caller(root, Scope.REPORT).put(ADDRESS, report()).status_code == 204


def test_a_client_that_is_not_registered_has_no_status(api: APIClient, billing: Client) -> None:
    assert api.put("/api/v1/clients/nobody/status/", report()).status_code == 404
    Client.objects.update(registered_at=None)
    assert api.put(ADDRESS, report()).status_code == 404


# The state


def given(client: Client, *, reported: float = 2, **fields: Any) -> State:
    client.report, client.reported_at = report(**fields), ago(seconds=reported)
    client.save()
    return health.look().clients[0].state


def check(**fields: Any) -> dict[str, Any]:
    return {**report()["check"], **fields}


def test_states_by_report(billing: Client) -> None:
    assert given(billing) is State.IN_STEP
    assert given(billing, check=check(behind=3)) is State.BEHIND
    assert given(billing, check=check(drift=1, behind=3)) is State.DRIFT
    assert given(billing, check=None) is State.NOT_COMPARED
    assert given(billing, check=check(at=ago(seconds=115).isoformat())) is State.IN_STEP
    old = ago(seconds=125).isoformat()
    slow = check(at=old, took_ms=60_000)
    assert given(billing, check=slow) is State.IN_STEP, "it compares every ten minutes"
    assert given(billing, check=check(at=old)) is State.NOT_COMPARED
    assert given(billing, check=check(at=old, drift=1)) is State.DRIFT
    assert given(billing, reported=59) is State.IN_STEP
    assert given(billing, reported=61) is State.SILENT


@pytest.mark.parametrize("lane", ["live", "bulk"])
def test_a_lane_without_probes_is_silent_unless_there_is_no_canary(
    billing: Client, lane: str
) -> None:
    old = {"sent_at": ago(seconds=21).isoformat(), "took_ms": 1}
    assert given(billing, **{lane: old}) is State.POLLER_SILENT
    assert given(billing, **{lane: None}) is State.POLLER_SILENT
    Canary.objects.update(sent_at=ago(seconds=16))
    assert health.look().is_canary_late
    assert given(billing, **{lane: old}) is State.IN_STEP


def test_after_a_pause_of_the_canary_lanes_have_time_to_be_heard_of(billing: Client) -> None:
    old = {"sent_at": ago(minutes=5).isoformat(), "took_ms": 1}
    Canary.objects.update(since=ago(seconds=19))
    assert given(billing, live=old) is State.IN_STEP
    Canary.objects.update(since=ago(seconds=21))
    assert given(billing, live=old) is State.POLLER_SILENT
    Client.objects.update(registered_at=ago(seconds=19))
    assert health.look().clients[0].state is State.IN_STEP


def test_states_without_a_report(billing: Client) -> None:
    def state(**fields: Any) -> State:
        Client.objects.update(**fields)
        return health.look().clients[0].state

    assert state() is State.SILENT
    assert state(registered_at=ago(seconds=10)) is State.NEW
    assert state(setup=Client.Setup.DEPLOYING) is State.DEPLOYING
    assert state(setup=Client.Setup.REMOVING) is State.REMOVING
    assert state(setup="", setup_problem="No rights.") is State.FAILED
    assert state(setup_problem="", registered_at=None) is State.UNREGISTERED


# The page


@pytest.fixture
def root() -> Browser:
    browser = Browser()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.mark.parametrize("address", ["/admin/clients/client/", "/admin/clients/client/rows/"])
def test_the_page_and_its_renewal_show_the_same(
    root: Browser, billing: Client, address: str
) -> None:
    given(billing, check=check(drift=1200, behind=7), dead_letters=3)
    page = root.get(address).content.decode()
    for text in ("billing", "1,234 users", "drift", "1,200 users", "7 on their way", "55 ms"):
        assert text in page
    assert "desk-spark" in page


def test_the_page_says_when_the_canary_is_not_sent(root: Browser, billing: Client) -> None:
    Canary.objects.update(sent_at=ago(minutes=3))
    assert "was last sent 3 min ago" in root.get("/admin/clients/client/").content.decode()
    Canary.objects.all().delete()
    assert "has not been sent yet" in root.get("/admin/clients/client/").content.decode()


def test_without_clients_the_page_says_how_to_get_one(root: Browser) -> None:
    assert "manage.py clients add" in root.get("/admin/clients/client/").content.decode()


def test_the_page_is_for_who_may_look_at_clients() -> None:
    clerk = User.objects.create_user("clerk", is_staff=True)
    browser = Browser()
    browser.force_login(clerk)
    for address in ("/admin/clients/client/", "/admin/clients/client/rows/"):
        assert browser.get(address).status_code == 403
    clerk.user_permissions.add(Permission.objects.get(codename="view_client"))
    page = browser.get("/admin/clients/client/")
    assert page.status_code == 200
    assert "Register a client" not in page.content.decode()


def test_costs_the_same_however_many_clients(
    root: Browser, billing: Client, django_assert_max_num_queries: Any
) -> None:
    Client.objects.bulk_create(Client(name=f"c{n}", registered_at=ago(days=1)) for n in range(50))
    with django_assert_max_num_queries(8):
        root.get("/admin/clients/client/rows/")


def test_curve() -> None:
    assert sparkline([]) == sparkline([(10, None)]) == ""
    curve = sparkline([(600, 20), (610, None), (620, 40)])
    assert 'd="M58 20v-9.5 M60 20v-19.0"' in curve
    assert "worst lag of ten minutes: 40 ms" in curve
    assert (seconds(99), seconds(100), seconds(61_000)) == ("99 ms", "0.1 s", "1 min")


# The canary


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[topic.Outgoing]:
    taken: list[topic.Outgoing] = []

    def publish(messages: list[topic.Outgoing]) -> list[None]:
        taken.extend(messages)
        return [None] * len(messages)

    monkeypatch.setattr(topic, "publish", publish)
    return taken


def test_a_probe_goes_down_both_lanes(sent: list[topic.Outgoing]) -> None:
    for _ in range(2):
        assert canary.send()
    assert [one.lane for one in sent] == [Lane.LIVE, Lane.BULK] * 2
    for one in sent:
        batch = decode_batch(one.message)
        assert ([probe.subject for probe in batch.probes], batch.changes) == ([one.lane], [])
    kept = Canary.objects.get()
    assert kept.sent_at == decode_batch(sent[-1].message).probes[0].time
    assert kept.since == decode_batch(sent[0].message).probes[0].time
    Canary.objects.update(sent_at=ago(seconds=16))
    canary.send()
    assert Canary.objects.get().since == decode_batch(sent[-1].message).probes[0].time, "a pause"


@pytest.mark.django_db(transaction=True)
def test_sns_away_is_no_probe_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(messages: object) -> list[None]:
        raise PublishFailed("SNS does not answer")

    monkeypatch.setattr(topic, "publish", away)
    tasks.send_canary()
    assert not Canary.objects.exists()


def test_a_probe_that_sns_refuses_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = topic.Refusal("no", blamed=True, for_its_content=True)
    monkeypatch.setattr(topic, "publish", lambda _messages: [None, refusal])
    assert not canary.send()
    assert not Canary.objects.exists()
