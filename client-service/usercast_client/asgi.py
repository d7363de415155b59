"""A client's web application, for daphne in development and uvicorn in production."""

import django

from usercast import startup

startup.configure("usercast_client.settings")

with startup.one_clear_line():
    django.setup()
    startup.require_database()

from usercast_client.routing import application  # noqa: E402 - needs the loaded apps

__all__ = ["application"]
