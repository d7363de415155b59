"""Plausible people and the groups they work in, for seed and traffic."""

import random
import unicodedata
from dataclasses import dataclass

from faker import Faker

#: Each group, and the share of all people in it.
GROUPS = {
    "editors": 0.15,
    "engineering": 0.35,
    "finance": 0.10,
    "marketing": 0.12,
    "people": 0.06,
    "support": 0.25,
}

_LOCALES = (
    *("cs_CZ", "da_DK", "de_DE", "en_GB", "en_US", "es_ES", "fi_FI", "fr_FR", "hu_HU", "it_IT"),
    *("nl_NL", "no_NO", "pl_PL", "pt_BR", "ro_RO", "sv_SE", "tr_TR", "vi_VN"),
)
# Letters that Unicode does not take apart into a plain one and an accent.
_PLAIN = str.maketrans(
    {
        "\N{LATIN SMALL LETTER DOTLESS I}": "i",
        "ß": "ss",
        "ł": "l",
        "ø": "o",
        "đ": "d",
        "æ": "ae",
        "œ": "oe",
    }
)


@dataclass(frozen=True)
class Person:
    """Who someone is, as far as a user account tells."""

    username: str
    first_name: str
    last_name: str
    email: str


class People:
    """An endless row of people with different usernames, the same for the same seed.

    Args:
        seed: None for another row each time.
        taken: usernames not to give out.
    """

    def __init__(self, *, seed: int | None = None, taken: set[str] | None = None) -> None:
        self.random = random.Random(seed)
        self._faker = Faker(_LOCALES)
        self._faker.seed_instance(self.random.getrandbits(32))
        self._taken = set(taken or ())

    def next(self) -> Person:
        """The next person; the username comes from the name."""
        first, last = self._faker.first_name(), self._faker.last_name()
        username = self.username(first, last)
        return Person(username, first, last, email_of(username))

    def last_name(self) -> str:
        """A family name, as a marriage might bring."""
        return str(self._faker.last_name())

    def groups(self) -> list[str]:
        """The groups one person might be in, often one, sometimes none."""
        return sorted(name for name, share in GROUPS.items() if self.random.random() < share)

    def username(self, first: str, last: str) -> str:
        """A username for this name that was not given out before."""
        wanted = f"{_plain(first)}.{_plain(last)}"
        username, number = wanted, 2
        while username in self._taken:
            username, number = f"{wanted}{number}", number + 1
        self._taken.add(username)
        return username


def email_of(username: str) -> str:
    """The address that goes with a username, in a domain reserved for examples."""
    return f"{username}@example.com"


def _plain(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.lower().translate(_PLAIN))
    return "".join(letter for letter in letters if letter.isascii() and letter.isalnum())
