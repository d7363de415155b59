"""Where requests of each protocol go: HTTP to Django, ``/ws/live/`` to the live consumer."""

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.urls import path

from usercast_client.live.consumers import LiveConsumer

application = ProtocolTypeRouter(
    {
        "http": ASGIHandler(),
        "websocket": OriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/live/", LiveConsumer.as_asgi())])),
            settings.ALLOWED_ORIGINS,
        ),
    }
)
