"""The outbox: one row a user, saying how far they have changed and how far that was told.

Beside it, a row a minute of how publishing went, for the desk.
"""

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now


class OutboxEntry(models.Model):
    """A user's place in the stream of changes.

    The entry has no payload: the publisher reads the user as it is when it sends. A hundred saves
    while SNS is away are one message. A delivered entry stays: it carries the version on, and past
    the user's deletion it is the tombstone.
    """

    #: No foreign key, since the entry outlives the user.
    user_id = models.UUIDField(primary_key=True)
    #: Grows by one with each change, in the transaction of the change.
    version = models.BigIntegerField()
    #: The newest version that SNS has accepted; 0 before the first.
    published_version = models.BigIntegerField(default=0)
    #: Of the state that SNS accepted (``usercast.digest``); None of a deletion. For the audit.
    published_hash = models.UUIDField(null=True)
    #: When SNS last accepted a state; None before the first. A change may have waited long for it.
    published_at = models.DateTimeField(null=True)
    #: The master's clock at the latest change; travels as the event's time.
    changed_at = models.DateTimeField()
    #: When the user was deleted or left the replicated ones; None while the clients know them.
    deleted_at = models.DateTimeField(null=True)
    #: See ``capture.Priority``; an undelivered entry keeps its most urgent one.
    priority = models.SmallIntegerField()
    #: The first change not yet told. The oldest goes first, so that a user who changes all the
    #: time is not overtaken for ever.
    owed_since = models.DateTimeField(db_default=Now())
    #: Until then no other publisher takes the entry: it is being sent, or waits after a failure.
    claimed_until = models.DateTimeField(null=True)
    #: Sends in vain since the last success; sets how long the next one waits.
    attempts = models.IntegerField(default=0)
    #: Those of them that SNS blamed on the message; with one, the entry travels alone.
    refusals = models.IntegerField(default=0, db_default=0)
    #: Why it can never be sent as it is; empty unless it is set aside. The next change tries anew.
    parked_reason = models.TextField(default="", db_default="")
    #: The trace of the latest change (``usercast.tracing``); travels with it. Empty of old ones.
    traceparent = models.TextField(default="", db_default="")

    class Meta:
        db_table = "outbox_entry"
        verbose_name_plural = "outbox entries"
        indexes = (
            models.Index(
                "priority",
                "owed_since",
                name="outbox_undelivered",
                condition=Q(version__gt=F("published_version")),
            ),
        )

    def __str__(self) -> str:
        return f"{self.user_id} at version {self.version}"


class Dismissal(models.Model):
    """A user who lost access: deactivated, deleted, or no longer among the replicated ones.

    Written with the change itself. It holds nobody's name, and so may outlive an erasure, which the
    clients' receipts for it prove.
    """

    user_id = models.UUIDField()
    #: The outbox entry's at that change.
    version = models.BigIntegerField()
    #: The master's clock then.
    at = models.DateTimeField()
    #: The clients forget the user; otherwise the account is inactive.
    is_deletion = models.BooleanField()
    #: Some client may still owe a receipt. Looked at by ``clients.receipts``.
    is_open = models.BooleanField(default=True, db_default=True)

    class Meta:
        db_table = "outbox_dismissal"
        indexes = (
            models.Index(fields=["at"], name="outbox_dismissal_open", condition=Q(is_open=True)),
        )
        constraints = (
            models.UniqueConstraint(fields=("user_id", "version"), name="outbox_dismissal_once"),
        )

    def __str__(self) -> str:
        return f"{self.user_id} at version {self.version}"


class Minute(models.Model):
    """How publishing went in one minute; kept for a few days by ``outbox.minutes``."""

    #: Its beginning.
    minute = models.DateTimeField(primary_key=True)
    #: Changes that SNS accepted; several of one user that went as one state count each.
    changes = models.BigIntegerField(default=0, db_default=0)
    #: The longest time from a change's commit until SNS had it, or, of one still owed, until now.
    slowest_seconds = models.FloatField(default=0, db_default=0)
    #: Entries that SNS refused.
    refused = models.BigIntegerField(default=0, db_default=0)
    #: Times that SNS could not be reached.
    failures = models.IntegerField(default=0, db_default=0)
    #: Why the latest of these was.
    failure_reason = models.TextField(default="", db_default="")

    class Meta:
        db_table = "outbox_minute"
