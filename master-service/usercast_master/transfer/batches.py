"""Batches: takes rows, tells for each what it would do, and does it to all of them at once.

``importing`` calls ``examine`` for the check and the import alike, and then, for the import,
``write`` in the same transaction.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from import_export.results import RowResult

from usercast_master.accounts import history
from usercast_master.accounts.models import User
from usercast_master.transfer import cells
from usercast_master.transfer.models import RowError
from usercast_master.transfer.resource import Accounts, Cells, UserResource
from usercast_master.transfer.tables import Row

#: Whom an earlier line is about, by key and by username, and which line that is.
Taken = dict[UUID | str, int]


@dataclass
class Outcome:
    """What the rows of a batch come to."""

    new: list[User] = field(default_factory=list)
    changed: list[User] = field(default_factory=list)
    unchanged: int = 0
    errors: list[RowError] = field(default_factory=list)
    #: As ``Import.preview`` has it, in the order of rows.
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """How many rows have errors."""
        return len({error.line for error in self.errors})


class Batch:
    """Some rows of a file, and the accounts they are about.

    Args:
        header: the columns' names.
        by: who imports; only a superuser changes accounts of staff.
        lock: hold the accounts until the transaction ends.
    """

    def __init__(
        self, rows: Sequence[Row], header: Sequence[str], *, by: User | None, lock: bool = False
    ) -> None:
        self.rows = rows
        self.may_change_staff = by is not None and by.is_superuser
        self.width = len(header)
        self.by_column: list[Cells] = [dict(zip(header, row.cells, strict=False)) for row in rows]
        self.resource = UserResource()
        self.accounts = Accounts(self.resource, self.by_column, lock=lock)

    def examine(self, taken: Taken) -> Outcome:
        """What each row does; rows about whom an earlier line was about are refused."""
        outcome = Outcome()
        for row, values in zip(self.rows, self.by_column, strict=True):
            try:
                self._claim(row, values, taken)
                self._examine(row, values, outcome)
            except ValidationError as error:
                outcome.errors += _row_errors(row, error)
        return outcome

    def claim(self, taken: Taken) -> None:
        """Only note whom the rows are about: they were examined before."""
        for row, values in zip(self.rows, self.by_column, strict=True):
            for key in self._keys(values):
                taken.setdefault(key, row.line)

    def _examine(self, row: Row, values: Cells, outcome: Outcome) -> None:
        result = self.resource.import_row(values, self.accounts, row_number=row.line)
        if result.validation_error:
            raise result.validation_error
        if result.errors:  # A fault of ours, not of the row.
            raise result.errors[0].error
        user: User = result.instance
        if result.import_type == RowResult.IMPORT_TYPE_SKIP:
            outcome.unchanged += 1
            return
        if (user.is_staff or user.is_superuser) and not self.may_change_staff:
            raise ValidationError("This account is staff, whom only a superuser changes.")
        self._check_against_others(user, values)
        (outcome.new if user._state.adding else outcome.changed).append(user)
        said = {name: v for name, v in self.resource.state(user).items() if name in values}
        outcome.samples.append(_sample(row, user, said))

    def _claim(self, row: Row, values: Cells, taken: Taken) -> None:
        if len(row.cells) != self.width:
            raise ValidationError(f"The row has {len(row.cells)} cells, the header {self.width}.")
        keys = self._keys(values)
        first = next((taken[key] for key in keys if key in taken), None)
        for key in keys:
            taken.setdefault(key, row.line)
        if first is not None:
            raise ValidationError(f"Line {first} is about the same account or username.")

    def _keys(self, values: Cells) -> list[UUID | str]:
        user = self.accounts.get_instance(values)
        name = User.normalize_username(cells.unguarded(values.get("username", "")))
        return [*([user.pk] if user else []), *([name] if name else [])]

    def _check_against_others(self, user: User, values: Cells) -> None:
        owner = self.accounts.by_name.get(user.username)
        if owner and owner.pk != user.pk:
            raise ValidationError({"username": "Another account has this username."})
        known = self.accounts.versions.get(user.pk, 0)
        if (version := values.get("version", "").strip()) and version != str(known):
            raise ValidationError({"version": "The user has changed since; export them again."})


def write(outcome: Outcome, header: Sequence[str], *, by: User | None, via: str) -> None:
    """Write what ``examine`` found, in the transaction it was found in.

    Raises:
        IntegrityError: somebody else took a username, or deleted a group, meanwhile.
    """
    with history.recorded([user.pk for user in outcome.changed], by=by, via=via) as watched:
        for user in outcome.new:
            user.set_unusable_password()
        User.objects.bulk_create(outcome.new)
        watched.update(user.pk for user in outcome.new)
        # One statement; bulk_update's grows with the square of the rows.
        User.objects.bulk_create(
            outcome.changed,
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=[name for name in _WRITTEN if name in header] or ["username"],
        )
        _write_memberships([*outcome.new, *outcome.changed])


_WRITTEN = ("username", "email", "first_name", "last_name", "is_active", "date_joined")


def _write_memberships(users: Iterable[User]) -> None:
    """Bring the groups of users about who are marked already, by the write of their row."""
    moved = [user for user in users if user.group_names != user.before["groups"]]  # type: ignore[attr-defined]
    if not moved:
        return
    memberships = User.groups.through.objects
    memberships.filter(user_id__in=[user.pk for user in moved if user.before["groups"]]).delete()  # type: ignore[attr-defined]
    ids = dict(Group.objects.values_list("name", "pk"))
    memberships.bulk_create(
        User.groups.through(user_id=user.pk, group_id=ids.get(name))
        for user in moved
        for name in user.group_names  # type: ignore[attr-defined]
    )


def _sample(row: Row, user: User, said: Mapping[str, Any]) -> dict[str, Any]:
    before = user.before  # type: ignore[attr-defined]
    return {
        "line": row.line,
        "username": user.username,
        "is_new": user._state.adding,
        "changes": [
            [column, _shown(before[column]), _shown(value)]
            for column, value in said.items()
            if value != before[column] and not (user._state.adding and column == "username")
        ],
    }


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(value)
        case datetime():
            return value.isoformat(" ", "seconds")
        case _:
            return str(value)


def _row_errors(row: Row, error: ValidationError) -> list[RowError]:
    by_column = (
        error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
    )
    return [
        RowError(
            line=row.line,
            column="" if column == NON_FIELD_ERRORS else column,
            message=message,
            # PostgreSQL's JSON has no null character.
            cells=[cell.replace("\0", "\N{REPLACEMENT CHARACTER}") for cell in row.cells],
        )
        for column, messages in by_column.items()
        for message in messages
    ]
