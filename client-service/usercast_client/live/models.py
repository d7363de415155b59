"""The change feed: a row for each applied change, for browsers that ask what they missed."""

from django.db import models


class Change(models.Model):
    """One applied change, as this client saw it.

    ``cursor`` grows by exactly one in the order of commits (see ``live.feed.append``), so a reader
    who has seen N asks for what follows N and cannot miss any.
    """

    class Kind(models.TextChoices):
        CREATED = "created"
        UPDATED = "updated"
        DELETED = "deleted"
        #: Many users at once who were not here before, by ``replica.bootstrap``: one entry for all,
        #: about nobody by name (``user_id`` is nil), and ``before`` says how many ``users``.
        BOOTSTRAP = "bootstrap"

    cursor = models.BigIntegerField(primary_key=True)
    kind = models.CharField(max_length=9, choices=Kind.choices)
    user_id = models.UUIDField()
    version = models.BigIntegerField()
    changed_at = models.DateTimeField()
    applied_at = models.DateTimeField()
    #: The user after the change, in the contract's fields, as JSON; None when deleted. Text, since
    #: it is only ever read whole, and jsonb would double what an insert costs PostgreSQL.
    after = models.TextField(null=True)  # noqa: DJ001 - no text is no user
    #: The values that the change replaced, as JSON, and since when they had stood; of a deleted
    #: user, all values.
    before = models.TextField()
    #: The cursor of the first change applied in the same transaction, and how many there were: a
    #: bulk write is shown as one.
    batch = models.BigIntegerField()
    batch_size = models.IntegerField()

    class Meta:
        db_table = "live_change"
        # What one user's page and their open sockets ask for.
        indexes = (models.Index(fields=["user_id", "cursor"], name="live_change_user"),)

    def __str__(self) -> str:
        return f"{self.cursor}: {self.kind} {self.user_id}"


class Receipt(models.Model):
    """That a user lost access here by a change of the master's; kept until the master has it."""

    user_id = models.UUIDField()
    version = models.BigIntegerField()
    applied_at = models.DateTimeField()
    #: Of the user's open WebSockets, by all web processes so far.
    sockets_closed = models.IntegerField(default=0, db_default=0)
    #: The user's row is gone; False of a deactivation, and of a row that is ``Kept``.
    erased = models.BooleanField()
    #: When the master took it as it is here; None if it has not.
    sent_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "live_receipt"
        constraints = (
            models.UniqueConstraint(fields=("user_id", "version"), name="live_receipt_once"),
        )
        indexes = (
            models.Index(
                fields=["id"], name="live_receipt_unsent", condition=models.Q(sent_at=None)
            ),
        )

    def __str__(self) -> str:
        return f"{self.user_id} at version {self.version}"
