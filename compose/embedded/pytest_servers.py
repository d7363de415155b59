"""A pytest plugin (``-p embedded.pytest_servers``): servers of its own for each test run.

They are thrown away afterwards, and never those of a running demo. A run that already has a
``DATABASE_URL`` (Docker, an xdist worker) uses what it was given.
"""

import os
import shutil
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from embedded.errors import StackError
from embedded.servers import Servers
from embedded.service import aws_variables


# A wrapper runs before pytest-django's hook of the same name, which reads the settings.
@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    """Start the servers and tell the environment, which xdist workers inherit."""
    asked = early_config.known_args_namespace
    if not os.environ.get("DATABASE_URL") and not (asked.help or asked.version):
        _provide(early_config)
    # Workers that run side by side share one Valkey: what one sends must not reach another's pages.
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        os.environ["USERCAST_CLIENT"] = f"billing-{worker}"
    yield


def _provide(config: pytest.Config) -> None:
    state_dir = Path(tempfile.mkdtemp(prefix="usercast-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(state_dir, ignore_errors=True))
    servers = Servers(state_dir, durable=False)
    # Runs at the end of any session, also after ctrl-C, a usage error or a failure below.
    config.add_cleanup(servers.stop)
    try:
        servers.start()
    except StackError as error:
        raise pytest.UsageError(str(error)) from error
    os.environ.update(
        {
            "DATABASE_URL": servers.create_database("usercast"),
            "REDIS_URL": f"{servers.valkey.url}/0",
            "SECRET_KEY": "only-for-tests",
            "ALLOWED_HOSTS": "testserver,127.0.0.1,localhost",
            "HTTPS": "false",
            "TZ": "UTC",
            "ALLOWED_ORIGINS": "http://testserver",
            "USERCAST_CLIENT": "billing",
            **aws_variables(servers.localstack.url),
        }
    )
