"""Registering clients: by function, by command, at the desk; queues are LocalStack's."""

import io
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.test import Client as Browser
from django.test import override_settings
from django.urls import include, path
from kombu.exceptions import OperationalError
from unfold.admin import ModelAdmin

from usercast import aws, topology
from usercast.errors import ConfigurationError, TopologyError, UsercastError
from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken
from usercast_master.clients import registration, subscriptions, tasks
from usercast_master.clients.models import Client
from usercast_master.clients.registering import Registering
from usercast_master.desk.site import Desk
from usercast_master.outbox.models import OutboxEntry

pytestmark = pytest.mark.django_db(transaction=True)

DESK = "/registering/clients/client/"


class _Admin(Registering, ModelAdmin):
    """The mixin at work, whatever else the desk's own page of clients has."""


_site = Desk(name="admin")
_site._registry = {**admin.site._registry, Client: _Admin(Client, _site)}
urlpatterns = [
    path("registering/", _site.urls),
    path("", include("usercast_master.urls")),
]


@pytest.fixture
def name(settings: Any) -> Iterator[str]:
    """A name of the test's own; its queues are gone afterwards."""
    settings.USERCAST_TOPIC_ARN = topology.deploy_topic()
    settings.USERCAST_MASTER_URL = "https://master.example.org"
    name = f"t{uuid.uuid4().hex[:8]}"
    yield name
    topology.remove_client(name)


@pytest.fixture
def no_aws(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """CloudFormation left out; what it was asked."""
    asked: list[str] = []
    monkeypatch.setattr(
        topology, "deploy_client", lambda name, topic_arn: asked.append(f"deploy {name}")
    )
    monkeypatch.setattr(topology, "remove_client", lambda name: asked.append(f"remove {name}"))
    return asked


def queues(name: str) -> int:
    return len(aws.sqs().list_queues(QueueNamePrefix=f"usercast-{name}-").get("QueueUrls", []))


def status_of(token: str | None, path: str = "/api/v1/snapshot/") -> int:
    answer = Browser().get(path, headers={"Authorization": f"Token {token}"})
    b"".join(answer) if answer.streaming else answer.content
    return answer.status_code


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("clients", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


# By function


def test_registered_client_has_an_account_and_a_token_that_fetches_the_snapshot(name: str) -> None:
    found = registration.register(name)
    account = found.client.account
    assert account
    assert (account.username, account.is_staff) == (f"client.{name}", True)
    assert not account.is_superuser
    assert not account.has_usable_password()
    assert account.get_all_permissions() == {"accounts.view_user"}
    row = ApiToken.objects.get(user=account)
    assert (row.name, row.scopes, row.expiry) == (name, ["snapshot", "report"], None)
    assert status_of(found.token) == 200
    assert status_of(found.token, "/api/v1/users/") == 403
    # Nobody's business but this service's.
    assert not OutboxEntry.objects.exists()


def test_registering_again_keeps_the_token_and_repairs_what_is_missing(name: str) -> None:
    first = registration.register(name)
    again = registration.register(name)
    assert again.token is None
    assert again.client.registered_at == first.client.registered_at
    assert status_of(first.token) == 200
    assert first.client.account
    first.client.account.user_permissions.clear()
    registration.register(name)
    assert status_of(first.token) == 200
    User.objects.get(username=f"client.{name}").delete()
    repaired = registration.register(name)
    assert repaired.token
    assert status_of(repaired.token) == 200
    assert Client.objects.count() == 1


def test_client_that_was_known_by_its_subscriptions_only_is_registered(name: str) -> None:
    Client.objects.create(name=name, waiting=3)
    assert registration.register(name).token
    assert Client.objects.values_list("name", "waiting").get() == (name, 3)


def test_deactivated_account_stays_so(name: str) -> None:
    found = registration.register(name)
    User.objects.filter(username=f"client.{name}").update(is_active=False)
    registration.register(name)
    assert status_of(found.token) == 401


@pytest.mark.parametrize("bad", ["", "A", "master", "users", "x" * 41, "a/b", "1a", "a\n"])
def test_name_that_no_client_may_have_is_refused(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="client name"):
        registration.register(bad)
    assert not Client.objects.exists()


def test_user_of_somebody_else_is_not_made_the_account(name: str) -> None:
    User.objects.create_user(f"client.{name}", password="known-to-somebody")
    with pytest.raises(registration.AccountTaken, match="rename"):
        registration.register(name)
    assert not Client.objects.exists()
    assert not User.objects.get().is_staff


def test_queues_are_made_and_removed_with_everything_else(name: str) -> None:
    found = registration.register(name)
    registration.deploy(found.client)
    assert queues(name) == 4
    subscriptions.look()
    client = Client.objects.get()
    assert (client.waiting, client.dead, client.setup) == (0, 0, "")
    registration.remove(client)
    assert queues(name) == 0
    assert status_of(found.token) == 401
    assert not Client.objects.exists()
    assert not User.objects.exists()
    subscriptions.look()
    assert not Client.objects.filter(name=name).exists()


def test_registered_client_without_queues_stays_and_is_not_counted(name: str) -> None:
    registration.register(name)
    Client.objects.update(waiting=1, dead=1)
    subscriptions.look()
    client = Client.objects.get(name=name)
    assert (client.waiting, client.dead) == (None, None)
    assert client.looked_at


def test_failed_deployment_is_noted_and_can_be_repeated(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = registration.register(name).client

    def fail(name: str, topic_arn: str) -> None:
        assert Client.objects.get().setup == "deploying"
        raise TopologyError("no quota")

    with monkeypatch.context() as patch, pytest.raises(TopologyError):
        patch.setattr(topology, "deploy_client", fail)
        registration.deploy(client)
    client.refresh_from_db()
    assert (client.setup, client.setup_problem) == ("", "no quota")
    registration.deploy(client)
    client.refresh_from_db()
    assert (client.setup, client.setup_problem) == ("", "")
    assert queues(name) == 4


@pytest.mark.parametrize("step", ["queues", "rows"])
def test_removal_that_breaks_off_can_be_repeated(
    name: str, step: str, no_aws: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = registration.register(name)

    def crash(_name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if step == "queues":
            patch.setattr(topology, "remove_client", crash)
        else:
            patch.setattr(registration, "_forget", crash)
        registration.remove(found.client)
    assert status_of(found.token) == 401
    registration.remove(Client.objects.get())
    assert not Client.objects.exists()
    assert not User.objects.exists()


def test_who_registers_anew_while_the_removal_goes_on_keeps_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = registration.register(name).client
    monkeypatch.setattr(topology, "remove_client", registration.register)
    registration.remove(client)
    assert Client.objects.get().account
    with pytest.raises(registration.NotRegistered):
        registration.remove(Client(name="gone"))


def test_new_token_replaces_the_old_one(name: str) -> None:
    found = registration.register(name)
    token = registration.new_token(found.client)
    assert (status_of(found.token), status_of(token)) == (401, 200)
    with pytest.raises(registration.NotRegistered, match="clients add"):
        registration.new_token(Client.objects.create(name="found"))


def test_environment_file_has_the_token_and_no_other_secret(
    name: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    client = Client(name=name)
    text = registration.environment_file(client, "ucm_1", "https://master.example.org")
    given = dict(line.split("=", 1) for line in text.splitlines() if line[:1] not in ("#", ""))
    assert given == {
        "USERCAST_CLIENT": name,
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
        "USERCAST_MASTER_URL": "https://master.example.org",
        "USERCAST_MASTER_TOKEN": "ucm_1",
    }
    for secret in (settings.SECRET_KEY, settings.CELERY_BROKER_URL, "postgres://nobody"):
        assert secret not in text
    for missing in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ALLOWED_ORIGINS", "ALLOWED_HOSTS"):
        assert f"# {missing}=" in text
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    text = registration.environment_file(client, None, None)
    assert "AWS_ENDPOINT_URL" not in text
    assert f"manage.py clients token {name}" in text
    assert "# USERCAST_MASTER_URL=" in text


# By command


def test_command_adds_lists_renews_and_removes(name: str) -> None:
    file, said = run("add", name)
    token = next(line for line in file.splitlines() if "MASTER_TOKEN" in line).partition("=")[2]
    assert status_of(token) == 200
    assert queues(name) == 4
    assert "queues are there" in said
    assert token not in run("add", name)[0]
    assert name in run("list")[0]
    other = run("token", name)[0].strip()
    assert (status_of(token), status_of(other)) == (401, 200)
    _, said = run("remove", name, "--yes")
    assert "its receipts" in said
    assert queues(name) == 0
    assert name not in run("list")[0]


def test_command_leaves_the_queues_to_others(name: str, no_aws: list[str]) -> None:
    file, said = run("add", name, "--without-queues")
    token = next(line for line in file.splitlines() if "MASTER_TOKEN" in line).partition("=")[2]
    assert status_of(token) == 200
    assert "left to others" in said
    assert no_aws == []
    assert Client.objects.get().setup_problem == ""


def test_command_wants_the_name_typed(
    name: str, no_aws: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("add", name)
    monkeypatch.setattr("builtins.input", lambda: "another")
    with pytest.raises(CommandError, match="nothing was removed"):
        run("remove", name)
    assert Client.objects.exists()
    monkeypatch.setattr("builtins.input", lambda: name)
    run("remove", name)
    assert no_aws == [f"deploy {name}", f"remove {name}"]


def test_command_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="known are: none"):
        run("remove", name, "--yes")
    with pytest.raises(CommandError, match="client name"):
        run("add", "Not A Name")

    def fail(*_args: Any, **_options: Any) -> None:
        raise TopologyError("no quota")

    with monkeypatch.context() as patch:
        patch.setattr(topology, "deploy_client", fail)
        patch.setattr(topology, "remove_client", fail)
        with pytest.raises(CommandError, match=f"no quota.*clients add {name}"):
            run("add", name)
        with pytest.raises(CommandError, match=f"no quota.*clients remove {name}"):
            run("remove", name, "--yes")
    assert "no quota" in run("list")[0]


# At the desk


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What a worker would have been told."""
    found: list[list[str]] = []
    for task in (tasks.deploy, tasks.remove):
        monkeypatch.setattr(
            task, "apply_async", lambda args, task=task, **_: found.append([task.name, *args])
        )
    return found


@pytest.fixture
def desk() -> Iterator[Browser]:
    with override_settings(ROOT_URLCONF=__name__):
        browser = Browser()
        browser.force_login(User.objects.create_superuser("root"))
        yield browser


def test_desk_registers_shows_the_file_once_and_has_a_worker_make_the_queues(
    desk: Browser, name: str, no_aws: list[str], enqueued: list[list[str]]
) -> None:
    assert "Register" in desk.get(f"{DESK}add/").content.decode()
    page = desk.post(f"{DESK}add/", {"name": name}).content.decode()
    token = page.partition("USERCAST_MASTER_TOKEN=")[2].split()[0]
    assert status_of(token) == 200
    assert enqueued == [["usercast_master.clients.tasks.deploy", name]]
    assert Client.objects.get().setup == "deploying"
    tasks.deploy(name)
    tasks.deploy(name)  # A task that comes twice works once.
    assert no_aws == [f"deploy {name}"]
    assert Client.objects.get().setup == ""
    again = desk.post(f"{DESK}add/", {"name": name}).content.decode()
    assert token not in again
    assert "registered already" in again
    assert LogEntry.objects.values_list("object_repr", "action_flag").get() == (name, 1)


def test_desk_says_why_a_name_will_not_do(desk: Browser, name: str) -> None:
    assert "client name" in desk.post(f"{DESK}add/", {"name": "Bad Name"}).content.decode()
    User.objects.create(username=f"client.{name}")
    assert "rename" in desk.post(f"{DESK}add/", {"name": name}).content.decode()
    assert not Client.objects.exists()


def test_desk_gives_a_new_token(desk: Browser, name: str) -> None:
    old = registration.register(name).token
    assert "ends at once" in desk.get(f"{DESK}{name}/token/").content.decode()
    assert status_of(old) == 200
    page = desk.post(f"{DESK}{name}/token/").content.decode()
    token = page.partition("USERCAST_MASTER_TOKEN=")[2].split()[0]
    assert (status_of(old), status_of(token)) == (401, 200)
    assert LogEntry.objects.get().get_change_message().startswith("New token")


def test_desk_removes_once_the_name_is_typed(
    desk: Browser, name: str, no_aws: list[str], enqueued: list[list[str]]
) -> None:
    token = registration.register(name).token
    page = f"{DESK}{name}/delete/"
    assert "its queues" in desk.get(page).content.decode()
    assert "nothing was removed" in desk.post(page, {"name": "another"}).content.decode()
    assert desk.post(page).status_code == 200
    assert (enqueued, status_of(token)) == ([], 200)
    assert desk.post(page, {"name": name})["Location"] == DESK
    assert status_of(token) == 401
    assert enqueued == [["usercast_master.clients.tasks.remove", name]]
    tasks.remove(name)
    tasks.remove(name)
    assert no_aws == [f"remove {name}"]
    assert not Client.objects.exists()
    assert LogEntry.objects.get().is_deletion()
    assert desk.get(page).status_code == 404


def test_desk_names_the_command_while_the_broker_is_away(
    desk: Browser, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: Any, **_options: Any) -> None:
        raise OperationalError("away")

    for task in (tasks.deploy, tasks.remove):
        monkeypatch.setattr(task, "apply_async", refuse)
    page = desk.post(f"{DESK}add/", {"name": name}).content.decode()
    assert f"manage.py clients add {name}" in page
    assert "USERCAST_MASTER_TOKEN=ucm_" in page
    assert "clients add" in Client.objects.get().setup_problem
    page = desk.post(f"{DESK}{name}/delete/", {"name": name}, follow=True).content.decode()
    assert f"manage.py clients remove {name}" in page
    assert "clients remove" in Client.objects.get().setup_problem


def test_task_that_fails_leaves_the_reason(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise UsercastError("no quota")

    client = registration.register(name).client
    with monkeypatch.context() as patch:
        patch.setattr(topology, "deploy_client", fail)
        patch.setattr(topology, "remove_client", fail)
        for task, setup in ((tasks.deploy, "deploying"), (tasks.remove, "removing")):
            registration.note(client, setup)
            task(name)
            assert Client.objects.values_list("setup", "setup_problem").get() == ("", "no quota")


PAGES = {"add/": "add_client", "{}/token/": "change_client", "{}/delete/": "delete_client"}


@pytest.mark.parametrize("allowed", PAGES.values())
def test_each_page_wants_its_permission(
    desk: Browser, name: str, allowed: str, enqueued: list[list[str]]
) -> None:
    registration.register(name)
    staff = User.objects.create(username="ann", is_staff=True)
    staff.user_permissions.add(
        Permission.objects.get(codename=allowed), Permission.objects.get(codename="view_client")
    )
    desk.force_login(staff)
    for page, needed in PAGES.items():
        address = DESK + page.format(name)
        status = 200 if needed == allowed else 403
        assert desk.get(address).status_code == status
        if status == 403:
            assert desk.post(address, {"name": name}).status_code == 403
    assert not enqueued
    assert ApiToken.objects.count() == 1
    desk.logout()
    for page in PAGES:
        assert desk.post(DESK + page.format(name), {"name": name}).status_code == 302
    assert ApiToken.objects.count() == 1
