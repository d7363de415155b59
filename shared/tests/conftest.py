"""The shared package is tested with the smallest Django there is: no models, one database."""

import os

import django
from django.conf import settings

from usercast.env import Environment


def pytest_configure() -> None:
    if not settings.configured:
        settings.configure(
            SECRET_KEY="shared-tests",
            USE_TZ=True,
            INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
            DATABASES={
                "default": {
                    **Environment().dj_db_url("DATABASE_URL"),
                    "TEST": {"NAME": "test_shared_" + os.environ.get("PYTEST_XDIST_WORKER", "one")},
                }
            },
        )
        django.setup()
