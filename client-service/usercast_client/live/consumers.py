"""The WebSocket of a dashboard: passes on what ``live.broadcast`` sends to the group.

The browser asks nothing over the socket; what it missed it fetches by REST, by cursor.
"""

import json
from typing import Any

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer

from usercast_client.live import feed
from usercast_client.live.broadcast import GROUP


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Open to active staff signed in on this client; anybody else is refused at the handshake."""

    async def connect(self) -> None:
        user = self.scope["user"]
        if not (user.is_authenticated and user.is_active and user.is_staff):
            await self.close()
            return
        # Join first and read the cursor after: a change in between comes twice rather than never.
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()
        cursor = await database_sync_to_async(feed.newest_cursor)()
        await self.send(json.dumps({"type": "hello", "cursor": cursor}))

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def live_push(self, event: dict[str, Any]) -> None:
        await self.send(event["text"])
