"""The Celery task that forgets sign-ins of long ago."""

from datetime import timedelta

from axes.models import AccessAttempt, AccessLog
from django.db import close_old_connections
from django.utils import timezone

from usercast_master.celery import app

ATTEMPTS_KEPT = timedelta(days=1)
SIGN_INS_KEPT = timedelta(days=90)


@app.task(ignore_result=True)
def trim_sign_ins() -> None:
    """Delete failed attempts older than a day, and sign-ins older than 90 days."""
    close_old_connections()
    now = timezone.now()
    AccessAttempt.objects.filter(attempt_time__lt=now - ATTEMPTS_KEPT).delete()
    AccessLog.objects.filter(attempt_time__lt=now - SIGN_INS_KEPT).delete()
