"""What a second factor needs beside django-otp's devices: recovery codes, kept as hashes."""

import hashlib
import secrets
from typing import Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django_otp.models import Device, ThrottlingMixin
from django_otp.plugins.otp_totp.models import TOTPDevice

CODES = 10
#: Without letters and digits that are read for one another.
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_LENGTH = 16  # 79 bits: nobody finds one by trying, not even with the hashes in hand.


class RecoveryCodes(ThrottlingMixin, Device):  # type: ignore[misc]
    """A user's recovery codes; each lets in once, when the app is not at hand."""

    digests = ArrayField(models.CharField(max_length=64))

    class Meta:
        verbose_name = verbose_name_plural = "recovery codes"
        constraints = (models.UniqueConstraint(fields=("user",), name="signin_recoverycodes_user"),)

    @classmethod
    def issue(cls, user: models.Model) -> list[str]:
        """New codes for a user, instead of those of before; only here can they be read."""
        codes = ["".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(CODES)]
        found: Self
        found, _ = cls.objects.get_or_create(user=user, defaults={"digests": []})
        found.digests = [_digest(code) for code in codes]
        found.throttle_reset()
        return codes

    def verify_token(self, token: str) -> bool:
        """Whether it is one of the codes, which it is no more afterwards."""
        allowed, _ = self.verify_is_allowed()
        if not allowed:
            return False
        if _digest(token) not in self.digests:
            self.throttle_increment()
            return False
        self.digests.remove(_digest(token))
        self.throttle_reset()
        return True

    def get_throttle_factor(self) -> int:
        """Django-otp's own: 1, 2, 4, 8 … seconds between wrong codes."""
        return 1


class SecondFactor(TOTPDevice):  # type: ignore[misc]
    """An authenticator app, as the desk lists it."""

    class Meta:
        proxy = True
        verbose_name = "second factor"


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()
