"""Open dashboards: 100 to 6,000 WebSockets at one web process, and where its limit is.

The web process, its clock and the pipeline run as deployed. A crowd is opened in steps; each is
measured as a ``bench.gathering``. The poller is measured with no socket and with 2,000.
"""

import math
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench import backlog, cores, crowd, system
from bench.backlog import Drain
from bench.gathering import WEB, Changes, Gathering, Stage
from bench.report import Findings, percentiles
from bench.session import Session
from bench.sockets_report import AIM_MS, EXPECTED, Poller, findings
from bench.system import CLIENT, PIPELINE
from bench.watch import watching
from embedded.ports import http_answers

SIZES = (100, 500, 2_000, 4_000, 6_000)
#: With changes five times a second; a core that is busier has no room for requests.
FULL_CORES = 0.9
#: Files that a process has open besides its sockets.
OTHER_FILES = 200
#: After so long, no larger crowd is begun.
ENOUGH_SECONDS = 120.0
DRAINS = 3
DRAIN_USERS = 20_000


def run(session: Session) -> Findings:
    """For each number of sockets what ticks, changes and a burst take, up to the limit."""
    files = _allow_files()
    with _staged(session) as stage:
        began = time.monotonic()
        with session.step("the poller, with no socket"):
            backlog.insert_users(DRAIN_USERS)
            _drain(stage, "first")
            pollers = [_poller(stage, 0, stage.change())]
        gatherings: list[Gathering] = []
        limit = None
        for sockets in SIZES:
            limit = limit or _hindrance(sockets, files, time.monotonic() - began)
            if limit:
                break
            with session.step(f"{sockets:,} sockets"):
                gatherings.append(stage.gather(sockets))
            if sockets == EXPECTED:
                with session.step(f"the poller, with {sockets:,} sockets"):
                    pollers.append(_poller(stage, sockets, gatherings[-1].changes))
            limit = _limit(gatherings[-1])
    return findings(gatherings, pollers, limit or f"not reached with {SIZES[-1]:,} sockets")


@contextmanager
def _staged(session: Session) -> Iterator[Stage]:
    with (
        system.running(session, (*PIPELINE, WEB, f"{CLIENT}-clock")) as deployment,
        system.client_database(deployment) as client,
        watching(deployment) as watch,
    ):
        url = deployment.clients[CLIENT].url
        system.wait_until(
            lambda: http_answers(url), programs=[deployment.process(WEB)], within=60, every=0.1
        )
        with crowd.gathered(deployment) as people:
            yield Stage(deployment, client, watch, people)


def _allow_files() -> float:
    """Allow this process, and what it starts, as many open files as they need; how many it got."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed, most = (math.inf if limit == resource.RLIM_INFINITY else limit for limit in limits)
    files = min(most, max(allowed, SIZES[-1] + OTHER_FILES))
    if files > allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), limits[1]))
    return files


def _hindrance(sockets: int, files: float, seconds: float) -> str | None:
    """Why so many are not tried."""
    if sockets + OTHER_FILES > files:
        return f"not reached; {sockets:,} were not tried: `ulimit -n` is {files:,}"
    if seconds > ENOUGH_SECONDS and sockets > EXPECTED:
        return f"not reached; {sockets:,} were not tried: {seconds:.0f} s were over"
    return None


def _limit(gathering: Gathering) -> str | None:
    """What is no longer as it should be."""
    among = f"with {gathering.sockets:,} sockets"
    late = percentiles(gathering.changes.last)["p99"] * 1000
    if late > AIM_MS:
        return f"{among} the last one is told after {late:,.0f} ms (p99)"
    if (busy := gathering.changes.span.web_cores) > FULL_CORES:
        return f"{among} five changes a second keep the web process busy for {busy:.0%} of the time"
    if closed := gathering.burst.span.account.closed:
        return f"{among} a burst had {sum(closed.values()):,} of them closed, by code {closed}"
    return None


# The poller


def _poller(stage: Stage, sockets: int, changes: Changes) -> Poller:
    with cores.apart(stage.deployment, [stage.web, stage.crowd.process]) as is_apart:
        drains = [_drain(stage, f"{sockets}-{number}") for number in range(DRAINS)]
    return Poller(sockets, changes, drains, is_apart)


def _drain(stage: Stage, word: str) -> Drain:
    drain = backlog.drain_users(stage.deployment, stage.client, DRAIN_USERS, word=word)
    stage.catch_up(system.newest_cursor(stage.client))
    return drain
