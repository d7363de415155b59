"""Which faults there are, and the schedule of a run, which its seed decides."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What is done to a process or a server."""

    KILL = "SIGKILL"
    STOP = "SIGSTOP"
    DELAY = "delay"
    RESET = "reset"
    BLACKHOLE = "blackhole"


#: Done by signals, to the program itself; the others are done to its connections.
SIGNALS = (Action.KILL, Action.STOP)
CUTS = (Action.DELAY, Action.RESET, Action.BLACKHOLE)

#: "client" stands for one of the clients, in turn.
PROCESSES = (
    *("master-web", "master-relay", "master-worker"),
    *("client-web", "client-poller", "client-worker", "client-clock"),
)
#: LocalStack keeps its queues in memory only: killed, it would lose what any real SQS keeps.
SERVERS = {
    "Valkey": (*SIGNALS, *CUTS),
    "PostgreSQL": (*SIGNALS, *CUTS),
    "LocalStack": (Action.STOP, *CUTS),
}


@dataclass(frozen=True)
class Kind:
    """A kind of fault: what is done, to which role."""

    role: str
    action: Action

    def __str__(self) -> str:
        return f"{self.action} {self.role}"


@dataclass(frozen=True)
class Fault:
    """One fault of a run.

    Args:
        number: from 1.
        target: the process or server it hits.
        seconds: how long it lasts.
        pause_seconds: how long nothing else happens after it.
        delay_seconds: what each chunk of bytes waits, if that is the action.
    """

    number: int
    kind: Kind
    target: str
    seconds: float
    pause_seconds: float
    delay_seconds: float


KINDS = tuple(
    [Kind(role, action) for role in PROCESSES for action in SIGNALS]
    + [Kind(role, action) for role, actions in SERVERS.items() for action in actions]
)


def schedule(*, seed: int, count: int, clients: Sequence[str]) -> list[Fault]:
    """The faults of a run, the same for the same seed, count and clients.

    The kinds come in shuffled rounds, each once a round, so that none is left out by chance; the
    clients are hit in turn.
    """
    rng = random.Random(f"faults {seed}")
    turn = itertools.cycle(rng.sample(list(clients), len(clients)))
    faults = []
    for number, kind in zip(range(1, count + 1), _rounds(rng), strict=False):
        is_clients = kind.role.startswith("client-")
        faults.append(
            Fault(
                number=number,
                kind=kind,
                target=kind.role.replace("client", next(turn)) if is_clients else kind.role,
                seconds=round(rng.uniform(0.3, 3.0), 2),
                pause_seconds=round(rng.uniform(1.5, 4.0), 2),
                delay_seconds=round(rng.uniform(0.05, 0.4), 2),
            )
        )
    return faults


def _rounds(rng: random.Random) -> Iterator[Kind]:
    while True:
        yield from rng.sample(KINDS, len(KINDS))
