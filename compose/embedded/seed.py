"""The first users of a fresh master: ``python -m embedded.seed`` in the master's environment."""

from datetime import UTC, datetime, timedelta
from typing import Any

import django

from embedded.people import GROUPS, People

PEOPLE = 500
_SEED = 20_260_101
_INACTIVE_SHARE = 0.06
_LONGEST_DAYS_HERE = 9 * 365


def seed(now: datetime) -> int:
    """Create the people and their groups in one transaction; return how many users were created.

    A master that has any user besides its staff is left alone.
    """
    from django.contrib.auth.models import Group
    from django.db import transaction

    from usercast_master.accounts.models import User

    with transaction.atomic():
        groups: dict[str, Any] = {
            name: Group.objects.get_or_create(name=name)[0] for name in GROUPS
        }
        if User.objects.filter(is_staff=False).exists():
            return 0
        people = People(seed=_SEED, taken=set(User.objects.values_list("username", flat=True)))
        users = [_user(people, now) for _ in range(PEOPLE)]
        User.objects.bulk_create(users)
        member_of = {user.pk: people.groups() for user in users}
        for name, group in groups.items():
            group.user_set.add(*(user for user in users if name in member_of[user.pk]))
    return len(users)


def _user(people: People, now: datetime) -> Any:
    from usercast_master.accounts.models import User

    person = people.next()
    user = User(
        username=person.username,
        first_name=person.first_name,
        last_name=person.last_name,
        email=person.email,
        is_active=people.random.random() >= _INACTIVE_SHARE,
        date_joined=now - timedelta(days=people.random.uniform(1, _LONGEST_DAYS_HERE)),
    )
    user.set_unusable_password()
    return user


def main() -> None:
    """Seed, and print how many users were created."""
    django.setup()
    print(seed(datetime.now(UTC)))


if __name__ == "__main__":
    main()
