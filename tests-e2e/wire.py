"""A page's WebSockets through the test's hands: they lose frames, fall silent, or are cut off."""

import json
import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, WebSocketRoute

Frame = dict[str, Any]


def nothing(frame: Frame) -> bool:
    return False


def everything(frame: Frame) -> bool:
    return True


def pushes(frame: Frame) -> bool:
    return frame["type"] == "changes"


class Wire:
    """The way between a page and its service. To be put in before the page is opened.

    Frames travel on it only while the test waits for the browser.
    """

    def __init__(self, page: Page) -> None:
        #: Which of the service's frames are lost, until the page connects anew.
        self.loses: Callable[[Frame], bool] = nothing
        #: What the page sent, and how many frames of the service's were lost.
        self.sent: list[str] = []
        self.lost = 0
        self._held: list[Callable[[], None]] | None = None
        self._context = page.context
        self._socket: WebSocketRoute | None = None
        page.route_web_socket(re.compile("/ws/"), self._open)

    def cut(self) -> None:
        """Break the connection; until it is mended, nothing gets through, REST neither."""
        self._context.set_offline(True)
        assert self._socket is not None, "the page has opened no socket"
        self._socket.close(code=1012)

    def mend(self) -> None:
        self._context.set_offline(False)

    def hold(self) -> None:
        """Let the end of access, and all that follows it, wait until it is released."""
        self._held = []

    def release(self) -> None:
        held, self._held = self._held or [], None
        for pass_on in held:
            pass_on()

    def _open(self, socket: WebSocketRoute) -> None:
        self._socket = socket
        self.loses = nothing
        service = socket.connect_to_server()
        socket.on_message(lambda text: self._up(text, service))
        service.on_message(lambda text: self._down(text, socket))
        service.on_close(
            lambda code, reason: self._pass_on(lambda: socket.close(code=code, reason=reason))
        )

    def _up(self, text: str | bytes, service: WebSocketRoute) -> None:
        self.sent.append(str(text))
        service.send(text)

    def _down(self, text: str | bytes, socket: WebSocketRoute) -> None:
        frame = json.loads(text)
        if self.loses(frame):
            self.lost += 1
        elif frame["type"] == "ended":
            self._pass_on(lambda: socket.send(text))
        else:
            socket.send(text)

    def _pass_on(self, pass_on: Callable[[], None]) -> None:
        if self._held is None:
            pass_on()
        else:
            self._held.append(pass_on)
