"""The users of the organisation. A write here goes on to ``outbox.signals``."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

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
            before = dict(known.values_list("pk", "is_active"))
            count = super(UserQuerySet, self.filter(pk__in=ids)).update(**kwargs)
            _mark(before, dict(known.values_list("pk", "is_active")))
        self._result_cache = None
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def bulk_create(
        self,
        objs: Iterable["User"],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,  # noqa: FBT002 - Django's signature
        update_conflicts: bool = False,  # noqa: FBT002
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list["User"]:
        users = list(objs)
        touched = models.Q(pk__in=[user.pk for user in users])
        if update_conflicts:
            # A row that conflicts is updated and keeps its own key, not the given one.
            touched |= models.Q(username__in=[user.username for user in users])
        known = self.model._base_manager.using(self.db).filter(replicated(), touched)
        with transaction.atomic(using=self.db, savepoint=False):
            before = dict(known.values_list("pk", "is_active")) if update_conflicts else {}
            created = super().bulk_create(
                users, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
            )
            _mark(before, dict(known.values_list("pk", "is_active")))
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]


def _mark(before: dict[UUID, bool], after: dict[UUID, bool]) -> None:
    """Mark what a bulk write did to replicated users, given whether each is active."""
    deactivated = {pk for pk, is_active in after.items() if before.get(pk) and not is_active}
    capture.mark_changed(deactivated, capture.Priority.URGENT)
    capture.mark_changed(after.keys() - deactivated, capture.Priority.BULK)
    capture.mark_deleted(before.keys() - after.keys())


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
