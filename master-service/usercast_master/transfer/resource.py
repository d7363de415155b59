"""What a row means: takes cells, finds the account they are about, checks and applies them to it.

The fields, their widgets and the order of steps are django-import-export's; its way to the
database is not, since it asks for each row. ``Accounts`` reads those of a batch by a fixed number
of statements, and ``batches`` writes them so.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.utils.dateparse import parse_datetime
from import_export import resources, widgets
from import_export.fields import Field
from import_export.instance_loaders import BaseInstanceLoader

from usercast_master.accounts.models import User
from usercast_master.outbox.models import OutboxEntry
from usercast_master.transfer import cells
from usercast_master.transfer.tables import FIELDS

Cells = Mapping[str, str]

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class TextWidget(widgets.Widget):  # type: ignore[misc]
    """Text as it is, but for the guard against formulas."""

    def clean(self, value: str, row: Cells | None = None, **kwargs: Any) -> str:
        text = cells.unguarded(value)
        if "\0" in text:
            raise ValueError("Null characters are not allowed.")
        return text

    def render(self, value: str, obj: None = None, **kwargs: Any) -> str:
        return cells.guarded(value)


class YesNoWidget(widgets.Widget):  # type: ignore[misc]
    """``true`` or ``false``; also 1, 0, yes and no."""

    def clean(self, value: str, row: Cells | None = None, **kwargs: Any) -> bool | None:
        word = value.strip().lower()
        if word and word not in _WORDS:
            raise ValueError("Write true or false.")
        return _WORDS.get(word)

    def render(self, value: bool, obj: None = None, **kwargs: Any) -> str:
        return cells.text_of(value)


class TimeWidget(widgets.Widget):  # type: ignore[misc]
    """A time in ISO 8601; UTC unless it says otherwise."""

    def clean(self, value: str, row: Cells | None = None, **kwargs: Any) -> datetime | None:
        text = value.strip()
        if not text:
            return None
        try:
            moment = parse_datetime(text)
        except ValueError:
            moment = None
        if moment is None:
            raise ValueError("Write a time as 2026-11-24T09:30:00+00:00.")
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def render(self, value: datetime, obj: None = None, **kwargs: Any) -> str:
        return value.isoformat()


class GroupsWidget(widgets.Widget):  # type: ignore[misc]
    """Names of groups that exist, separated by semicolons."""

    @cached_property
    def known(self) -> frozenset[str]:
        return frozenset(Group.objects.values_list("name", flat=True))

    def clean(self, value: str, row: Cells | None = None, **kwargs: Any) -> list[str]:
        # A name that only a quote could tell from others may be guarded too.
        names = {*cells.split(cells.unguarded(value))}
        if unknown := sorted(names - self.known):
            named = ", ".join(f"“{name[:40]}”" for name in unknown[:5])
            raise ValueError(f"These groups do not exist: {named}.")
        return sorted(names)

    def render(self, value: Iterable[str], obj: None = None, **kwargs: Any) -> str:
        return cells.guarded(cells.joined(value))


class UserResource(resources.ModelResource):  # type: ignore[misc]
    """Users as rows. An instance is good for one batch of an import, or one export."""

    id = Field("id", "id", readonly=True)
    username = Field("username", "username", TextWidget())
    email = Field("email", "email", TextWidget())
    first_name = Field("first_name", "first_name", TextWidget())
    last_name = Field("last_name", "last_name", TextWidget())
    is_active = Field("is_active", "is_active", YesNoWidget(), saves_null_values=False)
    groups = Field("group_names", "groups", GroupsWidget())
    date_joined = Field("date_joined", "date_joined", TimeWidget(), saves_null_values=False)
    version = Field("version", "version", readonly=True)

    class Meta:
        model = User
        fields = FIELDS
        use_bulk = True
        #: Comparing is ours: the engine would copy each user first.
        skip_diff = True
        store_instance = True

    @cached_property
    def _import_fields(self) -> list[Field]:
        return [field for field in super().get_import_fields() if not field.readonly]

    def get_import_fields(self) -> list[Field]:
        return self._import_fields

    @cached_property
    def _export_fields(self) -> list[Field]:
        return super().get_export_fields()  # type: ignore[no-any-return]

    def get_export_fields(self, selected_fields: Any = None) -> list[Field]:
        return self._export_fields

    def state(self, user: User) -> dict[str, Any]:
        """The fields a file can say, by column."""
        return {field.column_name: field.get_value(user) for field in self._import_fields}

    def get_instance(self, instance_loader: "Accounts", row: Cells) -> User | None:
        return instance_loader.get_instance(row)

    def init_instance(self, row: Cells | None = None) -> User:
        user = User(date_joined=datetime.now(UTC))
        user.group_names = []  # type: ignore[attr-defined]
        return user

    def after_init_instance(self, instance: User, new: bool, row: Cells, **kwargs: Any) -> None:
        if new and row.get("id"):
            raise ValidationError({"id": "No account has this id."})
        instance.before = self.state(instance)  # type: ignore[attr-defined]

    def import_instance(self, instance: User, row: Cells, **kwargs: Any) -> None:
        super().import_instance(instance, row, **kwargs)
        # As forms do, and only to what the row changes: what is kept as it is stays as it is.
        before = instance.before  # type: ignore[attr-defined]
        if instance.username != before["username"]:
            instance.username = User.normalize_username(instance.username)
        if instance.email != before["email"]:
            instance.email = User.objects.normalize_email(instance.email)

    def skip_row(
        self, instance: User, original: None, row: Cells, import_validation_errors: Any = None
    ) -> bool:
        if import_validation_errors or instance._state.adding:
            return False
        return self.state(instance) == instance.before  # type: ignore[attr-defined,no-any-return]

    def validate_instance(
        self,
        instance: User,
        import_validation_errors: Mapping[str, Any] | None = None,
        validate_unique: bool = False,  # noqa: FBT002 - the engine's signature
    ) -> None:
        errors = {**(import_validation_errors or {})}
        if "group_names" in errors:
            errors["groups"] = errors.pop("group_names")
        try:
            instance.clean_fields(exclude={"password", *errors})
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if errors:
            raise ValidationError(errors)

    def after_import(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: a UUID has no sequence to set."""


class Accounts(BaseInstanceLoader):  # type: ignore[misc]
    """The accounts that a batch of rows is about, and who has the names that it gives.

    Args:
        rows: by column.
        lock: hold the accounts until the transaction ends.
    """

    def __init__(self, resource: UserResource, rows: Sequence[Cells], *, lock: bool) -> None:
        super().__init__(resource)
        ids = {found for row in rows if (found := _uuid(row.get("id", "")))}
        names = {name for row in rows for name in _names(row)}
        # Two statements: with OR the planner may read the whole table.
        pks = {*User.objects.filter(username__in=names).values_list("pk", flat=True), *ids}
        chosen = User.objects.filter(pk__in=pks).order_by("pk")
        users = list(chosen.select_for_update() if lock else chosen)
        self.by_id = {user.pk: user for user in users}
        self.by_name = {user.username: user for user in users}
        self.versions = self._versions() if rows and "version" in rows[0] else {}
        self._give_groups()

    def get_instance(self, row: Cells) -> User | None:
        if row.get("id"):
            return self.by_id.get(_uuid(row["id"]))
        return next((self.by_name[name] for name in _names(row) if name in self.by_name), None)

    def _versions(self) -> dict[UUID, int]:
        entries = OutboxEntry.objects.filter(user_id__in=[*self.by_id])
        return dict(entries.values_list("user_id", "version"))

    def _give_groups(self) -> None:
        for user in self.by_id.values():
            user.group_names = []
        memberships = User.groups.through.objects.filter(user_id__in=[*self.by_id])
        for pk, name in memberships.order_by("group__name").values_list("user_id", "group__name"):
            self.by_id[pk].group_names.append(name)
        for user in self.by_id.values():
            user.group_names.sort()  # As Python does, not PostgreSQL.


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None


def _names(row: Cells) -> tuple[str, ...]:
    """What the row calls the account: as written, and as a form would put it."""
    name = cells.unguarded(row.get("username", ""))
    # PostgreSQL cannot even be asked for a name with a null character.
    return (name, User.normalize_username(name)) if name and "\0" not in name else ()
