"""A browser's session and WebSocket without a browser: what the service says, frame by frame."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from usercast.testing import eventually


def cookie_of(url: str, login: dict[str, str]) -> str:
    """Sign in on a client's page; the session as a Cookie header."""
    with httpx.Client(base_url=url, trust_env=False) as http:
        http.get("/login/").raise_for_status()
        token = next(value for name, value in http.cookies.items() if name.endswith("_csrf"))
        form = {key: login[key] for key in ("username", "password")}
        answer = http.post(
            "/login/", data={"csrfmiddlewaretoken": token, **form}, headers={"Referer": url}
        )
        assert answer.status_code == 302, "the sign-in was refused"
        return "; ".join(f"{name}={value}" for name, value in http.cookies.items())


class Socket:
    """An open WebSocket and the frames it has brought, ticks among them."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.close_code: int | None = None

    def next(self, within: float) -> dict[str, Any] | None:
        """The next frame; None when there is none within so many seconds, or it is closed."""
        try:
            return json.loads(self._connection.recv(timeout=within))
        except TimeoutError:
            return None
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else 1006
            return None

    def until(self, kind: str, *, cursor: int = 0, within: float = 60) -> dict[str, Any]:
        """The next frame of a kind, from this cursor on."""
        return eventually(
            lambda: (
                (frame := self.next(0.2))
                and frame["type"] == kind
                and frame.get("cursor", 0) >= cursor
                and frame
            ),
            within=within,
            what=f"a frame {kind!r} from cursor {cursor}",
        )

    def during(self, seconds: float) -> list[dict[str, Any]]:
        """The frames of so many seconds, or until the service closes."""
        frames, end = [], time.monotonic() + seconds
        while self.close_code is None and (left := end - time.monotonic()) > 0:
            frame = self.next(left)
            if frame is not None:
                frames.append(frame)
        return frames

    def closes(self, *, within: float) -> int | None:
        """Read on until the service closes, and return the code; None if it does not."""
        self.during(within)
        return self.close_code


@contextmanager
def socket(url: str, cookie: str, path: str = "/ws/live/") -> Iterator[Socket]:
    """A WebSocket of the session of ``cookie``, closed after the block."""
    address = url.replace("http", "ws", 1) + path
    with connect(
        address, origin=url, additional_headers={"Cookie": cookie}, proxy=None
    ) as connection:
        yield Socket(connection)
