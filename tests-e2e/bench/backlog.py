"""The backlog: many changed users from the outbox to the client's committed rows.

A round is one bulk write by the public way (``QuerySet.update``), first of users whom the clients
do not know, then of the same ones again. The clock starts when its transaction has committed, and
stops when the client's tables hold all of it. The pipeline runs as deployed; beside it, the plain
way carries fewer users on the same servers.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from django.db import connection as master
from psycopg2.extensions import connection

from bench import calls, cpu, plain, system
from bench.calls import Call
from bench.report import Findings, Sheet, aim
from bench.session import Session
from bench.system import PIPELINE, PROBES, BenchFailed
from embedded.deployment import Deployment

USERS = 100_000
PLAIN_USERS = 1_000
EXPECTED_PER_SECOND = 15_000
DEADLINE_SECONDS = 300
#: Rarely enough to cost nothing that would show.
LOOK_SECONDS = 0.025
SHOWN_LINES = 20


class Sample(NamedTuple):
    """One look at a thread: the service's line it was in, what that had called, its CPU time."""

    at: float
    line: str
    doing: str
    cpu_seconds: float

    @property
    def place(self) -> tuple[str, str]:
        return self.line, self.doing


class Drain(NamedTuple):
    """One backlog's way to the client."""

    changes: int
    began: float
    seconds: float
    cpu_seconds: Counter[str]
    calls: list[Call]

    @property
    def per_second(self) -> float:
        return self.changes / self.seconds

    @property
    def busy_seconds(self) -> float:
        """The CPU time that the system's processes and servers took."""
        return self.cpu_seconds.total() - self.cpu_seconds[cpu.OTHERS]

    @property
    def published_seconds(self) -> float:
        """When the last message had been handed to SNS."""
        return max(call.at for call in self.calls if call.service == "sns") - self.began


class Drains(NamedTuple):
    """What ``backlog`` and ``cost`` report on, measured in one run."""

    created: Drain
    updated: Drain
    plain: Drain
    samples: dict[str, list[Sample]]

    @property
    def by_name(self) -> dict[str, Drain]:
        return {"created": self.created, "updated": self.updated, "plain way": self.plain}


@cache
def measure(session: Session) -> Drains:
    """Drain two backlogs through the pipeline, then a smaller one in the plain way."""
    with (
        system.running(session, PIPELINE, sampled=session.sampled) as deployment,
        system.client_database(deployment) as client,
    ):
        system.warm_up(deployment, client)
        insert_users(session.users)
        with session.step(f"{session.users:,} users created"):
            created = drain_users(deployment, client, session.users, word="first")
        with session.step("the same users updated"):
            updated = drain_users(deployment, client, session.users, word="second")
        samples = {name: _samples(name, [created, updated]) for name in PIPELINE if session.sampled}
        for name in PIPELINE:
            deployment.stop(name)
        with session.step(f"{PLAIN_USERS:,} users in the plain way"):
            return Drains(created, updated, _drain_plainly(deployment, client), samples)


def insert_users(users: int) -> None:
    """Users past all signals, as a restored dump would bring them: nobody has heard of them."""
    with master.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO accounts_user (id, username, first_name, last_name, email, password,
                is_active, is_staff, is_superuser, date_joined)
            SELECT uuidv7(), 'backlog-' || n, 'First', 'Last ' || mod(n, 4999),
                'backlog-' || n || '@example.org', '!', true, false, false, now()
            FROM generate_series(1, %s) AS n
            """,
            [users],
        )


def drain_users(deployment: Deployment, client: connection, users: int, *, word: str) -> Drain:
    from usercast_master.accounts.models import User

    before = system.newest_cursor(client)
    User.objects.filter(username__startswith="backlog-").update(first_name=word)
    began = time.time()
    with cpu.metered(deployment) as used:
        system.wait_until(
            lambda: system.newest_cursor(client) >= before + users,
            programs=system.pipeline(deployment),
            within=DEADLINE_SECONDS,
            every=LOOK_SECONDS,
        )
        seconds = time.time() - began
    held = system.value(client, "SELECT count(*) FROM replica_user WHERE first_name = %s", word)
    if held != users:
        raise BenchFailed(f"The client's feed tells of {users} changes, its table of {held}.")
    return Drain(users, began, seconds, used, calls.since(began))


def _drain_plainly(deployment: Deployment, client: connection) -> Drain:
    began, seconds = plain.drain(deployment, client, PLAIN_USERS)
    return Drain(PLAIN_USERS, began, seconds, Counter(), calls.since(began))


def _samples(name: str, drains: list[Drain]) -> list[Sample]:
    """What the threads of a process were seen doing while it drained."""
    lines = (PROBES / f"{name}.samples").read_text().splitlines()
    return [
        sample
        for line in lines
        if (sample := Sample(*json.loads(line)))
        and any(drain.began <= sample.at <= drain.began + drain.seconds for drain in drains)
    ]


def run(session: Session) -> Findings:
    """The rates, the CPU time behind them, and the plain way beside them."""
    drains = measure(session)
    sheets = [_rates(drains), _cpu(drains)]
    changes = drains.created.changes + drains.updated.changes
    for name, samples in drains.samples.items():
        sheets.extend(_profile(name, samples, changes))
    figures = {
        name: {
            "changes": drain.changes,
            "seconds": drain.seconds,
            "changes_per_second": drain.per_second,
            "published_seconds": drain.published_seconds,
            "cpu_seconds": dict(drain.cpu_seconds),
        }
        for name, drain in drains.by_name.items()
    }
    return Findings(sheets, figures)


def _rates(drains: Drains) -> Sheet:
    columns = ("", "changes", "s", "changes/s", "ms a change", "published after s", "")
    sheet = Sheet("Backlog: from the outbox to the client's committed rows", columns)
    for name, drain in drains.by_name.items():
        ours = drain is not drains.plain
        sheet.rows.append(
            (
                name,
                f"{drain.changes:,}",
                f"{drain.seconds:.2f}",
                f"{drain.per_second:,.0f}",
                f"{1000 / drain.per_second:.3f}",
                f"{drain.published_seconds:.2f}",
                aim(drain.per_second, at_least=EXPECTED_PER_SECOND) if ours else "",
            )
        )
    times = drains.updated.per_second / drains.plain.per_second
    sheet.notes.append(
        f"A change costs the plain way {times:,.0f} times the time (a task, a publish, a receive "
        "and a save each)."
    )
    return sheet


def _cpu(drains: Drains) -> Sheet:
    shown = {"created": drains.created, "updated": drains.updated}
    sheet = Sheet("CPU time a change by process, µs", ("", *shown))

    def add(title: str, cells: Iterable[float]) -> None:
        sheet.rows.append((title, *(f"{cell:.1f}" for cell in cells)))

    names = {name for drain in shown.values() for name in drain.cpu_seconds} - {cpu.OTHERS}
    for name in sorted(names):
        add(name, (drain.cpu_seconds[name] / drain.changes * 1e6 for drain in shown.values()))
    add("all of these", (drain.busy_seconds / drain.changes * 1e6 for drain in shown.values()))
    add("cores they kept busy", (drain.busy_seconds / drain.seconds for drain in shown.values()))
    others = (drain.cpu_seconds[cpu.OTHERS] / drain.seconds for drain in shown.values())
    add("cores busy with all else on this machine", others)
    return sheet


def _profile(name: str, samples: Sequence[Sample], changes: int) -> Iterator[Sheet]:
    """The lines that took most CPU time, and those where the threads were longest, waits too."""
    seen = Counter(sample.place for sample in samples)
    spent: Counter[tuple[str, str]] = Counter()
    for sample in samples:
        spent[sample.place] += sample.cpu_seconds
    sheet = Sheet(f"{name}: CPU time by line, µs a change", ("line of the service", "in", "µs"))
    for place, seconds in spent.most_common(SHOWN_LINES):
        sheet.rows.append((*place, f"{seconds / changes * 1e6:.2f}"))
    yield sheet
    sheet = Sheet(f"{name}: where its threads were", ("line of the service", "in", "share"))
    for place, count in seen.most_common(SHOWN_LINES):
        sheet.rows.append((*place, f"{count / len(samples):.1%}"))
    yield sheet
