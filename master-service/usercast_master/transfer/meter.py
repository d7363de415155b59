"""The meter: shows in a terminal, or in plain lines, how far an import is."""

import time
from types import TracebackType
from typing import Any, Self

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from usercast_master.transfer.models import Import

#: Between two plain lines.
_LINE_SECONDS = 5.0


class Meter:
    """A bar with rate and time left; where nobody watches, a line every five seconds."""

    def __init__(self, out: OutputWrapper) -> None:
        self.out = out
        self.bar = _bar() if out.isatty() else None
        self.task: Any = None
        self.state = ""
        self.started: tuple[float, int] = (0.0, 0)
        self.said_at = 0.0

    def __enter__(self) -> Self:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar:
            self.bar.stop()

    def show(self, found: Import) -> None:
        """Show how far the import is."""
        if found.next_row and found.state != self.state:
            self._begin(found)
        if self.bar:
            self.bar.update(self.task, completed=found.next_row, rate=f"{self._rate(found):,.0f}")
        elif time.monotonic() - self.said_at >= _LINE_SECONDS:
            of = f" of {found.row_count:,}" if found.row_count else ""
            self._say(f"{found.state} {found.next_row:,}{of} rows, {self._rate(found):,.0f}/s")

    def wait(self, why: str) -> None:
        """Say why nothing happens."""
        if self.bar:
            self.bar.console.print(f"Waiting: {why}.")
        elif time.monotonic() - self.said_at >= _LINE_SECONDS:
            self._say(f"waiting: {why}")

    def _begin(self, found: Import) -> None:
        self.state = found.state
        # The first batch is behind already, so it counts from here.
        self.started = (time.monotonic(), found.next_row)
        if self.bar:
            self.task = self.bar.add_task(found.state, total=found.row_count, rate="…")

    def _rate(self, found: Import) -> float:
        seconds = time.monotonic() - self.started[0]
        return (found.next_row - self.started[1]) / seconds if seconds > 0.1 else 0.0

    def _say(self, text: str) -> None:
        self.said_at = time.monotonic()
        self.out.write(text)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} rows/s"),
        TimeRemainingColumn(),
        console=Console(),
    )
