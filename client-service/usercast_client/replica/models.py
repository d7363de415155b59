"""The client's copy of the users, beside its own local accounts. Written by ``replica.apply``."""

from typing import Any

from django.contrib.auth.models import AbstractUser
from django.contrib.auth.models import UserManager as DjangoUserManager
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.contrib.postgres.fields import ArrayField
from django.db import models
from uuid_utils.compat import uuid7

#: A replicated user's columns that only ``replica.apply`` writes.
OWNED_BY_MASTER = frozenset(
    {
        "username",
        "email",
        "first_name",
        "last_name",
        "is_active",
        "date_joined",
        "version",
        "master_groups",
        "changed_at",
    }
)


class UserQuerySet(models.QuerySet["User"]):
    def replicated(self) -> "UserQuerySet":
        """Those whom the master owns."""
        return self.filter(version__isnull=False)


class UserManager(DjangoUserManager.from_queryset(UserQuerySet)):  # type: ignore[misc]
    """Django's, and ``replicated()``."""

    use_in_migrations = False


class User(AbstractUser):
    """A user replicated from the master under the same key, or a local account (no version).

    The client's other tables may point here. ``is_staff``, ``groups`` and the password are the
    client's own: replication never touches them.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    #: As Django's, but sorted by code point, which every browser can do too (PostgreSQL 17's own
    #: collation, which knows all letters' cases). Its one index serves uniqueness, order and search
    #: by prefix; Django's ``unique=True`` would make a second one.
    username = models.CharField(
        max_length=150,
        db_collation="pg_c_utf8",
        validators=[UnicodeUsernameValidator()],
        help_text="Required. 150 characters or fewer. Letters, digits and @/./+/-/_ only.",
    )
    #: The master's version that this row shows; None for a local account.
    version = models.BigIntegerField(null=True, editable=False)
    #: The user's groups on the master, by name, sorted.
    master_groups = ArrayField(models.CharField(max_length=150), default=list, editable=False)
    #: The master's clock at that version.
    changed_at = models.DateTimeField(null=True, editable=False)

    objects = UserManager()  # type: ignore[misc]

    class Meta(AbstractUser.Meta):
        db_table = "replica_user"
        ordering = ("username",)
        constraints = (
            models.UniqueConstraint(
                fields=["username"],
                name="replica_username",
                violation_error_message="A user with that username already exists.",
            ),
        )

    @property
    def is_replicated(self) -> bool:
        return self.version is not None

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; of a replicated user only what is local.

        Whoever loaded the user before the latest change and saves after it would otherwise put
        the older state back, under the older version.
        """
        if self.is_replicated and not self._state.adding:
            local = {field.name for field in self._meta.concrete_fields if not field.primary_key}
            local -= OWNED_BY_MASTER | self.get_deferred_fields()
            asked = kwargs.get("update_fields")
            kwargs["update_fields"] = local if asked is None else local.intersection(asked)
        super().save(*args, **kwargs)


class Tombstone(models.Model):
    """A deleted user's last version: an upsert that comes late finds it and is dropped."""

    user_id = models.UUIDField(primary_key=True)
    version = models.BigIntegerField()
    deleted_at = models.DateTimeField()

    class Meta:
        db_table = "replica_tombstone"

    def __str__(self) -> str:
        return f"{self.user_id} at version {self.version}"


class Kept(models.Model):
    """A user deleted on the master whose row another table of this client protects.

    The account is deactivated and its row stays for what points there. The record goes when the
    user comes back on the master.
    """

    user_id = models.UUIDField(primary_key=True)
    #: As it was; the row loses it to whoever is called so next.
    username = models.CharField(max_length=150)
    deleted_at = models.DateTimeField()
    #: Which models point at the user, or which table.
    protected_by = models.TextField()

    class Meta:
        db_table = "replica_kept"
        verbose_name = "user kept in spite of deletion"
        verbose_name_plural = "users kept in spite of deletion"

    def __str__(self) -> str:
        return f"{self.username}, for {self.protected_by}"


class Clash(models.Model):
    """A replicated user who cannot have their username here.

    A local account has it; or another user, who has lost it on the master by a change that is still
    on its way. The user is there all the same, under a placeholder. Of a local account, renaming it
    and sending the user again resolves the clash.
    """

    user_id = models.UUIDField(primary_key=True)
    username = models.CharField(max_length=150)
    seen_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "replica_clash"
        verbose_name_plural = "clashes"

    def __str__(self) -> str:
        return self.username


class Bootstrap(models.Model):
    """A first load: how far it is, so that it goes on there after whatever has stopped it."""

    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)
    #: The last user or tombstone that is loaded; None before the first.
    after = models.UUIDField(null=True)
    #: Lines of the snapshot that are done, and what came of them.
    lines = models.BigIntegerField(default=0)
    created = models.BigIntegerField(default=0)
    changed = models.BigIntegerField(default=0)
    rejected = models.BigIntegerField(default=0)

    class Meta:
        db_table = "replica_bootstrap"

    def __str__(self) -> str:
        return f"begun at {self.started_at:%Y-%m-%d %H:%M}, {self.lines} lines"


class Check(models.Model):
    """What the latest comparison with the master found (``replica.reconcile``); one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: By the master's clock: changes after it were left out.
    at = models.DateTimeField()
    took_ms = models.IntegerField()
    #: By this client's clock, when the next one may begin: comparing takes a part of the time only.
    next_at = models.DateTimeField()
    #: Replicated users that were compared: all but those who had just changed.
    users = models.BigIntegerField()
    #: Users who are not as the master has them, for good.
    drift = models.IntegerField()
    #: Users whose newest change is still on its way here.
    behind = models.IntegerField()

    class Meta:
        db_table = "replica_check"

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M:%S}: drift {self.drift}, behind {self.behind}"
