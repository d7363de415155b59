"""One run of the benchmark: what was asked for, and the progress it shows."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from rich.console import Console

from embedded.console import step


@dataclass(frozen=True, eq=False)
class Session:
    """What every part gets.

    Args:
        users: how many the backlog has.
        sampled: whether to look, every 5 ms, what the backlog's processes do.
    """

    console: Console
    users: int
    sampled: bool

    def step(self, title: str) -> AbstractContextManager[Callable[[str], None]]:
        """Show that this goes on, and then how long it took."""
        return step(self.console, title)
