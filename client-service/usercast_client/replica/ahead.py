"""Ahead: takes items from an iterator in a thread of its own, before they are wanted."""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Generic, Self, TypeVar

from usercast.lifecycle import Stop

Item = TypeVar("Item")
_NOTICE_SECONDS = 0.2


class _Over:
    """Stands for the iterator's end."""


class Ahead(Generic[Item]):
    """Some items of an iterator, and no more, are taken before they are asked for.

    Leaving the context closes the iterator, once it lets go of the item it is making.
    """

    def __init__(self, items: Generator[Item, None, None], *, at_most: int) -> None:
        self._items = items
        self._ready: queue.Queue[Item | Exception | _Over] = queue.Queue(at_most)
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._take, name="ahead", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._thread.join(timeout=1.0)

    def until(self, stop: Stop) -> Iterator[Item]:
        """The items in their order, up to the last or until asked to stop.

        Raises:
            Exception: whatever the iterator raised.
        """
        while not stop.requested:
            try:
                item = self._ready.get(timeout=_NOTICE_SECONDS)
            except queue.Empty:
                continue
            if isinstance(item, _Over):
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def _take(self) -> None:
        try:
            with closing(self._items):
                for item in self._items:
                    if not self._put(item):
                        return
            self._put(_Over())
        except Exception as error:  # noqa: BLE001 - raised again for who waits for the items
            self._put(error)

    def _put(self, item: "Item | Exception | _Over") -> bool:
        while not self._left.is_set():
            try:
                self._ready.put(item, timeout=_NOTICE_SECONDS)
            except queue.Full:
                continue
            return True
        return False
