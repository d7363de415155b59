"""The clients: who is registered, what AWS knows of their queues, and what they report."""

from django.conf import settings
from django.db import models
from django.utils import timezone

from usercast_master.outbox.models import Dismissal


class Client(models.Model):
    """A client service: registered here, or found among the topic's subscriptions, or both."""

    class Setup(models.TextChoices):
        """How far its queues are set up or taken away; empty: nothing of the kind is going on."""

        DEPLOYING = "deploying", "its queues are being made"
        REMOVING = "removing", "it is being removed"

    #: As in its queues' names, ``usercast-<name>-live`` and so on.
    name = models.CharField(primary_key=True, max_length=40)
    #: Since when it is registered; None of one that is known by its subscriptions only.
    registered_at = models.DateTimeField(null=True)
    #: The technical account whose token it calls the API with.
    account = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="client"
    )
    setup = models.CharField(max_length=9, choices=Setup.choices, blank=True, default="")
    #: Why its queues could not be made or removed; empty: they could.
    setup_problem = models.TextField(blank=True, default="")
    #: Messages in its lanes that it has not taken and deleted yet; None if SQS does not tell us.
    waiting = models.BigIntegerField(null=True)
    #: Messages it could not take, or SNS could not hand on; None if SQS does not tell us.
    dead = models.BigIntegerField(null=True)
    #: When this was so; None if it never was looked at.
    looked_at = models.DateTimeField(null=True)
    #: What it reported last (``usercast.serializers.ReportSerializer``), and when.
    report = models.JSONField(null=True)
    reported_at = models.DateTimeField(null=True)

    class Meta:
        db_table = "clients_client"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Canary(models.Model):
    """The probe that is sent down every client's lanes every few seconds; one row."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    #: When SNS took the last one.
    sent_at = models.DateTimeField()
    #: Since when they have followed each other without a pause.
    since = models.DateTimeField()

    class Meta:
        db_table = "clients_canary"

    def __str__(self) -> str:
        return f"sent at {self.sent_at:%H:%M:%S}"


class Receipt(models.Model):
    """A client's word that a dismissal has taken effect there."""

    client = models.ForeignKey(Client, on_delete=models.CASCADE, related_name="receipts")
    dismissal = models.ForeignKey(Dismissal, on_delete=models.CASCADE, related_name="receipts")
    #: What the client had come to when it took effect: the dismissal's version or a later one.
    version = models.BigIntegerField()
    #: By the client's clock.
    applied_at = models.DateTimeField()
    #: Of the user's open WebSockets.
    sockets_closed = models.IntegerField(default=0)
    #: Nothing of the user is left in the client's table of users; False of a deactivation, and of
    #: a deletion whose row another of the client's tables protects.
    erased = models.BooleanField(default=False)
    received_at = models.DateTimeField(default=timezone.now)

    class Meta:
        db_table = "clients_receipt"
        constraints = (
            models.UniqueConstraint(fields=("client", "dismissal"), name="clients_receipt_once"),
        )

    def __str__(self) -> str:
        return f"{self.client_id}: {self.dismissal}"
