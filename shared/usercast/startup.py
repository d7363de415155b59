"""How a process starts: with settings that hold and dependencies that answer, or with one line.

Every entry point (manage.py, wsgi, asgi, Celery) goes through ``configure``; what else a process
cannot start without it asks for by ``require_database`` and the checks in ``topology``. Once
started, a process outlives a dependency that goes away; only at the start it ends.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from environs import EnvError

from usercast import tracing
from usercast.errors import ConfigurationError
from usercast.logging import log_crashes
from usercast.process import COMMAND, process_name


@contextmanager
def one_clear_line() -> Iterator[None]:
    """Turn a configuration error into one line on stderr and exit code 78 (EX_CONFIG)."""
    from django.core.exceptions import ImproperlyConfigured
    from django.db import OperationalError

    try:
        yield
    except (ConfigurationError, EnvError, ImproperlyConfigured) as error:
        _end(error)
    except OperationalError as error:
        # An error that the server reported has a code; without one it was never reached.
        if getattr(error.__cause__, "pgcode", None):
            raise
        _end(_unreachable(error))


def _end(error: Exception) -> NoReturn:
    print(f"usercast: {error}", file=sys.stderr)
    raise SystemExit(os.EX_CONFIG) from None


def configure(settings_module: str) -> None:
    """Load the settings, so that a wrong one ends the process here and clearly."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", settings_module)
    from django.conf import settings

    with one_clear_line():
        service = settings.USERCAST_SERVICE
        if process_name() != COMMAND:
            log_crashes()
            tracing.record(service, process_name())


def require_database() -> None:
    """Return when the database answers.

    Raises:
        ConfigurationError: it does not; the text names DATABASE_URL and the server.
    """
    from django.db import Error, connection

    try:
        connection.ensure_connection()
    except Error as error:
        raise _unreachable(error) from error
    finally:
        connection.close()


def _unreachable(error: Exception) -> ConfigurationError:
    from django.db import connection

    where = connection.settings_dict
    return ConfigurationError(
        f"DATABASE_URL: cannot open database {where['NAME']!r} at "
        f"{where['HOST'] or 'the local socket'}:{where['PORT'] or 5432}: "
        f"{' '.join(str(error).split())}"
    )
