"""Imports: the truth about each, as the outbox is about changes; tasks only hint at them."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.urls import reverse


class State(models.TextChoices):
    """What becomes of an import, in this order; the last three are its ends."""

    CHECKING = "checking"  # each row is looked at, nothing is written
    CHECKED = "checked"  # somebody has to say yes
    IMPORTING = "importing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


#: A worker has something to do.
AT_WORK = (State.CHECKING, State.IMPORTING)
OPEN = (*AT_WORK, State.CHECKED)


class Import(models.Model):
    """One file of users: how far it has been checked or imported, and what came of its rows."""

    file_name = models.CharField(max_length=255)
    #: ``csv`` or ``xlsx``.
    kind = models.CharField(max_length=4)
    size_bytes = models.BigIntegerField()
    #: SHA-256 of the content, in hex: how the command finds an import it was stopped in.
    content_hash = models.CharField(max_length=64)
    #: Who; None is a program, or somebody who is gone.
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    #: `manage.py users import` works on it itself, and workers leave it alone.
    by_command = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State, default=State.CHECKING)
    #: Since when somebody is wanted to go on: its upload, a yes, or a worker that was stopped.
    waiting_since = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    #: Until then nobody else works on it; each batch moves it on.
    leased_until = models.DateTimeField(null=True)
    header = models.JSONField()
    #: None while unknown (an XLSX need not say).
    row_count = models.IntegerField(null=True)
    #: How many rows the check, then the import, has behind it; and what these came to.
    next_row = models.IntegerField(default=0)
    new = models.IntegerField(default=0)
    changed = models.IntegerField(default=0)
    unchanged = models.IntegerField(default=0)
    refused = models.IntegerField(default=0)
    #: The first rows that would change something, while it waits for a yes.
    preview = models.JSONField(default=list)
    #: The trace of the request that wanted it checked, then of the one that said yes.
    traceparent = models.TextField(default="", db_default="")
    #: Why it failed.
    failure = models.TextField(default="")

    class Meta:
        db_table = "transfer_import"
        default_permissions = ()
        ordering = ("-id",)
        verbose_name = "import of users"
        verbose_name_plural = "imports of users"

    def __str__(self) -> str:
        return f"{self.file_name} ({self.state})"

    def get_absolute_url(self) -> str:
        return reverse("admin:transfer_import_change", args=[self.pk])


class Part(models.Model):
    """A piece of an import's file; all are dropped when it ends."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="parts")
    number = models.IntegerField()
    content = models.BinaryField()

    class Meta:
        db_table = "transfer_part"
        default_permissions = ()
        constraints = (models.UniqueConstraint(fields=("of", "number"), name="transfer_one_part"),)


class RowError(models.Model):
    """Why a row was refused; a row may have several."""

    of = models.ForeignKey(Import, on_delete=models.CASCADE, related_name="errors")
    #: Of the file, where the row begins; the header is usually in line 1.
    line = models.IntegerField()
    #: Empty if it is about the row as a whole.
    column = models.CharField(max_length=20)
    #: Without the row's values, but for names of groups.
    message = models.TextField()
    #: The row as it was in the file, to be corrected.
    cells = models.JSONField()

    class Meta:
        db_table = "transfer_row_error"
        default_permissions = ()
        ordering = ("line", "id")
        indexes = (models.Index(fields=("of", "line"), name="transfer_error_line"),)
