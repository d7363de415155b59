"""Access: who may look at what, and whether those who are looking still may.

Asked by the pages, the REST API and the sockets alike; ``live.hub`` ends the sockets of those who
no longer may.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from django.contrib.auth import get_user
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from usercast_client.replica.models import User


class View(StrEnum):
    """What there is to look at."""

    #: All replicated users: for this client's staff.
    DASHBOARD = "dashboard"
    #: One's own data: for a replicated user.
    OWN = "own"


class Reason(StrEnum):
    """Why access ended; the page says it in words."""

    DELETED = "deleted"
    DEACTIVATED = "deactivated"
    NOT_ALLOWED = "not_allowed"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason's name
    SIGNED_OUT = "signed_out"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True)
class Grant:
    """That a user may look at something, by the session they had when they began."""

    user_id: UUID
    is_replicated: bool
    view: View
    session_key: str
    #: Changes with the password.
    session_hash: str


class Standing(NamedTuple):
    """How a grant stands now: why it has ended, or until when its session lives."""

    ended: Reason | None
    expires_at: datetime | None


def may(user: User | AnonymousUser, view: View) -> bool:
    """Whether this user may look at that; nobody may who is not signed in or not active."""
    if not isinstance(user, User) or not user.is_active:
        return False
    return user.is_staff if view is View.DASHBOARD else user.is_replicated


def admit(session_key: str | None, view: View) -> Grant | None:
    """The grant of whoever is signed in by this session, if they may look at that."""
    if not session_key:
        return None
    request = HttpRequest()
    request.session = SessionStore(session_key)
    user = get_user(request)
    if not isinstance(user, User) or not may(user, view):
        return None
    return Grant(
        user_id=user.pk,
        is_replicated=user.is_replicated,
        view=view,
        session_key=session_key,
        session_hash=user.get_session_auth_hash(),
    )


def standing(grants: Iterable[Grant]) -> dict[Grant, Standing]:
    """How these grants stand now, by two queries however many they are."""
    grants = list(grants)
    users = User.objects.in_bulk({grant.user_id for grant in grants})
    sessions = Session.objects.in_bulk({grant.session_key for grant in grants})
    return {
        grant: _standing(grant, users.get(grant.user_id), sessions.get(grant.session_key))
        for grant in grants
    }


def _standing(grant: Grant, user: User | None, session: Session | None) -> Standing:
    return Standing(
        _ended_for(grant, user) or _ended_by(session),
        session.expire_date if session else None,
    )


def _ended_for(grant: Grant, user: User | None) -> Reason | None:
    if user is None:
        return Reason.DELETED
    if not user.is_active:
        return Reason.DEACTIVATED
    if not may(user, grant.view):
        return Reason.NOT_ALLOWED
    if not constant_time_compare(user.get_session_auth_hash(), grant.session_hash):
        return Reason.PASSWORD_CHANGED
    return None


def _ended_by(session: Session | None) -> Reason | None:
    if session is None:
        return Reason.SIGNED_OUT
    return Reason.EXPIRED if session.expire_date <= timezone.now() else None
