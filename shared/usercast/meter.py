"""The meter: shows in a terminal, or in plain lines elsewhere, how far a long task is."""

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

#: Between two plain lines.
_LINE_SECONDS = 5.0


class Meter:
    """A bar with rate and time left; where nobody watches, a line every five seconds.

    Args:
        out: what a command prints to.
        unit: what is counted, for example ``rows``.
    """

    def __init__(self, out: OutputWrapper, unit: str) -> None:
        self.out = out
        self.unit = unit
        self.bar = _bar(unit) if out.isatty() else None
        self.task: Any = None
        self.title = ""
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

    def show(self, title: str, done: int, total: int | None) -> None:
        """Show how far the task of this title is; another title is another task.

        Args:
            total: None while it is not known.
        """
        if done and title != self.title:
            self._begin(title, done, total)
        if self.bar:
            rate = f"{self._rate(done):,.0f}"
            self.bar.update(self.task, completed=done, total=total, rate=rate)
        elif time.monotonic() - self.said_at >= _LINE_SECONDS:
            of = f" of {total:,}" if total else ""
            self._say(f"{title} {done:,}{of} {self.unit}, {self._rate(done):,.0f}/s")

    def wait(self, why: str) -> None:
        """Say why nothing happens."""
        if self.bar:
            self.bar.console.print(f"Waiting: {why}.")
        elif time.monotonic() - self.said_at >= _LINE_SECONDS:
            self._say(f"waiting: {why}")

    def say(self, text: str) -> None:
        """Print a line, above the bar where there is one."""
        if self.bar:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            self.out.write(text)

    def _begin(self, title: str, done: int, total: int | None) -> None:
        self.title = title
        # What is done by now was done before, or in a time not measured; so it counts from here.
        self.started = (time.monotonic(), done)
        if self.bar:
            self.task = self.bar.add_task(title, total=total, rate="…")

    def _rate(self, done: int) -> float:
        seconds = time.monotonic() - self.started[0]
        return (done - self.started[1]) / seconds if seconds > 0.1 else 0.0

    def _say(self, text: str) -> None:
        self.said_at = time.monotonic()
        self.out.write(text)


def _bar(unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} " + unit + "/s"),
        TimeRemainingColumn(),
        console=Console(),
    )
