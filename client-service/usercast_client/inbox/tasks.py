"""What Celery beat asks of ``inbox``: how many dead letters there are, for ``live.clock``."""

import redis
import structlog
from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from usercast.errors import ConfigurationError
from usercast_client.celery import app
from usercast_client.inbox import dead_letters
from usercast_client.inbox.letters import Source
from usercast_client.live import clock

log = structlog.get_logger(__name__)


@app.task(ignore_result=True)
def count_dead_letters() -> None:
    """Ask SQS, which counts roughly, and have the next ticks tell it."""
    try:
        both = dead_letters.Choice(sources=tuple(Source))
        counted = dead_letters.count(settings.USERCAST_CLIENT, both)
        clock.note_dead_letters(sum(counted.values()))
    except (BotoCoreError, ClientError, ConfigurationError, redis.RedisError) as error:
        log.warning("dead_letters_not_counted", reason=str(error).partition("\n")[0])
