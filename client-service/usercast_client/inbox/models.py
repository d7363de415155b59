"""What the poller has seen of the canary: that its lanes are alive."""

from django.db import models


class LaneProbe(models.Model):
    """The newest probe that has come down a lane."""

    #: ``live`` or ``bulk``.
    lane = models.CharField(primary_key=True, max_length=4)
    #: By the master's clock.
    sent_at = models.DateTimeField()
    #: By this client's.
    received_at = models.DateTimeField()

    class Meta:
        db_table = "inbox_lane_probe"

    def __str__(self) -> str:
        return f"{self.lane}: {self.received_at:%H:%M:%S}"
