"""Rights: whom an admin may change, alike at the desk, by REST and by import.

Whoever may change an account of staff could become them; so only superusers may, and likewise with
groups that give rights or have staff in them.
"""

from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Q

STAFF = Q(is_staff=True) | Q(is_superuser=True)


def touchable(actor: Any) -> Q:
    """A condition on users: the actor may change them, as far as Django's permissions go too."""
    return Q() if actor.is_superuser else ~STAFF


def may_touch(actor: Any, user: Any) -> bool:
    """The same of one user."""
    return bool(actor.is_superuser or not (user.is_staff or user.is_superuser))


def may_touch_group(actor: Any, group: Group) -> bool:
    """Whether the actor may rename or delete a group."""
    if actor.is_superuser:
        return True
    return not (group.permissions.exists() or group.user_set.filter(STAFF).exists())
