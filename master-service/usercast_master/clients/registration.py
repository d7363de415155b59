"""Registering: makes a client known, with queues and a token of its own, or takes all that away.

The row in ``Client``, the technical account and the token are one transaction; the queues are
CloudFormation's (``usercast.topology``), before or after it. Whatever is interrupted can be
repeated: each step does only what is missing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.conf import settings
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission
from django.db import transaction
from django.utils import timezone

from usercast import topology
from usercast.errors import ConfigurationError, UsercastError
from usercast_master.accounts.models import User
from usercast_master.api.models import ApiToken, Scope
from usercast_master.clients.models import Client

SCOPES = [Scope.SNAPSHOT.value, Scope.REPORT.value]
#: In the names of queues and databases it would be taken for this service.
_RESERVED = "master"


class AccountTaken(UsercastError):
    """Another user has the name of the client's technical account: rename that user first."""


class NotRegistered(UsercastError):
    """There is no such client: `manage.py clients list` shows those that are known."""


@dataclass(frozen=True)
class Registration:
    """A client as it is registered now.

    Args:
        token: what it calls the API with, to be shown once; None if it had one already.
    """

    client: Client
    token: str | None


def require_name(name: str) -> None:
    """Return when a client may have this name.

    Raises:
        ConfigurationError: it may not; the text says which may.
    """
    if name == _RESERVED:
        raise ConfigurationError(f"client name {name!r}: it is this service's own")
    topology.require_client_name(name)


@transaction.atomic
def register(name: str, by: User | None = None) -> Registration:
    """Make a client known, with its account and token; its queues are for ``deploy``.

    Safe to repeat: what is there stays, the token above all; what is missing is made. An account
    that somebody has deactivated stays so.

    Args:
        by: in whose name the admin's log tells of it.

    Raises:
        ConfigurationError: no client may have this name.
        AccountTaken: a user who is none of ours has the account's name.
    """
    require_name(name)
    Client.objects.get_or_create(name=name)
    client = _locked(name)
    is_new = client.registered_at is None
    client.registered_at = client.registered_at or timezone.now()
    client.account = account = _account(client)
    # A removal that failed, or is under way, is over with this.
    client.setup, client.setup_problem = "", ""
    client.save(update_fields=["registered_at", "account", "setup", "setup_problem"])
    has_token = ApiToken.objects.filter(user=account, name=name).exists()
    token = None if has_token else _make_token(client, account)
    if is_new or token:
        _log(client, by, ADDITION if is_new else CHANGE, "Registered.")
    return Registration(client, token)


def deploy(client: Client) -> None:
    """Create or update the client's queues; ``setup`` says that it goes on, then how it ended.

    Raises:
        UsercastError: it failed; the client's ``setup_problem`` says the same.
    """
    note(client, Client.Setup.DEPLOYING)
    with _problem_noted(client, Client.Setup.DEPLOYING):
        topology.deploy_client(client.name, topic_arn=settings.USERCAST_TOPIC_ARN)
    _end(client, Client.Setup.DEPLOYING)


@transaction.atomic
def new_token(client: Client, by: User | None = None) -> str:
    """Give the client another token, to be shown once; the one it had ends at once.

    Raises:
        NotRegistered: it is none of ours, or is being removed.
    """
    client = _locked(client.name)
    if client.registered_at is None or client.setup == Client.Setup.REMOVING:
        raise NotRegistered(f"{client.name} is not registered: manage.py clients add {client.name}")
    client.account = account = _account(client)
    client.save(update_fields=["account"])
    ApiToken.objects.filter(user=account, name=client.name).delete()
    token = _make_token(client, account)
    _log(client, by, CHANGE, "New token; the old one ended.")
    return token


@transaction.atomic
def begin_removal(client: Client, by: User | None = None) -> None:
    """Cut the client off from the API, and note that it is being removed; ``remove`` does it.

    Raises:
        NotRegistered: it is gone already.
    """
    client = _locked(client.name)
    if client.account:
        ApiToken.objects.filter(user=client.account).delete()
    note(client, Client.Setup.REMOVING)
    _log(client, by, DELETION)


def remove(client: Client, by: User | None = None) -> None:
    """Take the client away: its tokens, its queues and what is in them, receipts and account.

    The row goes last, so that what was interrupted can be repeated.

    Raises:
        NotRegistered: it is gone already.
        UsercastError: its queues could not be deleted; the client's ``setup_problem`` says so.
    """
    begin_removal(client, by)
    with _problem_noted(client, Client.Setup.REMOVING):
        topology.remove_client(client.name)
    _forget(client.name)


def note(client: Client, setup: str, problem: str = "") -> None:
    """Write down how far its queues are, and what stands in the way."""
    Client.objects.filter(pk=client.pk).update(setup=setup, setup_problem=problem)


def environment_file(client: Client, token: str | None, master_url: str | None) -> str:
    """What the client's processes need to know, as lines ``NAME=value``; no secret but the token.

    Args:
        token: None if it was shown before.
        master_url: where clients reach this service; None if this service was not told.
    """
    arn = settings.USERCAST_TOPIC_ARN
    endpoint = os.environ.get("AWS_ENDPOINT_URL")
    lines = [
        f"# The environment of Usercast's client {client.name}; keep it private.",
        f"# Its queues are subscribed to {arn}",
        f"USERCAST_CLIENT={client.name}",
        f"AWS_DEFAULT_REGION={arn.split(':')[3]}",
        *([f"AWS_ENDPOINT_URL={endpoint}"] if endpoint else []),
        f"USERCAST_MASTER_URL={master_url}" if master_url else _MASTER_URL_UNKNOWN,
        f"USERCAST_MASTER_TOKEN={token}" if token else _SHOWN_BEFORE.format(name=client.name),
        *_FOR_ITS_TEAM,
    ]
    return "".join(f"{line}\n" for line in lines)


_MASTER_URL_UNKNOWN = "# USERCAST_MASTER_URL=https://…   where the master answers"
_SHOWN_BEFORE = (
    "# USERCAST_MASTER_TOKEN=…   was shown when it was made; a new one: "
    "manage.py clients token {name}"
)
_FOR_ITS_TEAM = (
    "",
    "# What only the client's team knows:",
    "# DATABASE_URL=postgres://…",
    "# REDIS_URL=redis://…",
    "# SECRET_KEY=…",
    "# ALLOWED_ORIGINS=https://…",
    "# ALLOWED_HOSTS=…",
    "# AWS_ACCESS_KEY_ID=… and AWS_SECRET_ACCESS_KEY=…, unless its machines have a role",
)


def _locked(name: str) -> Client:
    client = Client.objects.select_for_update().filter(name=name).first()
    if client is None:
        raise NotRegistered(f"There is no client {name}: manage.py clients list shows all")
    return client


def _account(client: Client) -> User:
    """The client's technical account, made when there is none.

    It is staff, as callers of the API must be, and so replicated only where staff are. It has no
    password, and may look at users and nothing else.
    """
    account = client.account or _new_account(f"client.{client.name}")
    account.user_permissions.add(
        Permission.objects.get(content_type__app_label="accounts", codename="view_user")
    )
    return account


def _new_account(username: str) -> User:
    # Whoever made it may know its password: it must not become staff.
    if User.objects.filter(username=username).exists():
        raise AccountTaken(f"There is a user {username} already: rename or delete it first")
    account = User(username=username, is_staff=True)
    account.set_unusable_password()
    account.save()
    return account


def _make_token(client: Client, account: User) -> str:
    token: str
    _, token = ApiToken.objects.create(account, name=client.name, scopes=SCOPES, expiry=None)
    return token


@contextmanager
def _problem_noted(client: Client, during: Client.Setup) -> Iterator[None]:
    """If this ends badly, have the row say why."""
    try:
        yield
    except UsercastError as error:
        _end(client, during, str(error))
        raise
    except BaseException as error:
        _end(client, during, f"interrupted ({type(error).__name__}): do it again")
        raise


def _end(client: Client, during: Client.Setup, problem: str = "") -> None:
    """Note that this is over, unless something else has begun meanwhile."""
    now = Client.objects.filter(pk=client.pk, setup=during)
    now.update(setup="", setup_problem=problem)


@transaction.atomic
def _forget(name: str) -> None:
    # Somebody who has registered it anew meanwhile keeps it.
    client = Client.objects.select_for_update().filter(name=name, setup=Client.Setup.REMOVING)
    for found in client:
        account = found.account
        found.delete()
        if account:
            account.delete()


def _log(client: Client, by: User | None, flag: int, message: str = "") -> None:
    if by:
        LogEntry.objects.log_actions(by.pk, [client], flag, message, single_object=True)
