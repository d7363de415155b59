"""What Celery beat asks for: to compare with the master, and to report to it."""

import structlog
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from usercast.errors import UsercastError, reason
from usercast_client.celery import app
from usercast_client.inbox import probes
from usercast_client.replica import reconcile
from usercast_client.replica.models import Check
from usercast_client.report import report

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def send_report() -> None:
    """Tell the master how this client stands; what could not be told is told the next time."""
    try:
        report.send()
    except UsercastError as error:
        log.warning("not_reported", reason=reason(error))
    except (DatabaseError, InterfaceError) as error:
        log.warning("not_reported", reason=reason(error))


@app.task(ignore_result=True)
def compare() -> None:
    """Compare with the master, for the next report; not again at once if that takes long."""
    try:
        last = Check.objects.first()
        if last and timezone.now() < last.next_at:
            return
        reconcile.check(probes.all_sent_before())
    except UsercastError as error:
        log.warning("not_compared", reason=reason(error))
    except (DatabaseError, InterfaceError) as error:
        log.warning("not_compared", reason=reason(error))
