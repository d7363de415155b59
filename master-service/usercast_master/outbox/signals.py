"""Detect: takes Django's signals about users and groups, hands real changes to ``outbox.capture``.

A change is a difference between the row as it is now, locked, and what is about to be written: the
instance may have been loaded before somebody else's change. Only the contract's fields and the
scope's count; a sign-in (``last_login``) or a new password is no change.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import connection, models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save
from django.dispatch import Signal

from usercast.contract import STATE_FIELDS
from usercast_master.outbox.capture import (
    Priority,
    is_deletion_marked,
    mark_changed,
    mark_one,
    require_transaction,
)
from usercast_master.outbox.scope import SCOPE_FIELDS, is_replicated

#: Groups are rows of another table and have a signal of their own.
COLUMNS = (*(field for field in STATE_FIELDS if field != "groups"), *SCOPE_FIELDS)
_ROW = f"SELECT {', '.join(COLUMNS)} FROM accounts_user WHERE id = %s FOR UPDATE"


def connect() -> None:
    """Listen to the user model, its group memberships, and the groups themselves."""
    from usercast_master.accounts.models import User

    _connect(pre_save, before_user_save, User)
    _connect(post_save, after_user_save, User)
    _connect(pre_delete, before_user_delete, User)
    _connect(post_delete, after_user_delete, User)
    m2m_changed.connect(on_membership, sender=User.groups.through)
    _connect(pre_save, before_group_save, Group)
    _connect(post_save, after_group_save, Group)
    _connect(pre_delete, before_group_delete, Group)
    # Django's Group cannot be subclassed here; its save needs the transaction User.save has.
    Group.save = _in_transaction(Group.save)  # type: ignore[method-assign]


def _connect(signal: Signal, handler: Callable[..., None], model: type[models.Model]) -> None:
    """Have a handler hear of a model and of its proxies, which send signals as themselves."""

    def receive(sender: type[models.Model], **kwargs: Any) -> None:
        if sender._meta.concrete_model is model:
            handler(**kwargs)

    signal.connect(receive, weak=False, dispatch_uid=f"usercast {handler.__name__}")


def before_user_save(instance: Any, **_kwargs: Any) -> None:
    # A stack, since another receiver may save the instance again before the save has ended.
    instance.__dict__.setdefault("_usercast_before", []).append(_row(instance))


def after_user_save(instance: Any, update_fields: frozenset[str] | None, **_kwargs: Any) -> None:
    before = instance._usercast_before.pop()
    # Read only now: other receivers of pre_save may have had their say.
    written = {
        column: getattr(instance, column)
        for column in COLUMNS
        if update_fields is None or column in update_fields
    }
    after = {**(before or {}), **written}
    was_known = before is not None and _known(before)
    is_known = _known(after)
    if was_known and not is_known:
        mark_one(instance.pk, Priority.URGENT, deleted=True)
    elif is_known and (not was_known or _differ(instance, before, written)):
        deactivated = was_known and before["is_active"] and not after["is_active"]
        mark_one(instance.pk, Priority.URGENT if deactivated else Priority.SINGLE)


def before_user_delete(instance: Any, **_kwargs: Any) -> None:
    if is_deletion_marked(instance.pk):
        return
    row = _row(instance)
    instance._usercast_known = row is not None and _known(row)


def after_user_delete(instance: Any, **_kwargs: Any) -> None:
    if instance.__dict__.pop("_usercast_known", False):
        mark_one(instance.pk, Priority.URGENT, deleted=True)


def on_membership(
    instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, **_kwargs: Any
) -> None:
    """A user's groups or a group's users were added, removed or cleared."""
    if not reverse:
        if action == "post_clear" or (action in ("post_add", "post_remove") and pk_set):
            mark_changed([instance.pk], Priority.SINGLE)
    elif action == "pre_clear":
        instance._usercast_members = _members(instance)
    elif action == "post_clear":
        mark_changed(instance.__dict__.pop("_usercast_members"), Priority.BULK)
    elif action in ("post_add", "post_remove") and pk_set:
        mark_changed(pk_set, Priority.BULK if len(pk_set) > 1 else Priority.SINGLE)


def before_group_save(instance: Group, **_kwargs: Any) -> None:
    # Locked, so that nobody joins between the marking of the members and the commit.
    group = Group.objects.select_for_update().filter(pk=instance.pk)
    old_name = group.values_list("name", flat=True).first()
    instance._usercast_renamed = old_name not in (None, instance.name)  # type: ignore[attr-defined]


def after_group_save(instance: Group, **_kwargs: Any) -> None:
    if instance.__dict__.pop("_usercast_renamed"):
        mark_changed(_members(instance), Priority.BULK)


def before_group_delete(instance: Group, **_kwargs: Any) -> None:
    Group.objects.select_for_update().filter(pk=instance.pk).first()
    # Marked ahead of the deletion, which is one transaction with it; afterwards nobody is a member.
    mark_changed(_members(instance), Priority.BULK)


def _row(instance: models.Model) -> dict[str, Any] | None:
    """The row's columns as they are now, locked until the transaction ends.

    Raises:
        MarkedOutsideTransaction: no transaction is open; nothing has been written yet.
    """
    require_transaction()
    with connection.cursor() as cursor:
        # In SQL, for it is part of every save: the ORM would take four times as long.
        cursor.execute(_ROW, [str(instance.pk)])
        row = cursor.fetchone()
    return None if row is None else dict(zip(COLUMNS, row, strict=True))


def _known(columns: dict[str, Any]) -> bool:
    return is_replicated(is_staff=columns["is_staff"], is_superuser=columns["is_superuser"])


def _differ(instance: models.Model, before: dict[str, Any], written: dict[str, Any]) -> bool:
    """Whether any written value reads back as another than the row had."""
    return any(
        value != before[name] and _read_back(instance, name, value) != before[name]
        for name, value in written.items()
    )


def _read_back(instance: models.Model, name: str, value: Any) -> Any:
    """The value as the database gives it back: ``date_joined`` may have been assigned as a string.

    A database expression has no value yet; kept as it is, it differs from any and so is a change.
    """
    if hasattr(value, "resolve_expression"):
        return value
    return instance._meta.get_field(name).to_python(value)  # type: ignore[union-attr]


def _members(group: Group) -> list[UUID]:
    return list(group.user_set.values_list("pk", flat=True))


def _in_transaction(save: Any) -> Any:
    if hasattr(save, "__wrapped__"):
        return save

    @wraps(save)
    def atomic_save(self: models.Model, *args: Any, **kwargs: Any) -> None:
        with transaction.atomic(using=kwargs.get("using"), savepoint=False):
            save(self, *args, **kwargs)

    return atomic_save
