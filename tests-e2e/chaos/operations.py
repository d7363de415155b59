"""Every way to change users through the master's ORM, each a function that makes one such change.

An operation returns how many users it changed, 0 if it found nobody to change. It picks them by the
random generator it is given from the users as they are.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import QuerySet

from usercast_master.accounts.models import User

Operation = Callable[[random.Random], int]

#: The population is kept about this large: creations fill up what deletions took.
POPULATION = 500
GROUPS = tuple(f"team {number}" for number in range(6))

#: Names of deleted users, to be given to new ones.
_free_names: list[str] = []


def prepare() -> None:
    """Create the groups that the operations use."""
    for name in GROUPS:
        Group.objects.get_or_create(name=name)


def save(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.first_name, user.email = _word(rng), _address(rng)
        user.save()
        return 1
    return 0


def save_update_fields(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.last_name = _word(rng)
        user.save(update_fields=["last_name"])
        return 1
    return 0


def save_stale_instance(rng: random.Random) -> int:
    """Loaded before another change of the same user, saved after it."""
    for user in _some(rng, 1):
        User.objects.filter(pk=user.pk).update(email=_address(rng))
        user.last_name = _word(rng)
        user.save()
        return 2
    return 0


def save_slowly(rng: random.Random) -> int:
    """An import that holds several users for half a second, and fails in the end now and then."""
    users = _some(rng, 5)
    rng.shuffle(users)
    fails = rng.random() < 0.25
    with suppress(_Failed), transaction.atomic():
        for user in users:
            user.last_name = _word(rng)
            user.save()
            time.sleep(0.1)
        if fails:
            raise _Failed
    return 0 if fails else len(users)


class _Failed(Exception):
    """The import found something wrong."""


def rename(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.username = _word(rng)
        user.save()
        return 1
    return 0


def toggle_active(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.is_active = not user.is_active
        user.save()
        return 1
    return 0


def update_in_bulk(rng: random.Random) -> int:
    chosen = _ids(_some(rng, 15))
    return User.objects.filter(pk__in=chosen).update(first_name=_word(rng))


def bulk_update(rng: random.Random) -> int:
    users = _some(rng, 10)
    for user in users:
        user.last_name = _word(rng)
    return User.objects.bulk_update(users, ["last_name"])


def create(rng: random.Random) -> int:
    if User.objects.count() > POPULATION:
        return 0
    User.objects.create(username=_word(rng), password="!")
    return 1


def bulk_create(rng: random.Random) -> int:
    if User.objects.count() > POPULATION - 10:
        return 0
    users = [User(username=_word(rng), password="!") for _ in range(10)]
    return len(User.objects.bulk_create(users))


def create_under_a_deleted_name(rng: random.Random) -> int:
    if not _free_names:
        return 0
    name = _free_names.pop(rng.randrange(len(_free_names)))
    if User.objects.filter(username=name).exists():
        return 0
    User.objects.create(username=name, password="!")
    return 1


def delete(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.delete()
        _free_names.append(user.username)
        return 1
    return 0


def delete_in_bulk(rng: random.Random) -> int:
    users = _some(rng, 4)
    User.objects.filter(pk__in=_ids(users)).delete()
    _free_names.extend(user.username for user in users)
    return len(users)


def swap_two_names(rng: random.Random) -> int:
    return _pass_names_on(_some(rng, 2))


def cycle_three_names(rng: random.Random) -> int:
    return _pass_names_on(_some(rng, 3))


def add_groups(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.groups.add(*_groups(rng, 2))
        return 1
    return 0


def set_groups(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.groups.set(_groups(rng, 2))
        return 1
    return 0


def clear_groups(rng: random.Random) -> int:
    for user in _some(rng, 1, User.objects.filter(groups__isnull=False).distinct()):
        user.groups.clear()
        return 1
    return 0


def add_members(rng: random.Random) -> int:
    users = _some(rng, 6)
    for group in _groups(rng, 1):
        group.user_set.add(*users)
    return len(users)


def remove_members(rng: random.Random) -> int:
    for group in _groups(rng, 1):
        members = _some(rng, 6, group.user_set.all())
        group.user_set.remove(*members)
        return len(members)
    return 0


def rename_group(rng: random.Random) -> int:
    for group in _groups(rng, 1):
        group.name = f"{group.name.partition(' aka ')[0]} aka {_word(rng)}"
        group.save()
        return int(group.user_set.filter(is_staff=False).count())
    return 0


def become_staff(rng: random.Random) -> int:
    for user in _some(rng, 1):
        user.is_staff = True
        user.save()
        return 1
    return 0


def cease_to_be_staff(rng: random.Random) -> int:
    staff = User.objects.filter(is_staff=True, is_superuser=False)
    for user in _some(rng, 1, staff):
        user.is_staff = False
        user.save()
        return 1
    return 0


#: Each operation and how often it is made, in relation to the others.
WEIGHTS: dict[Operation, int] = {
    save: 16,
    save_update_fields: 8,
    save_stale_instance: 4,
    rename: 6,
    toggle_active: 6,
    update_in_bulk: 2,
    bulk_update: 2,
    create: 4,
    bulk_create: 1,
    create_under_a_deleted_name: 4,
    delete: 5,
    delete_in_bulk: 1,
    save_slowly: 1,
    swap_two_names: 6,
    cycle_three_names: 4,
    add_groups: 5,
    set_groups: 5,
    clear_groups: 2,
    add_members: 2,
    remove_members: 2,
    rename_group: 1,
    become_staff: 3,
    cease_to_be_staff: 3,
}


def _pass_names_on(users: Sequence[User]) -> int:
    """Each user gets the name of the one before, the first that of the last, in one transaction."""
    if len(users) < 2:
        return 0
    names = [user.username for user in users]
    with transaction.atomic():
        # A name has to be free before another can have it.
        for user, name in zip(users, names, strict=True):
            _give_name(user, f"{name}.leaving")
        for user, name in zip(users, [names[-1], *names[:-1]], strict=True):
            _give_name(user, name)
    return len(users)


def _give_name(user: User, name: str) -> None:
    user.username = name
    user.save()


def _some(rng: random.Random, count: int, users: QuerySet[User] | None = None) -> list[User]:
    """Different users by chance, fewer if there are fewer; staff only if ``users`` says so."""
    if users is None:
        users = User.objects.filter(is_staff=False)
    ids = list(users.filter(is_superuser=False).order_by("pk").values_list("pk", flat=True))
    chosen = rng.sample(ids, min(count, len(ids)))
    found = {user.pk: user for user in User.objects.filter(pk__in=chosen)}
    return [found[pk] for pk in chosen if pk in found]


def _groups(rng: random.Random, count: int) -> list[Group]:
    groups = list(Group.objects.order_by("pk"))
    return rng.sample(groups, min(count, len(groups)))


def _ids(users: Iterable[User]) -> list[UUID]:
    return [user.pk for user in users]


def _word(rng: random.Random) -> str:
    letters = "abcdefghijklmnopqrstuvwxyzäöüéšł"
    return "".join(rng.choices(letters, k=12))


def _address(rng: random.Random) -> str:
    return f"{rng.getrandbits(48):x}@example.com"
