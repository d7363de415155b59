"""Revocation: takes what ends a session on this client, tells it through ``live.broadcast``.

What ends on the master comes as a change and is found by the hub itself.
"""

from typing import Any

from django.contrib.auth.signals import user_logged_out
from django.db import transaction
from django.db.models.signals import post_delete, post_save
from django.dispatch import receiver
from django.http import HttpRequest

from usercast_client.live import broadcast
from usercast_client.live.access import Reason
from usercast_client.replica.models import User

#: What of a user decides whether they may look, as far as this client decides it.
_DECISIVE = {"password", "is_active", "is_staff"}


@receiver(user_logged_out)
def signed_out(*, request: HttpRequest | None, **_kwargs: Any) -> None:
    """Have the sockets of the session closed. Django flushes it only after this signal."""
    session_key = request.session.session_key if request is not None else None
    if session_key:
        broadcast.shared().send(
            {"type": "ended", "session_key": session_key, "reason": Reason.SIGNED_OUT.value}
        )


@receiver(post_save, sender=User)
def saved(*, instance: User, update_fields: frozenset[str] | None, **_kwargs: Any) -> None:
    """Have the user's sockets looked at: a new password, or no longer staff, or inactive."""
    if update_fields is None or _DECISIVE & update_fields:
        _recheck(instance)


@receiver(post_delete, sender=User)
def deleted(*, instance: User, **_kwargs: Any) -> None:
    """Have a local account's sockets closed; a replicated user's deletion is in the feed."""
    if not instance.is_replicated:
        _recheck(instance)


def _recheck(user: User) -> None:
    message = {"type": "recheck", "user_id": str(user.pk)}
    transaction.on_commit(lambda: broadcast.shared().send(message))
