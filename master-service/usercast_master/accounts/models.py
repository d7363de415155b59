"""The users of the organisation. A write here goes on to ``outbox.signals``."""

from collections.abc import Collection, Iterable
from typing import Any, Self
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.db import models, transaction
from django.db.models import Q
from django.db.models.signals import post_save
from uuid_utils.compat import uuid7

from usercast.contract import STATE_FIELDS
from usercast_master.accounts import passwords
from usercast_master.outbox import capture
from usercast_master.outbox.scope import SCOPE_FIELDS, is_replicated, replicated

REPLICATED_FIELDS = frozenset(STATE_FIELDS) | frozenset(SCOPE_FIELDS)
#: A write of one of these has more to it than the row.
_WATCHED = REPLICATED_FIELDS | {"password"}


class UserQuerySet(models.QuerySet["User"]):
    """Django sends no signals for bulk writes, and for a deletion of many one for each: these mark
    the rows they touch themselves.

    Each adds a fixed number of statements, however many rows; ``bulk_update`` comes here too,
    since Django runs it through ``update``, and so do the asynchronous twins.
    """

    def update(self, **kwargs: Any) -> int:
        if not {"id", "pk"}.isdisjoint(kwargs):
            raise TypeError("A user's id never changes: the clients know them by it.")
        if _WATCHED.isdisjoint(kwargs) or self.query.is_sliced:
            return super().update(**kwargs)
        with transaction.atomic(using=self.db, savepoint=False):
            # Pinned first: after the write the rows may no longer match the filter that chose them.
            ids, before = self._locked(Q(pk__in=self.order_by().values("pk")))
            chosen = Q(pk__in=ids)
            count = super(UserQuerySet, self.filter(chosen)).update(**kwargs)
            if not REPLICATED_FIELDS.isdisjoint(kwargs):
                _mark(before, self._known(chosen))
            if "password" in kwargs:
                passwords.remember(ids, using=self.db)
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
            if any(passwords.is_usable(user.password) for user in users):
                ids = self._everyone().filter(touched).values_list("pk", flat=True)
                passwords.remember(ids, using=self.db)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _locked(self, chosen: Q) -> tuple[list[UUID], dict[UUID, bool]]:
        """Lock rows; returns all their ids, and of the replicated ones whether each is active."""
        rows = list(
            self._everyone()
            .filter(chosen)
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
        rows = self._everyone().filter(replicated(), chosen)
        return dict(rows.values_list("pk", "is_active"))

    def _everyone(self) -> models.QuerySet["User"]:
        return self.model._base_manager.using(self.db)


def _mark(before: dict[UUID, bool], after: dict[UUID, bool]) -> None:
    """Mark what a bulk write did to replicated users, given whether each is active."""
    deactivated = {pk for pk, is_active in after.items() if before.get(pk) and not is_active}
    capture.mark_changed(deactivated, capture.Priority.URGENT)
    capture.mark_changed(after.keys() - deactivated, capture.Priority.BULK)
    capture.mark_deleted(before.keys() - after.keys())


class UserManager(DjangoUserManager.from_queryset(UserQuerySet)):  # type: ignore[misc]
    """Django's, with the bulk writes that mark."""

    use_in_migrations = False


class User(AbstractUser):  # type: ignore[django-manager-missing]
    """A user of the organisation; the key is a UUIDv7 and is the same in every service."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    objects = UserManager()  # type: ignore[misc]

    #: The password's hash as it was read from the database; None when it was not.
    loaded_password: str | None = None
    is_rehashing = False

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

    @classmethod
    def from_db(  # type: ignore[override]  # The stubs are of a later Django.
        cls, db: str | None, field_names: Collection[str], values: Collection[Any]
    ) -> Self:
        user = super().from_db(db, field_names, values)
        user.loaded_password = user.__dict__.get("password")
        return user

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        super().refresh_from_db(*args, **kwargs)
        fields = args[1] if len(args) > 1 else kwargs.get("fields")
        if fields is None or "password" in fields:
            self.loaded_password = self.__dict__.get("password")

    def check_password(self, raw_password: str | None) -> bool:
        """Django's, whose renewal of an outdated hash is not taken for another password."""
        with passwords.rehashing(self):
            return super().check_password(raw_password)

    async def acheck_password(self, raw_password: str | None) -> bool:
        """The same, for asynchronous callers."""
        with passwords.rehashing(self):
            return await super().acheck_password(raw_password)


class PasswordHistory(models.Model):
    """A password that a user has or had, as a hash; the newest few of each are kept."""

    user = models.ForeignKey(User, models.CASCADE, related_name="+")
    password = models.CharField(max_length=128)
    set_at = models.DateTimeField()

    class Meta:
        verbose_name = "remembered password"

    def __str__(self) -> str:
        return f"set {self.set_at:%Y-%m-%d}"


def _after_save(sender: type[models.Model], **kwargs: Any) -> None:
    # Proxies send signals as themselves.
    if sender._meta.concrete_model is User:
        passwords.remember_saved(**kwargs)


post_save.connect(_after_save, dispatch_uid="usercast remember_saved")
