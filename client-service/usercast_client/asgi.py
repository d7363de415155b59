"""A client's web application: HTTP to Django, ``/ws/live/`` to the live consumer."""

from usercast import startup

startup.configure("usercast_client.settings")

from django.core.asgi import get_asgi_application  # noqa: E402 - settings first, for a clear error

http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402 - needs the loaded apps
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import OriginValidator  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import path  # noqa: E402

from usercast_client.live.consumers import LiveConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": OriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/live/", LiveConsumer.as_asgi())])),
            settings.ALLOWED_ORIGINS,
        ),
    }
)

with startup.one_clear_line():
    startup.require_database()
