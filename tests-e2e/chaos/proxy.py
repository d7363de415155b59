"""A fault proxy: takes TCP connections on the loopback interface, hands their bytes to one server.

Its mode decides what becomes of them on the way. It stands between the services and a server, so
that a server which keeps nothing, such as LocalStack, can be lost without being ended.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Any

from embedded.ports import LOOPBACK

CHUNK_BYTES = 64 * 1024
#: SO_LINGER on, for 0 s: closing then sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Mode(StrEnum):
    """What becomes of the bytes of all connections, old and new."""

    PASS = "pass"
    #: Each chunk waits before it goes on, in both directions.
    DELAY = "delay"
    #: All connections are reset, and new ones as soon as they are made.
    RESET = "reset"
    #: Connections can be made, and all bytes vanish, in both directions and without a word.
    BLACKHOLE = "blackhole"


class Link:
    """One connection and its continuation to the server."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.ends = [client]
        #: Bytes were lost: after a blackhole the rest would make no sense to either side.
        self.torn = False

    def reset(self) -> None:
        """End both sides at once, with RST where there is such a thing."""
        for end in self.ends:
            sock = end.get_extra_info("socket")
            with suppress(OSError):  # a unix socket knows no RST
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            end.transport.abort()


class FaultProxy:
    """Forwards to ``upstream`` from a thread of its own, as its mode says.

    Args:
        upstream: a port of the loopback interface, or the path of a unix socket.
    """

    def __init__(self, upstream: int | Path) -> None:
        self._upstream = upstream
        self._mode = Mode.PASS
        self._delay_seconds = 0.0
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._passable = asyncio.Event()
        self._passable.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._call(asyncio.start_server(self._serve, LOOPBACK, 0))
        #: Where to connect instead of to the server.
        self.port: int = self._server.sockets[0].getsockname()[1]

    def set(self, mode: Mode, *, delay_seconds: float = 0.0) -> None:
        """Change the mode, for the connections there are and those to come."""
        self._call(self._set(mode, delay_seconds))

    def close(self) -> None:
        """End all connections and the thread."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _set(self, mode: Mode, delay_seconds: float) -> None:
        self._mode, self._delay_seconds = mode, delay_seconds
        if mode is Mode.BLACKHOLE:
            self._passable.clear()
        else:
            self._passable.set()
        for link in list(self._links):
            if mode is Mode.RESET or (link.torn and mode is not Mode.BLACKHOLE):
                link.reset()

    async def _close(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(writer)
        self._links.add(link)
        try:
            if self._mode is Mode.BLACKHOLE:
                link.torn = True
                await self._passable.wait()
            if self._mode is Mode.RESET or link.torn:
                return
            await self._forward(link, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the server is away, or this connection was ended
        finally:
            self._links.discard(link)
            link.reset()

    async def _forward(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        server_reader, server_writer = await self._connect()
        link.ends.append(server_writer)
        pumps = [
            asyncio.ensure_future(self._pump(link, reader, server_writer)),
            asyncio.ensure_future(self._pump(link, server_reader, writer)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not link.torn and self._mode is not Mode.RESET:
                await self._close_softly(link)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._upstream, Path):
            return await asyncio.open_unix_connection(str(self._upstream))
        return await asyncio.open_connection(LOOPBACK, self._upstream)

    async def _close_softly(self, link: Link) -> None:
        """One side has closed: the other gets what is left to send, and then an orderly end."""
        for end in link.ends:
            end.close()
        await asyncio.gather(*(end.wait_closed() for end in link.ends), return_exceptions=True)

    async def _pump(
        self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if self._mode is Mode.DELAY:
                await asyncio.sleep(self._delay_seconds)
            if self._mode is Mode.BLACKHOLE:
                link.torn = True
                continue
            writer.write(data)
            await writer.drain()
        # Nor does an end get through a blackhole.
        await self._passable.wait()
