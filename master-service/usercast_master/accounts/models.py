"""The users of the organisation. A write here goes on to ``outbox.signals``."""

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models, transaction
from django.db.models import Q
from uuid_utils.compat import uuid7

from usercast.contract import STATE_FIELDS
from usercast_master.outbox import capture
from usercast_master.outbox.scope import SCOPE_FIELDS, is_replicated, replicated

REPLICATED_FIELDS = frozenset(STATE_FIELDS) | frozenset(SCOPE_FIELDS)


class UserQuerySet(models.QuerySet["User"]):
    """Django sends no signals for bulk writes, and for a deletion of many one for each: these mark
    the rows they touch themselves.

    Each adds a fixed number of statements, however many rows; ``bulk_update`` comes here too,
    since Django runs it through ``update``, and so do the asynchronous twins.
    """

    def update(self, **kwargs: Any) -> int:
        if not {"id", "pk"}.isdisjoint(kwargs):
            raise TypeError("A user's id never changes: the clients know them by it.")
        if REPLICATED_FIELDS.isdisjoint(kwargs) or self.query.is_sliced:
            return super().update(**kwargs)
        with transaction.atomic(using=self.db, savepoint=False):
            # Pinned first: after the write the rows may no longer match the filter that chose them.
            ids, before = self._locked(Q(pk__in=self.order_by().values("pk")))
            chosen = Q(pk__in=ids)
            count = super(UserQuerySet, self.filter(chosen)).update(**kwargs)
            _mark(before, self._known(chosen))
        self._result_cache = None
        return count

    update.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        if self.query.is_sliced or self.query.distinct_fields or self._fields is not None:  # type: ignore[attr-defined]
            return super().delete()  # Django refuses each of these.
        with transaction.atomic(using=self.db, savepoint=False):
            ids, known = self._locked(Q(pk__in=self.order_by().values("pk")))
            capture.mark_deleted(known)
            with capture.deletion_marked_together(ids):
                deleted = super(UserQuerySet, self.filter(pk__in=ids)).delete()
        self._result_cache = None
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

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
        touched = Q(pk__in=[user.pk for user in users])
        if update_conflicts:
            # A row that conflicts is updated and keeps its own key, not the given one.
            touched |= Q(username__in=[user.username for user in users])
        with transaction.atomic(using=self.db, savepoint=False):
            before = self._locked(touched)[1] if update_conflicts else {}
            created = super().bulk_create(
                users, batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields
            )
            _mark(before, self._known(touched))
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _locked(self, chosen: Q) -> tuple[list[UUID], dict[UUID, bool]]:
        """Lock rows; returns all their ids, and of the replicated ones whether each is active."""
        everyone = self.model._base_manager.using(self.db)
        rows = list(
            everyone.filter(chosen)
            .select_for_update()
            .order_by("pk")
            .values_list("pk", "is_active", *SCOPE_FIELDS)
        )
        known = {
            pk: is_active
            for pk, is_active, *scope in rows
            if is_replicated(**dict(zip(SCOPE_FIELDS, scope, strict=True)))
        }
        return [row[0] for row in rows], known

    def _known(self, chosen: Q) -> dict[UUID, bool]:
        """Whether each of the chosen users is active, as far as they are replicated."""
        everyone = self.model._base_manager.using(self.db)
        return dict(everyone.filter(replicated(), chosen).values_list("pk", "is_active"))


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
