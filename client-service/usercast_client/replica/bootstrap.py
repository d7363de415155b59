"""Bootstrap: fills the replica from the master's snapshot, while live changes go on arriving.

Order does not matter, since everything is decided by version; so it may be stopped anywhere and go
on, be run again, and run while the poller does. Each chunk commits with the note of how far it is.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

import structlog
from django.db import transaction
from django.utils import timezone

from usercast import snapshot
from usercast.errors import ContractError
from usercast.lifecycle import Stop
from usercast_client.live import broadcast, feed
from usercast_client.live.models import Change
from usercast_client.replica import load, master
from usercast_client.replica.ahead import Ahead
from usercast_client.replica.alone import alone, is_held
from usercast_client.replica.load import Line
from usercast_client.replica.master import MasterUnreachable
from usercast_client.replica.models import Bootstrap

log = structlog.get_logger(__name__)

#: Lines that are loaded in one transaction; what other appliers have to wait for.
CHUNK = 10_000
#: Chunks that are fetched and read ahead of the database.
AHEAD = 2
#: Between attempts to reach a master that is away, and how many in a row are in vain.
WAIT_SECONDS = (1.0, 2.0, 5.0, 10.0, 10.0)
#: Any fixed number: one bootstrap at a time.
_LOCK = 7_264_002


class Rejected(NamedTuple):
    """A line that does not follow the contract; its user stays as they are here."""

    line: int
    user_id: UUID | None
    reason: str


class Chunk(NamedTuple):
    """Some lines of the snapshot, read."""

    read: Sequence[Line]
    rejected: Sequence[Rejected]
    lines: int
    #: The last one that a line was about, as far as it said.
    last: UUID | None
    #: How many lines the snapshot has from this bootstrap's begin on, as far as it says.
    total: int


class Watch(NamedTuple):
    """Whom to tell: how far it is, of a line that is rejected, and why it waits."""

    progress: Callable[[Bootstrap, int], None]
    rejected: Callable[[Rejected], None]
    waiting: Callable[[str], None]


def run(stop: Stop, watch: Watch, *, dry_run: bool = False) -> Bootstrap:
    """Load the snapshot, from where an earlier run was stopped; returns how far it is.

    Asked to stop, it ends with the chunk in hand, and ``finished_at`` is None.

    Args:
        dry_run: look from the beginning, change nothing; ``created`` and ``changed`` would be.

    Raises:
        MasterRefused: see ``replica.master``.
        MasterUnreachable: several times in a row without a line in between.
        AlreadyRunning: another bootstrap is at work.
    """
    with alone(_LOCK, "bootstrap"):
        found = Bootstrap() if dry_run else _begun()
        failures = 0
        while not stop.requested and found.finished_at is None:
            before = found.lines
            try:
                _go_on(found, stop, watch, dry_run=dry_run)
            except MasterUnreachable as error:
                failures = 1 if found.lines > before else failures + 1
                if failures > len(WAIT_SECONDS):
                    raise
                watch.waiting(str(error))
                stop.wait(WAIT_SECONDS[failures - 1])
        return found


def is_running() -> bool:
    """Whether one is at work now."""
    return is_held(_LOCK)


def _begun() -> Bootstrap:
    return Bootstrap.objects.filter(finished_at=None).last() or Bootstrap.objects.create()


def _go_on(found: Bootstrap, stop: Stop, watch: Watch, *, dry_run: bool) -> None:
    """Load what one answer of the master brings.

    Raises:
        MasterUnreachable: it ended before the last line.
    """
    take = _try_out if dry_run else _load
    with Ahead(_fetched(found.after, found.lines), at_most=AHEAD) as chunks:
        for chunk in chunks.until(stop):
            if not chunk.lines:
                continue
            for rejected in chunk.rejected:
                watch.rejected(rejected)
            take(found, chunk)
            watch.progress(found, chunk.total)
        if not stop.requested:
            _finish(found, dry_run=dry_run)


def _load(found: Bootstrap, chunk: Chunk) -> None:
    with transaction.atomic():
        loaded = load.load(chunk.read)
        found.created += loaded.created
        found.changed += len(loaded.others.told.entries) if loaded.others else 0
        _note(found, chunk)
        found.save()
    if loaded.others:
        broadcast.shared().push(loaded.others.told)


def _try_out(found: Bootstrap, chunk: Chunk) -> None:
    created, changed = load.try_out(chunk.read)
    found.created += created
    found.changed += changed
    _note(found, chunk)


def _note(found: Bootstrap, chunk: Chunk) -> None:
    found.lines += chunk.lines
    found.rejected += len(chunk.rejected)
    found.after = chunk.last or found.after


def _finish(found: Bootstrap, *, dry_run: bool) -> None:
    """Tell the feed, once for all who are new."""
    found.finished_at = timezone.now()
    if dry_run:
        return
    with transaction.atomic():
        feed.lock()
        found.save()
        told = feed.append([_entry(found)] if found.created else [])
    broadcast.shared().push(told)
    log.info("bootstrap_finished", created=found.created, changed=found.changed)


def _entry(found: Bootstrap) -> feed.Entry:
    now = timezone.now()
    before = {"users": found.created}
    return feed.Entry(Change.Kind.BOOTSTRAP, UUID(int=0), found.created, now, None, before)


def _fetched(after: UUID | None, lines_before: int) -> Generator[Chunk, None, None]:
    with master.snapshot(after) as lines:
        yield from _chunks(lines, lines_before)


def _chunks(lines: Iterator[bytes], lines_before: int) -> Iterator[Chunk]:
    """The lines read, so many together, and fewer where they break off.

    Raises:
        MasterUnreachable: the last line is not the snapshot's.
    """
    total = lines_before
    chunk = _Reading()
    for number, line in enumerate(_to_the_end(lines), start=lines_before):
        if isinstance(line, MasterUnreachable):
            yield chunk.done(total)
            raise line
        try:
            read = snapshot.read(line)
        except ContractError as error:
            chunk.reject(Rejected(number, snapshot.id_of(line), str(error)))
            continue
        if isinstance(read, snapshot.Begin):
            total = lines_before + read.total
        elif isinstance(read, snapshot.End):
            yield chunk.done(total)
            return
        else:
            chunk.add(Line.of(read))
        if chunk.lines >= CHUNK:
            yield chunk.done(total)
            chunk = _Reading()


def _to_the_end(lines: Iterator[bytes]) -> Iterator[bytes | MasterUnreachable]:
    """The lines, and that there are no more, which the last line makes nobody ask for."""
    try:
        yield from lines
    except MasterUnreachable as error:
        yield error
    yield MasterUnreachable("The snapshot broke off before its last line")


class _Reading:
    """A chunk that is being read."""

    def __init__(self) -> None:
        self.read: list[Line] = []
        self.rejected: list[Rejected] = []
        self.last: UUID | None = None

    @property
    def lines(self) -> int:
        return len(self.read) + len(self.rejected)

    def add(self, line: Line) -> None:
        self.read.append(line)
        self.last = line.change.user_id

    def reject(self, rejected: Rejected) -> None:
        self.rejected.append(rejected)
        self.last = rejected.user_id or self.last

    def done(self, total: int) -> Chunk:
        return Chunk(self.read, self.rejected, self.lines, self.last, total)
