"""The master's web application, for gunicorn (with --preload, so that a bad start ends it)."""

from usercast import startup

startup.configure("usercast_master.settings")

from django.core.wsgi import get_wsgi_application  # noqa: E402 - settings first, for a clear error

application = get_wsgi_application()

with startup.one_clear_line():
    startup.require_database()
