"""The second factor: takes who has given a password, lets in who gives a code too.

With ``USERCAST_SECOND_FACTOR`` on, ``middleware`` leaves staff anonymous until then; ``views`` ask
for the code, or for the setting up of an app. The codes are checked, and wrong ones slowed down,
by django-otp. API tokens are asked for no code: they are a secret of their own.
"""

import math
import time
from datetime import timedelta
from typing import Any

import django_otp
import structlog
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.middleware.csrf import rotate_token
from django.utils import timezone
from django_otp.models import Device
from django_otp.plugins.otp_totp.models import TOTPDevice

from usercast_master.accounts.models import User
from usercast_master.signin.models import RecoveryCodes

log = structlog.get_logger(__name__)

#: For so long a password counts as the first half of a sign-in.
PASSWORD_COUNTS_SECONDS = 600
_PASSWORD_GIVEN_AT = "password_given_at"  # noqa: S105 - a key of the session
_APP_CODE_LENGTH = 6


def note_password(sender: Any, request: HttpRequest, **_kwargs: Any) -> None:
    """A receiver of user_logged_in: remember in the session when the password was given."""
    request.session[_PASSWORD_GIVEN_AT] = time.time()


def is_missing(user: Any) -> bool:
    """Whether this session's user has yet to give a code."""
    return bool(user.is_authenticated and user.is_staff and not user.is_verified())


def half_signed_in(request: HttpRequest) -> User | None:
    """Who has given a password within the last ten minutes, and no code yet."""
    user = getattr(request, "claimed_user", None)  # The middleware's.
    given_at = request.session.get(_PASSWORD_GIVEN_AT, 0)
    is_recent = time.time() - given_at < PASSWORD_COUNTS_SECONDS
    return user if user is not None and is_recent and is_missing(user) else None


def is_set_up(user: User) -> bool:
    """Whether the user has an app to ask for codes of."""
    return bool(TOTPDevice.objects.filter(user_id=user.pk, confirmed=True).exists())


def verify(user: User, code: str) -> Device:
    """The device, app or recovery codes, that the code is of; it is used up then.

    Raises:
        ValidationError: it is none (``wrong_code``), or comes too soon after wrong ones
            (``throttled``); the text says how long to wait.
    """
    kind = TOTPDevice if len(code) == _APP_CODE_LENGTH and code.isdecimal() else RecoveryCodes
    device = kind.objects.filter(user_id=user.pk, confirmed=True).first()
    if device is None:
        raise ValidationError("That code is not right.", code="wrong_code")
    if seconds := _seconds_to_wait(device):
        log.info("second_factor_throttled", user_id=str(user.pk))
        raise ValidationError(
            f"There were wrong codes: the next one counts in {_shown(seconds)}.", code="throttled"
        )
    if not django_otp.verify_token(user, device.persistent_id, code):
        log.info("second_factor_refused", user_id=str(user.pk))
        device.refresh_from_db()
        raise ValidationError(
            "That code is not right, or was used before. The next one counts in "
            f"{_shown(_seconds_to_wait(device))}.",
            code="wrong_code",
        )
    device.refresh_from_db()
    return device


def enrol(user: User, key: str, code: str) -> tuple[Device, list[str]]:
    """Take the app that made this code from this key for the user's; it, and the recovery codes.

    Args:
        key: 20 random bytes in hexadecimal digits, as the user has put it into the app.

    Raises:
        ValidationError: the code is not the key's, or the user has an app already; nothing is kept.
    """
    with transaction.atomic():
        # Two browsers take turns, so that nobody gets two.
        locked = User.objects.select_for_update().get(pk=user.pk)
        if is_set_up(locked):
            raise ValidationError("An app is set up already: start over.", code="set_up_already")
        device = TOTPDevice.objects.create(user=locked, name="app", key=key)
        if not device.verify_token(code):
            raise ValidationError(
                "That code is not right. Is the clock of your device?", code="wrong_code"
            )
        codes = RecoveryCodes.issue(locked)
    log.info("second_factor_enrolled", user_id=str(user.pk))
    return device, codes


def complete(request: HttpRequest, user: User, device: Device) -> None:
    """Sign the user in: this session, under a new key, is verified by the device from now on."""
    request.user = user
    request.session.cycle_key()
    rotate_token(request)
    django_otp.login(request, device)


def reset(user: User, *, by: AbstractBaseUser | None) -> bool:
    """Forget the user's app and recovery codes; whether there were any.

    Sessions that they verified are at an end, and the next sign-in sets up an app anew. The user's
    history says so if somebody at the desk did it; ``by`` is None for a command.
    """
    with transaction.atomic():
        owned = [kind.objects.filter(user_id=user.pk) for kind in (TOTPDevice, RecoveryCodes)]
        if not sum(devices.delete()[0] for devices in owned):
            return False
        if by is not None:
            LogEntry.objects.log_actions(
                user_id=by.pk,
                queryset=[user],
                action_flag=CHANGE,
                change_message="Second factor reset.",
                single_object=True,
            )
    log.warning("second_factor_reset", user_id=str(user.pk), by=str(by.pk) if by else "command")
    return True


def _seconds_to_wait(device: Device) -> int:
    allowed, reason = device.verify_is_allowed()
    if allowed:
        return 0
    left: timedelta = reason["locked_until"] - timezone.now()
    return max(1, math.ceil(left.total_seconds()))


def _shown(seconds: int) -> str:
    if seconds > 90:
        return f"{math.ceil(seconds / 60):,} minutes"
    return "1 second" if seconds == 1 else f"{seconds} seconds"
