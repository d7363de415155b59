"""Where requests of each protocol go: HTTP to Django, ``/ws/…`` to the pages' sockets."""

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from channels.sessions import CookieMiddleware
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.urls import path

from usercast_client.live.consumers import LiveConsumer, OwnConsumer

sockets = [
    path("ws/live/", LiveConsumer.as_asgi()),
    path("ws/me/", OwnConsumer.as_asgi()),
]

application = ProtocolTypeRouter(
    {
        "http": ASGIHandler(),
        "websocket": OriginValidator(
            # The consumers look the session up themselves, and again later (``live.access``).
            CookieMiddleware(URLRouter(sockets)),
            settings.ALLOWED_ORIGINS,
        ),
    }
)
