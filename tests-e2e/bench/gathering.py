"""A gathering: so many open dashboards at one web process, and what they make of ticks and changes.

The changes are single saves on the master. The frames and their times come from ``bench.crowd``.
CPU time is told in cores: 1.0 is a core that does nothing else.
"""

import random
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import psutil
from psycopg2.extensions import connection

from bench import cpu, system
from bench.crowd import Crowd
from bench.crowd_program import Account, Frame
from bench.system import CLIENT, BenchFailed
from bench.watch import PREFIX, Watch
from embedded.deployment import Deployment

T = TypeVar("T")

WEB = f"{CLIENT}-web"
#: Open before anything is measured: what is loaded at the first of them is not theirs.
FIRST = 10
SETTLING_SECONDS = 1.0
TICKS_SECONDS = 4.0
CHANGES = 30
#: Between two changes, half of it to one and a half times as long: about five a second.
PAUSE_SECONDS = 0.2
BURST_CHANGES = 300
BURST_PER_SECOND = 100
#: With many sockets a burst is smaller, so that it is over in seconds.
BURST_FRAMES = 400_000
CAUGHT_UP_WITHIN_SECONDS = 60.0


class Span(NamedTuple):
    """Some seconds: what the sockets got in them, and who was busy."""

    seconds: float
    account: Account
    web_cores: float
    crowd_cores: float
    #: What is neither the system's nor the crowd's: this process, and whatever else is running.
    other_cores: float

    @property
    def web_seconds_each(self) -> float:
        """The web process's CPU time for a frame to a socket."""
        return self.web_cores * self.seconds / self.account.received


class Changes(NamedTuple):
    """Single changes, each saved after the one before was applied. In seconds from the commit."""

    span: Span
    #: Until it was committed on the client.
    applied: list[float]
    #: Until the sockets had it, all of them together; and until the last one had.
    arrived: list[float]
    last: list[float]


class Burst(NamedTuple):
    """More changes than can go out one by one."""

    span: Span
    changes: int
    frames_per_second: float
    #: Of each frame, ticks too: from when it was made until the last socket had it.
    late: list[float]


class Gathering(NamedTuple):
    """What was measured with so many sockets."""

    sockets: int
    opened_seconds: float
    #: Of the web process's own memory; the kernel's buffers come on top.
    bytes_each: float
    ticks: Span
    changes: Changes
    burst: Burst


class Stage:
    """The web process, the crowd in front of it, and users to be changed."""

    def __init__(
        self, deployment: Deployment, client: connection, watch: Watch, crowd: Crowd
    ) -> None:
        from usercast_master.accounts.models import User

        self.crowd = crowd
        self.web = psutil.Process(deployment.process(WEB).pid)
        self.deployment = deployment
        self.client = client
        self._watch = watch
        self._bytes_before: int | None = None
        self._watched = User.objects.create(username=f"{PREFIX}gathering")
        names = [f"burst-{number}" for number in range(BURST_CHANGES)]
        self._users = User.objects.bulk_create([User(username=name) for name in names])
        self.catch_up(1 + BURST_CHANGES)

    def gather(self, sockets: int) -> Gathering:
        """Have so many open in all, and measure."""
        if self._bytes_before is None:
            self.crowd.open(FIRST)
            time.sleep(SETTLING_SECONDS)
            self._bytes_before = self._bytes()
        opened_seconds = self.crowd.open(sockets)
        time.sleep(SETTLING_SECONDS)
        bytes_each = (self._bytes() - self._bytes_before) / (sockets - FIRST)
        _, ticks = self._during(lambda: time.sleep(TICKS_SECONDS))
        changes = self.change()
        return Gathering(sockets, opened_seconds, bytes_each, ticks, changes, self._burst(sockets))

    def change(self) -> Changes:
        """Single changes, with as many sockets as there are."""
        before = system.newest_cursor(self.client)
        saves, span = self._during(self._save_one_by_one)
        applied = [at - committed for committed, at in saves]
        frames = sorted(
            (frame for frame in span.account.frames if frame.kind == "changes"),
            key=attrgetter("cursor"),
        )
        if not frames:
            return Changes(span, applied, [], [])
        legs = [
            [at - committed for at in _telling(frames, cursor).arrivals]
            for cursor, (committed, _) in enumerate(saves, start=before + 1)
        ]
        arrived = [seconds for leg in legs for seconds in leg]
        return Changes(span, applied, arrived, [max(leg) for leg in legs])

    def catch_up(self, cursor: int) -> None:
        """Wait until that change is applied, and all sockets have been told."""

        def caught_up() -> bool:
            told = self.crowd.slowest()
            return system.newest_cursor(self.client) >= cursor and (told is None or told >= cursor)

        programs = [*system.pipeline(self.deployment), self.deployment.process(WEB)]
        system.wait_until(caught_up, programs=programs, within=CAUGHT_UP_WITHIN_SECONDS, every=0.05)

    def _burst(self, sockets: int) -> Burst:
        changes = min(BURST_CHANGES, BURST_FRAMES // sockets)
        _, span = self._during(lambda: self._save_many(changes))
        arrivals = [at for frame in span.account.frames for at in frame.arrivals]
        seconds = max(arrivals) - min(arrivals)
        late = [
            max(frame.arrivals) - frame.made_at for frame in span.account.frames if frame.made_at
        ]
        return Burst(span, changes, span.account.received / seconds, late)

    def _save_one_by_one(self) -> list[tuple[float, float]]:
        """When each was committed on the master, and when on the client."""
        user, saves = self._watched, []
        end = system.newest_cursor(self.client) + CHANGES
        for _ in range(CHANGES):
            time.sleep(random.uniform(0.5, 1.5) * PAUSE_SECONDS)
            user.first_name = f"at-{time.monotonic_ns()}"
            user.save()
            committed = time.time()
            saves.append((committed, self._watch.committed(user.username, user.first_name)))
        self.catch_up(end)
        return saves

    def _save_many(self, changes: int) -> None:
        """Different users, so that none is overtaken by its own next change."""
        end = system.newest_cursor(self.client) + changes
        began = time.monotonic()
        for number, user in enumerate(self._users[:changes]):
            time.sleep(max(0.0, began + number / BURST_PER_SECOND - time.monotonic()))
            user.first_name = f"at-{time.monotonic_ns()}"
            user.save()
        self.catch_up(end)

    def _during(self, do: Callable[[], T]) -> tuple[T, Span]:
        self.crowd.account()  # a new one begins
        began = time.monotonic()
        with cpu.metered(self.deployment) as used:
            found = do()
        seconds = time.monotonic() - began
        account = self.crowd.account()
        busy = (used[WEB], account.cpu_seconds, used[cpu.OTHERS] - account.cpu_seconds)
        return found, Span(seconds, account, *(cpu_seconds / seconds for cpu_seconds in busy))

    def _bytes(self) -> int:
        memory: Any = self.web.memory_full_info()
        return memory.uss


def _telling(frames: Sequence[Frame], cursor: int) -> Frame:
    """The first of the frames, which are in order, that tells of the change."""
    place = bisect_left(frames, cursor, key=attrgetter("cursor"))
    if place == len(frames):
        raise BenchFailed(f"No socket was told of change {cursor}.")
    return frames[place]
