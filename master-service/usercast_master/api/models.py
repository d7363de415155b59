"""What the API keeps: its callers' tokens, and the answers to creations that may be asked twice."""

from datetime import timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from knox.models import AbstractAuthToken

#: How exact "last used" is: a token in use costs one write in this time.
USE_NOTED_EVERY = timedelta(minutes=1)


class Scope(models.TextChoices):
    """What a token may be used for, within the Django permissions of its user."""

    READ = "read", "read: look at users, groups and the outbox"
    WRITE = "write", "write: create, change and delete"
    SNAPSHOT = "snapshot", "snapshot: fetch or compare users"
    REPORT = "report", "report: say how a client stands"


class ApiToken(AbstractAuthToken):  # type: ignore[misc]
    """One caller's access: a name, scopes, an expiry. The token itself is kept as a hash only.

    ``ApiToken.objects.create(user, name=…, scopes=[…], expiry=…)`` returns the row and the token;
    ``expiry`` is a timedelta, None for never, left out for the default of the settings.
    """

    #: What ``manage.py operator`` gives its token.
    OPERATOR = {"name": "operator", "scopes": list(Scope)}

    name = models.CharField(
        max_length=100, help_text="The program that calls, for example <em>payroll</em>."
    )
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope))
    last_used = models.DateTimeField(null=True, editable=False)

    class Meta:
        db_table = "api_token"
        verbose_name = "API token"
        ordering = ("name", "created")
        constraints = (
            models.UniqueConstraint(
                fields=("user", "name"),
                name="api_token_name",
                violation_error_message="This user has a token of that name: revoke it first.",
            ),
            models.CheckConstraint(
                condition=Q(scopes__contained_by=list(Scope), scopes__len__gt=0),
                name="api_token_scopes",
            ),
        )

    def __str__(self) -> str:
        return f"{self.name} of {self.user}"

    @property
    def is_expired(self) -> bool:
        """Whether its time is over."""
        return self.expiry is not None and self.expiry <= timezone.now()

    def note_use(self) -> None:
        """Remember that it is used now, to the minute."""
        now = timezone.now()
        if self.last_used is None or now - self.last_used >= USE_NOTED_EVERY:
            type(self).objects.filter(pk=self.pk).update(last_used=now)


class IdempotentAnswer(models.Model):
    """The answer to a creation that carried an ``Idempotency-Key``, to be given again."""

    #: The token (its hash), or the signed-in user.
    caller = models.CharField(max_length=128)
    key = models.CharField(max_length=255)
    #: SHA-256 of what was asked for.
    request_hash = models.CharField(max_length=64)
    status = models.PositiveSmallIntegerField(default=0)
    #: JSON, as sent.
    body = models.TextField(default="")
    etag = models.CharField(max_length=32, default="")
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        db_table = "api_idempotent_answer"
        constraints = (models.UniqueConstraint(fields=("caller", "key"), name="api_answer_once"),)

    def fits(self, request_hash: str) -> bool:
        """Whether the same was asked for."""
        return self.request_hash == request_hash


def caller_of(request: Any) -> str:
    """Who asks, for what is counted or kept by caller: a token, or a signed-in user."""
    return str(request.auth.pk if isinstance(request.auth, ApiToken) else request.user.pk)
