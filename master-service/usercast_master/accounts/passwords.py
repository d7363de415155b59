"""Passwords: takes what ``models`` has stored, remembers the last few of each user, refuses those.

Whatever stores a password ends here: a save by way of post_save, a bulk write by way of the
manager. Only hashes are kept, and nothing of them leaves the master.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.core.exceptions import ValidationError
from django.db import connections, transaction
from django.db.models import Model

# A hash that is the newest already is no new password: a save may be repeated.
_REMEMBER = """
INSERT INTO accounts_passwordhistory (user_id, password, set_at)
SELECT u.id, u.password, now()
FROM accounts_user u
WHERE u.id = ANY(%s::uuid[]) AND u.password <> '' AND u.password NOT LIKE '!%%'
  AND u.password IS DISTINCT FROM (
    SELECT h.password FROM accounts_passwordhistory h
    WHERE h.user_id = u.id ORDER BY h.id DESC LIMIT 1
  )
"""
_TRIM = """
DELETE FROM accounts_passwordhistory
WHERE id IN (
  SELECT id FROM (
    SELECT id, row_number() OVER (PARTITION BY user_id ORDER BY id DESC) AS place
    FROM accounts_passwordhistory WHERE user_id = ANY(%s::uuid[])
  ) AS places
  WHERE place > %s
)
"""
_REPLACE = "UPDATE accounts_passwordhistory SET password = %s WHERE user_id = %s AND password = %s"


class DontRepeatValidator:
    """Refuses a user's last ``remembered`` passwords, the current one included.

    Costs at most ``remembered`` hash checks, and stops at the first that fits.

    Args:
        remembered: how many, at least 1.
    """

    def __init__(self, remembered: int) -> None:
        self.remembered = remembered

    def validate(self, password: str, user: Any = None) -> None:
        """Return if the password is none of the user's last ones.

        Raises:
            ValidationError: it is; the code is ``password_has_been_used``.
        """
        if user is None:
            return
        if any(check_password(password, known) for known in self._known(user)):
            raise ValidationError(
                "This is one of your last %(remembered)d passwords: choose a new one.",
                code="password_has_been_used",
                params={"remembered": self.remembered},
            )

    def get_help_text(self) -> str:
        """What forms say beside the field."""
        return f"Your password cannot be any of your last {self.remembered} passwords."

    def _known(self, user: Any) -> list[str]:
        from usercast_master.accounts.models import PasswordHistory

        newest_first = PasswordHistory.objects.filter(user_id=user.pk).order_by("-pk")
        hashes = list(newest_first.values_list("password", flat=True)[: self.remembered])
        # What went past Django is current without being remembered.
        if is_usable(user.password) and user.password not in hashes:
            hashes.insert(0, user.password)
        return hashes[: self.remembered]


def is_usable(password: str) -> bool:
    """Whether somebody can sign in by the hash: neither empty nor Django's mark for none."""
    return bool(password) and not password.startswith("!")


def remember(user_ids: Collection[UUID], *, using: str | None = None) -> None:
    """Remember the passwords that these users have now, and forget those too many.

    Call it in the transaction that wrote them: its row locks let writers of one user take turns,
    so that each keeps exactly as many. Two statements, however many users.
    """
    name = using or "default"
    with transaction.atomic(using=name, savepoint=False), connections[name].cursor() as cursor:
        cursor.execute(_REMEMBER, [list(user_ids)])
        if cursor.rowcount:
            cursor.execute(_TRIM, [list(user_ids), settings.USERCAST_PASSWORDS_REMEMBERED])


def remember_saved(
    instance: Any, using: str, update_fields: Collection[str] | None, **_kwargs: Any
) -> None:
    """A receiver of post_save; a save that does not touch the password costs a comparison."""
    password = instance.__dict__.get("password")
    if not isinstance(password, str) or not is_usable(password):
        return
    if password == instance.loaded_password:
        return
    if update_fields is not None and "password" not in update_fields:
        return
    if not (instance.is_rehashing and _replace(instance, password, using)):
        remember([instance.pk], using=using)
    # Not ``password``: the transaction may yet be rolled back and the save repeated.
    instance.loaded_password = None


@contextmanager
def rehashing(user: Any) -> Iterator[None]:
    """Within the block, a password that the user is given is the old one in a new hash."""
    user.is_rehashing = True
    try:
        yield
    finally:
        user.is_rehashing = False


def _replace(user: Model, password: str, using: str) -> bool:
    with connections[using].cursor() as cursor:
        cursor.execute(_REPLACE, [password, user.pk, user.loaded_password])  # type: ignore[attr-defined]
        return bool(cursor.rowcount)
