"""Every way Django offers to write a user, a membership or a group, each on people of its own.

``test_ways`` runs this file as a script in the master; it prints, for each way, how its users were
before it and how the master has them after all. The test itself imports the ways' names only.

A way begins when the clients have been told of its people: else its change would travel along with
their creation, captured or not.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

if __name__ == "__main__":  # In the master, where Django is set up.
    from asgiref.sync import async_to_sync
    from django.contrib.auth.models import Group
    from django.core import serializers
    from django.core.management import call_command
    from django.db import transaction
    from django.db.models import F, Value
    from django.db.models.functions import Concat, Upper
    from django.test import Client

    from usercast_master.accounts.models import User
    from usercast_master.outbox.models import OutboxEntry

#: Of every username here, for who looks for them in a list of users.
PREFIX = "ways-"
PUBLISHED_WITHIN_SECONDS = 60.0
State = dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Cast:
    """A way's people: ann and bob are editors, cem has no group, and writers has nobody.

    Whoever a way creates belongs to it by ``name``.
    """

    prefix: str
    ann: "User"
    bob: "User"
    cem: "User"
    editors: "Group"
    writers: "Group"
    ids: frozenset[UUID]

    @classmethod
    def of(cls, prefix: str) -> "Cast":
        people = {who: User.objects.create(username=f"{prefix}-{who}") for who in _PEOPLE}
        groups = {name: Group.objects.create(name=f"{prefix}-{name}") for name in _GROUPS}
        groups["editors"].user_set.add(people["ann"], people["bob"])
        ids = frozenset(person.pk for person in people.values())
        return cls(prefix=prefix, **people, **groups, ids=ids)

    def name(self, what: str) -> str:
        return f"{self.prefix}-{what}"

    @property
    def couple(self) -> Any:
        return User.objects.filter(pk__in=[self.ann.pk, self.bob.pk])

    def states(self) -> dict[str, State]:
        created = User.objects.filter(username__startswith=self.name("")).values_list("pk")
        return {str(key): state(key) for key in self.ids.union(key for (key,) in created)}


_PEOPLE = ("ann", "bob", "cem")
_GROUPS = ("editors", "writers")
WAYS: dict[str, Callable[[Cast], object]] = {}


def way(function: Callable[[Cast], object]) -> Callable[[Cast], object]:
    WAYS[function.__name__.replace("_", " ")] = function
    return function


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def wait() -> Any:
        return await coroutine

    return async_to_sync(wait)()


def changed(instance: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(instance, name, value)
    return instance


def state(key: UUID) -> State:
    """What the clients must have, from the tables; None for who is gone, or stays on the master."""
    user = User._base_manager.filter(pk=key, is_staff=False, is_superuser=False).first()
    if user is None:
        return None
    fields = ("username", "email", "first_name", "last_name", "is_active")
    return {
        "id": str(key),
        "version": OutboxEntry.objects.get(user_id=key).version,
        **{field: getattr(user, field) for field in fields},
        "date_joined": user.date_joined.isoformat().replace("+00:00", "Z"),
        "groups": sorted(user.groups.values_list("name", flat=True)),
    }


def published(*keys: UUID) -> None:
    """Wait until SNS has what there is of these users."""
    owed = OutboxEntry.objects.filter(user_id__in=keys, version__gt=F("published_version"))
    deadline = time.monotonic() + PUBLISHED_WITHIN_SECONDS
    while owed.exists():
        assert time.monotonic() < deadline, "they were not published"
        time.sleep(0.01)


# One user

WAYS |= {
    "save": lambda c: changed(c.ann, first_name="Ann").save(),
    "asave": lambda c: run(changed(c.ann, first_name="Ann").asave()),
    "save of some fields": lambda c: changed(
        c.ann, email="ann@example.org", last_name="Unwritten"
    ).save(update_fields=["email"]),
    "asave of some fields": lambda c: run(
        changed(c.ann, email="ann@example.org").asave(update_fields={"email"})
    ),
    "save of a partly loaded user": lambda c: changed(
        User.objects.only("username").get(pk=c.ann.pk), last_name="Deferred"
    ).save(),
    "save by key alone": lambda c: User(pk=c.ann.pk, username=c.name("renamed")).save(
        force_update=True
    ),
    "save of an expression": lambda c: changed(
        c.ann, first_name=Concat(F("username"), Value("!"))
    ).save(),
    "create": lambda c: User.objects.create(username=c.name("new"), email="new@example.org"),
    "acreate": lambda c: run(User.objects.acreate(username=c.name("new"))),
    "create user": lambda c: User.objects.create_user(c.name("new"), "new@example.org"),
    "acreate user": lambda c: run(User.objects.acreate_user(c.name("new"), "new@example.org")),
    "get or create": lambda c: User.objects.get_or_create(
        username=c.name("new"), defaults={"first_name": "New"}
    ),
    "aget or create": lambda c: run(
        User.objects.aget_or_create(username=c.name("new"), defaults={"first_name": "New"})
    ),
    "update or create of a known user": lambda c: User.objects.update_or_create(
        username=c.ann.username, defaults={"first_name": "Ann"}
    ),
    "update or create of a new user": lambda c: User.objects.update_or_create(
        username=c.name("new"), defaults={"first_name": "New"}
    ),
    "aupdate or create of a known user": lambda c: run(
        User.objects.aupdate_or_create(username=c.ann.username, defaults={"first_name": "Ann"})
    ),
    "aupdate or create of a new user": lambda c: run(
        User.objects.aupdate_or_create(username=c.name("new"), defaults={"first_name": "New"})
    ),
    "delete": lambda c: c.ann.delete(),
    "adelete": lambda c: run(c.ann.adelete()),
}


@way
def save_after_refresh(c: Cast) -> None:
    User.objects.filter(pk=c.ann.pk).update(first_name="Bulk")
    published(c.ann.pk)
    c.ann.refresh_from_db()
    changed(c.ann, last_name="Fresh").save()


@way
def save_under_lock(c: Cast) -> None:
    with transaction.atomic():
        changed(User.objects.select_for_update().get(pk=c.ann.pk), last_name="Locked").save()


@way
def save_of_an_instance_gone_stale(c: Cast) -> None:
    """Another process wrote, and was published; the old instance puts the old state back."""
    code = (
        "from usercast_master.accounts.models import User;"
        f"User.objects.filter(pk='{c.ann.pk}').update(first_name='Other')"
    )
    subprocess.run([sys.executable, "manage.py", "shell", "--no-imports", "-c", code], check=True)
    published(c.ann.pk)
    c.ann.save()


@way
def deletion_and_return_of_the_name(c: Cast) -> None:
    with transaction.atomic():
        c.ann.delete()
        User.objects.create(username=c.name("ann"))


# Many users

WAYS |= {
    "update": lambda c: c.couple.update(last_name="Both", is_active=False),
    "aupdate": lambda c: run(c.couple.aupdate(last_name="Both")),
    "update by an expression": lambda c: c.couple.update(
        username=Concat(F("username"), Value("-x")), first_name=Upper("username")
    ),
    "update of what the filter no longer finds": lambda c: User.objects.filter(
        username=c.ann.username
    ).update(username=c.name("renamed")),
    "update through a join": lambda c: User.objects.filter(groups__name=c.editors.name).update(
        last_name="Editor"
    ),
    "queryset delete": lambda c: c.couple.delete(),
    "queryset adelete": lambda c: run(c.couple.adelete()),
    "bulk create": lambda c: User.objects.bulk_create(
        [User(username=c.name(f"new-{number}")) for number in range(3)]
    ),
    "bulk create updating conflicts": lambda c: User.objects.bulk_create(**_upserts(c)),
    "abulk create updating conflicts": lambda c: run(User.objects.abulk_create(**_upserts(c))),
    "bulk create updating conflicts of keys": lambda c: User.objects.bulk_create(
        [User(pk=c.ann.pk, username=c.name("renamed"))],
        update_conflicts=True,
        update_fields=["username"],
        unique_fields=["id"],
    ),
    "members update": lambda c: c.editors.user_set.update(last_name="Editor"),
    "members aupdate": lambda c: run(c.editors.user_set.aupdate(last_name="Editor")),
    "members delete": lambda c: c.editors.user_set.all().delete(),
}


@way
def abulk_create(c: Cast) -> None:
    users = [User(username=c.name(f"new-{number}")) for number in range(3)]
    run(User.objects.abulk_create(users, batch_size=2))


@way
def bulk_create_ignoring_conflicts(c: Cast) -> None:
    users = [User(username=c.name(who), first_name="New") for who in ("ann", "new")]
    User.objects.bulk_create(users, ignore_conflicts=True)


def _upserts(c: Cast) -> dict[str, Any]:
    users = [User(username=c.name(who), first_name="Upserted") for who in ("ann", "new")]
    return {
        "objs": users,
        "update_conflicts": True,
        "update_fields": ["first_name"],
        "unique_fields": ["username"],
    }


@way
def bulk_update(c: Cast) -> None:
    users = [changed(user, first_name=f"Number {n}") for n, user in enumerate(c.couple)]
    User.objects.bulk_update(users, ["first_name"])


@way
def abulk_update(c: Cast) -> None:
    users = [changed(user, first_name=f"Number {n}") for n, user in enumerate(c.couple)]
    run(User.objects.abulk_update(users, ["first_name"], batch_size=1))


# Memberships, from the user's side

WAYS |= {
    "groups add": lambda c: c.ann.groups.add(c.writers),
    "groups aadd": lambda c: run(c.ann.groups.aadd(c.writers)),
    "groups remove": lambda c: c.ann.groups.remove(c.editors),
    "groups aremove": lambda c: run(c.ann.groups.aremove(c.editors)),
    "groups clear": lambda c: c.ann.groups.clear(),
    "groups aclear": lambda c: run(c.ann.groups.aclear()),
    "groups set": lambda c: c.ann.groups.set([c.writers]),
    "groups aset": lambda c: run(c.ann.groups.aset([c.editors, c.writers])),
    "groups set anew": lambda c: c.ann.groups.set([c.writers], clear=True),
    "groups create": lambda c: c.ann.groups.create(name=c.name("readers")),
    "groups acreate": lambda c: run(c.ann.groups.acreate(name=c.name("readers"))),
    "groups get or create": lambda c: c.ann.groups.get_or_create(name=c.name("readers")),
    "groups aget or create": lambda c: run(c.ann.groups.aget_or_create(name=c.name("readers"))),
    "groups update or create": lambda c: c.ann.groups.update_or_create(
        name=c.editors.name, defaults={"name": c.name("authors")}
    ),
    "groups aupdate or create": lambda c: run(
        c.ann.groups.aupdate_or_create(name=c.name("readers"))
    ),
}


# Memberships, from the group's side

WAYS |= {
    "members add": lambda c: c.writers.user_set.add(c.ann, c.cem),
    "members aadd": lambda c: run(c.writers.user_set.aadd(c.ann.pk)),
    "members remove": lambda c: c.editors.user_set.remove(c.ann),
    "members aremove": lambda c: run(c.editors.user_set.aremove(c.ann, c.bob)),
    "members clear": lambda c: c.editors.user_set.clear(),
    "members aclear": lambda c: run(c.editors.user_set.aclear()),
    "members set": lambda c: c.editors.user_set.set([c.bob, c.cem]),
    "members aset": lambda c: run(c.editors.user_set.aset([c.cem], clear=True)),
    "members create": lambda c: c.writers.user_set.create(username=c.name("new")),
    "members acreate": lambda c: run(c.writers.user_set.acreate(username=c.name("new"))),
    "members get or create": lambda c: c.writers.user_set.get_or_create(username=c.name("new")),
    "members update or create": lambda c: c.editors.user_set.update_or_create(
        username=c.name("ann"), defaults={"first_name": "Ann"}
    ),
    "members aupdate or create": lambda c: run(
        c.writers.user_set.aupdate_or_create(username=c.name("new"))
    ),
}


# Groups

WAYS |= {
    "group renamed": lambda c: changed(c.editors, name=c.name("authors")).save(),
    "group renamed asynchronously": lambda c: run(
        changed(c.editors, name=c.name("authors")).asave(update_fields=["name"])
    ),
    "group renamed by update or create": lambda c: Group.objects.update_or_create(
        pk=c.editors.pk, defaults={"name": c.name("authors")}
    ),
    "group deleted": lambda c: c.editors.delete(),
    "group deleted asynchronously": lambda c: run(c.editors.adelete()),
    "groups deleted together": lambda c: Group.objects.filter(name__startswith=c.name("")).delete(),
    "groups deleted together asynchronously": lambda c: run(
        Group.objects.filter(name__startswith=c.name("")).adelete()
    ),
}


# Fixtures


@way
def loaddata(c: Cast) -> None:
    """Ann as she is but for her name and groups, somebody new, and a group renamed."""
    new = User(username=c.name("new"), email="new@example.org")
    records = serializers.serialize("python", [changed(c.ann, first_name="Ann"), new, c.editors])
    records[0]["fields"]["groups"] = [c.writers.pk]
    records[1]["fields"]["groups"] = [c.editors.pk, c.writers.pk]
    records[2]["fields"]["name"] = c.name("authors")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "people.json"
        path.write_text(json.dumps(records, default=str))
        call_command("loaddata", path, verbosity=0)


# The admin

WAYS |= {
    "admin deletes a user": lambda c: _post(f"accounts/user/{c.ann.pk}/delete/", post="yes"),
    "admin renames a group": lambda c: _post(
        f"auth/group/{c.editors.pk}/change/", name=c.name("authors")
    ),
}


def _post(path: str, **data: Any) -> None:
    """Send an admin's form, as root."""
    desk = Client(SERVER_NAME="localhost")
    desk.force_login(User.objects.get(username=f"{PREFIX}root"))
    answer = desk.post(f"/admin/{path}", data)
    assert answer.status_code == 302, answer.content.decode()


@way
def admin_adds_a_user(c: Cast) -> None:
    person = {"first_name": "New", "last_name": "", "email": "new@example.org"}
    _post("accounts/user/add/", username=c.name("new"), usable_password="false", **person)


def _edit(user: Any, **data: Any) -> None:
    """Send a user's form, opened just now."""
    version = OutboxEntry.objects.get(user_id=user.pk).version
    _post(f"accounts/user/{user.pk}/change/", read_version=version, **data)


@way
def admin_edits_a_user(c: Cast) -> None:
    person = {"first_name": "Ann", "last_name": "", "email": "", "is_active": "on"}
    _edit(c.ann, username=c.name("renamed"), groups=[c.writers.pk], **person)


@way
def admin_deactivates_a_user(c: Cast) -> None:
    person = {"first_name": "", "last_name": "", "email": "", "groups": c.editors.pk}
    _edit(c.ann, username=c.ann.username, **person)


@way
def admin_deactivates_selected_users(c: Cast) -> None:
    _post("accounts/user/", action="deactivate", _selected_action=[c.ann.pk, c.cem.pk])


@way
def admin_adds_selected_users_to_a_group(c: Cast) -> None:
    chosen = [c.ann.pk, c.cem.pk]
    _post("accounts/user/", action="add_to_group", _selected_action=chosen, group=c.writers.pk)


@way
def file_of_users_is_imported(c: Cast) -> None:
    rows = [f"{c.ann.username},Imported", f"{c.name('imported')},New"]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "people.csv"
        path.write_text("\n".join(["username,first_name", *rows]))
        call_command("users", "import", path)


@way
def admin_deletes_selected_users(c: Cast) -> None:
    chosen = [c.ann.pk, c.cem.pk]
    _post("accounts/user/", action="delete_selected", _selected_action=chosen, post="yes")


@way
def admin_deletes_selected_groups(c: Cast) -> None:
    chosen = [c.editors.pk, c.writers.pk]
    _post("auth/group/", action="delete_selected", _selected_action=chosen, post="yes")


# The scope: staff and superusers stay on the master

WAYS |= {
    "becoming staff": lambda c: changed(c.ann, is_staff=True).save(),
    "becoming superuser": lambda c: changed(c.ann, is_superuser=True).save(
        update_fields=["is_superuser"]
    ),
    "becoming staff together": lambda c: c.couple.update(is_staff=True),
}


@way
def being_staff_for_a_while(c: Cast) -> None:
    changed(c.ann, is_staff=True).save()
    published(c.ann.pk)
    changed(c.ann, is_staff=False).save()


@way
def ceasing_to_be_staff(c: Cast) -> None:
    root = User.objects.create(username=c.name("root"), is_staff=True, is_superuser=True)
    root.groups.add(c.writers)
    User.objects.filter(pk=root.pk).update(is_staff=False, is_superuser=False)


# Transactions

WAYS |= {
    "swap of usernames": lambda c: _pass_on(c.ann, c.bob),
    "cycle of usernames": lambda c: _pass_on(c.ann, c.bob, c.cem),
}


def _pass_on(*people: "User") -> None:
    """Everybody takes the next one's username."""
    names = [person.username for person in people]
    with transaction.atomic():
        changed(people[0], username=f"{names[0]}-moving").save()
        for person, name in reversed(list(zip(people[1:], [*names[2:], names[0]], strict=True))):
            changed(person, username=name).save()
        changed(people[0], username=names[1]).save()


@way
def savepoint_rolled_back_within_a_commit(c: Cast) -> None:
    with transaction.atomic():
        changed(c.ann, first_name="Kept").save()
        with suppress(KeyError), transaction.atomic():
            changed(c.ann, first_name="Lost").save()
            c.bob.delete()
            User.objects.create(username=c.name("never"))
            raise KeyError
        c.cem.groups.add(c.writers)


@way
def several_writes_in_one_transaction(c: Cast) -> None:
    with transaction.atomic():
        changed(c.ann, first_name="First").save()
        User.objects.filter(pk=c.ann.pk).update(last_name="Second")
        c.ann.groups.set([c.writers])


def main() -> None:
    User.objects.create_superuser(f"{PREFIX}root", password="correct horse battery")
    casts = {name: Cast.of(f"{PREFIX}{number}") for number, name in enumerate(WAYS)}
    published(*(key for cast in casts.values() for key in cast.ids))
    before = {name: cast.states() for name, cast in casts.items()}
    for name, write in WAYS.items():
        write(casts[name])
    after = {name: cast.states() for name, cast in casts.items()}
    print(json.dumps({name: {"before": before[name], "after": after[name]} for name in WAYS}))


if __name__ == "__main__":
    main()
