"""Tables of a client's own that point at replicated users, each in another way."""

from django.conf import settings
from django.db import models


class Invoice(models.Model):
    """Protects its user from deletion."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT)


class Parcel(models.Model):
    """Leaves the refusal to the database, which looks when the transaction ends."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING)


class Note(models.Model):
    """Goes with its user."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
