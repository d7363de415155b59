"""The users of the organisation. A write here goes on to ``outbox.signals``."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models, transaction
from uuid_utils.compat import uuid7

from usercast.contract import STATE_FIELDS
from usercast_master.outbox import capture
from usercast_master.outbox.scope import SCOPE_FIELDS, replicated

REPLICATED_FIELDS = frozenset(STATE_FIELDS) | frozenset(SCOPE_FIELDS)


class UserQuerySet(models.QuerySet["User"]):
    """Django sends no signals for bulk writes, so these mark the rows they touch themselves.

    Each costs a fixed number of statements, however many rows; ``bulk_update`` comes here too,
    since Django runs it through ``update``.
    """

    def update(self, **kwargs: Any) -> int:
        if REPLICATED_FIELDS.isdisjoint(kwargs) or self.query.is_sliced:
            return super().update(**kwargs)
        everyone = self.model._base_manager.using(self.db)
        with transaction.atomic(using=self.db, savepoint=False):
            # Pinned first: after the write the rows may no longer match the filter that chose them.
            ids = list(
                everyone.filter(pk__in=self.order_by().values("pk"))
                .select_for_update()
                .order_by("pk")
                .values_list("pk", flat=True)
            )
            known = everyone.filter(replicated(), pk__in=ids)
            before = set(known.values_list("pk", flat=True))
            count = super(UserQuerySet, self.filter(pk__in=ids)).update(**kwargs)
            left = before.difference(known.values_list("pk", flat=True))
            deactivated = kwargs.get("is_active") is False
            capture.mark_changed(
                ids, capture.Priority.URGENT if deactivated else capture.Priority.BULK
            )
            capture.mark_deleted(left)
        self._result_cache = None
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(self, objs: Iterable["User"], *args: Any, **kwargs: Any) -> list["User"]:
        with transaction.atomic(using=self.db, savepoint=False):
            created = super().bulk_create(objs, *args, **kwargs)
            touched = models.Q(pk__in=[user.pk for user in created])
            if kwargs.get("update_conflicts"):
                # A row that conflicted was updated and kept its own key, not the given one.
                touched |= models.Q(username__in=[user.username for user in created])
            ids = (
                self.model._base_manager.using(self.db).filter(touched).values_list("pk", flat=True)
            )
            capture.mark_changed(list(ids), capture.Priority.BULK)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]


class UserManager(DjangoUserManager.from_queryset(UserQuerySet)):  # type: ignore[misc]
    """Django's, with the bulk writes that mark."""

    use_in_migrations = False


class User(AbstractUser):
    """A user of the organisation; the key is a UUIDv7 and is the same in every service."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects = UserManager()  # type: ignore[misc]

    class Meta(AbstractUser.Meta):
        db_table = "accounts_user"
        ordering = ("username",)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, and capture the change, in one transaction.

        Django sends post_save after the save's own transaction has ended; without this one, a
        crash between the two would lose the change.
        """
        using = kwargs.get("using")
        with transaction.atomic(using=using, savepoint=False):
            super().save(*args, **kwargs)
