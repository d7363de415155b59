"""Which users are replicated: all but staff and superusers, unless a setting includes them."""

from django.conf import settings
from django.db.models import Q

SCOPE_FIELDS = ("is_staff", "is_superuser")


def is_replicated(*, is_staff: bool, is_superuser: bool) -> bool:
    """Whether a user with these flags is known to the clients."""
    return settings.USERCAST_REPLICATE_STAFF or not (is_staff or is_superuser)


def replicated() -> Q:
    """The same as a condition on the user table."""
    if settings.USERCAST_REPLICATE_STAFF:
        return Q()
    return Q(is_staff=False, is_superuser=False)


def replicated_sql() -> str:
    """The same in SQL."""
    return "true" if settings.USERCAST_REPLICATE_STAFF else "NOT (is_staff OR is_superuser)"
