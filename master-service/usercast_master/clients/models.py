"""The clients: which services' queues are subscribed to the topic, and what waits there."""

from django.db import models


class Client(models.Model):
    """A client service, as AWS knows it."""

    #: As in its queues' names, ``usercast-<name>-live`` and so on.
    name = models.CharField(primary_key=True, max_length=40)
    #: Messages in its lanes that it has not taken and deleted yet; None if SQS does not tell us.
    waiting = models.BigIntegerField(null=True)
    #: Messages it could not take, or SNS could not hand on; None if SQS does not tell us.
    dead = models.BigIntegerField(null=True)
    #: When this was so.
    looked_at = models.DateTimeField()

    class Meta:
        db_table = "clients_client"
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name
