"""What ``bench.sockets`` found, as tables and figures."""

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.backlog import Drain
from bench.gathering import Changes, Gathering, Span
from bench.report import Findings, Sheet, aim, percentiles
from bench.system import CLIENT

#: What one web process is to hold, and how late the last of them may know.
EXPECTED = 2_000
AIM_MS = 1_000
_POLLER = f"{CLIENT}-poller"


class Poller(NamedTuple):
    """How the poller fares with so many sockets open."""

    sockets: int
    changes: Changes
    drains: list[Drain]
    #: Whether the web process and the crowd had a core of their own during the drains.
    is_apart: bool

    @property
    def per_second(self) -> float:
        return median(drain.per_second for drain in self.drains)

    @property
    def cpu_seconds_each(self) -> float:
        """The poller's CPU time for a change."""
        return median(drain.cpu_seconds[_POLLER] / drain.changes for drain in self.drains)


def findings(gatherings: Sequence[Gathering], pollers: Sequence[Poller], limit: str) -> Findings:
    """All of it; ``limit`` says in words what went wrong first."""
    sheets = [_delays(gatherings), _cost(gatherings), _bursts(gatherings), _polling(pollers)]
    sheets[0].notes.append(f"The limit: {limit}.")
    figures = {
        "limit": limit,
        "gatherings": [_gathering_figures(gathering) for gathering in gatherings],
        "poller": [_poller_figures(poller) for poller in pollers],
    }
    return Findings(sheets, figures)


def _delays(gatherings: Sequence[Gathering]) -> Sheet:
    columns = ("sockets", "applied: p50", "all: p50", "p99", "the last: p50", "p99", "")
    sheet = Sheet("From a change's commit on the master, ms", columns)
    for gathering in gatherings:
        _, applied, arrived, last = gathering.changes
        cells = [
            f"{milliseconds(seconds)[key]:.0f}"
            for seconds, keys in ((applied, ["p50"]), (arrived, _SHOWN), (last, _SHOWN))
            for key in keys
        ]
        late = milliseconds(last)["p99"]
        verdict = aim(late, at_most=AIM_MS) if gathering.sockets <= EXPECTED else ""
        sheet.rows.append((f"{gathering.sockets:,}", *cells, verdict))
    count = len(gatherings[0].changes.last)
    sheet.notes.append(
        f"until applied on the client, until all sockets and the last one have it; {count} single "
        "saves, five a second, beside two ticks a second"
    )
    return sheet


_SHOWN = ("p50", "p99")


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    return percentiles([second * 1000 for second in seconds])


def _cost(gatherings: Sequence[Gathering]) -> Sheet:
    columns = ("sockets", "opened in s", "kB each", "ticks", "with changes", "crowd", "else")
    sheet = Sheet("The web process's memory, and the cores kept busy", columns)
    for gathering in gatherings:
        changes = gathering.changes.span
        busy = (gathering.ticks.web_cores, *changes[2:])
        sheet.rows.append(
            (
                f"{gathering.sockets:,}",
                f"{gathering.opened_seconds:.1f}",
                f"{gathering.bytes_each / 1000:.1f}",
                *(f"{cores:.0%}" for cores in busy),
            )
        )
    fullest = gatherings[-1]
    possible = fullest.sockets / fullest.changes.span.web_cores
    sheet.notes.append(
        "of a core: the web process with ticks alone, and with five changes a second; then the "
        "crowd, and all that is neither the system's nor the crowd's"
    )
    sheet.notes.append(
        f"at this rate, ticks and five changes a second fill a core with {possible:,.0f} sockets"
    )
    return sheet


def _bursts(gatherings: Sequence[Gathering]) -> Sheet:
    columns = (
        *("sockets", "changes", "frames", "frames/s", "µs each", "web", "crowd"),
        *("late: p50", "worst", "lost"),
    )
    sheet = Sheet("A burst of single saves, 100 a second", columns)
    for gathering in gatherings:
        span, changes, frames_per_second, seconds = gathering.burst
        late = milliseconds(seconds)
        sheet.rows.append(
            (
                f"{gathering.sockets:,}",
                f"{changes:,}",
                f"{span.account.received:,}",
                f"{frames_per_second:,.0f}",
                f"{span.web_seconds_each * 1e6:.1f}",
                f"{span.web_cores:.0%}",
                f"{span.crowd_cores:.0%}",
                f"{late['p50']:,.0f}",
                f"{late['worst']:,.0f}",
                f"{span.account.lost:,}",
            )
        )
    sheet.notes.append(
        "a frame counts once for each socket; µs: the web process's CPU time; late: ms from a "
        "tick's time, or a change's commit on the client, until the last socket has it"
    )
    sheet.notes += [
        f"{gathering.sockets:,} sockets: {words}"
        for gathering in gatherings
        if (words := _irregular(gathering.burst.span))
    ]
    return sheet


def _irregular(span: Span) -> str:
    account = span.account
    counts = {
        "told twice": account.repeated,
        "told after a later one": account.overtaken,
        "told by the cursor alone": account.announced,
        "sockets closed": sum(account.closed.values()),
    }
    return ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)


def _polling(pollers: Sequence[Poller]) -> Sheet:
    columns = ("sockets", "applied: p50, ms", "p99", "backlog, changes/s", "poller, µs a change")
    sheet = Sheet("The poller, with browsers and without", columns)
    for poller in pollers:
        applied = milliseconds(poller.changes.applied)
        sheet.rows.append(
            (
                f"{poller.sockets:,}",
                *(f"{applied[key]:.0f}" for key in _SHOWN),
                f"{poller.per_second:,.0f}",
                f"{poller.cpu_seconds_each * 1e6:.1f}",
            )
        )
    drains = pollers[0].drains
    where = "a core of their own" if pollers[0].is_apart else "the only core there is"
    sheet.notes.append(
        f"from the commit on the master; a backlog of {drains[0].changes:,}, the median of "
        f"{len(drains)}, with web process and crowd on {where}, sockets or not"
    )
    return sheet


def _gathering_figures(gathering: Gathering) -> dict[str, Any]:
    changes, burst = gathering.changes, gathering.burst
    account = burst.span.account
    return {
        "sockets": gathering.sockets,
        "opened_seconds": gathering.opened_seconds,
        "bytes_a_socket": gathering.bytes_each,
        "ticks_web_cores": gathering.ticks.web_cores,
        "changes": {
            "applied_milliseconds": milliseconds(changes.applied),
            "all_milliseconds": milliseconds(changes.arrived),
            "last_milliseconds": milliseconds(changes.last),
            "web_cores": changes.span.web_cores,
            "crowd_cores": changes.span.crowd_cores,
            "other_cores": changes.span.other_cores,
        },
        "burst": {
            "changes": burst.changes,
            "frames": account.received,
            "frames_per_second": burst.frames_per_second,
            "web_microseconds_a_frame": burst.span.web_seconds_each * 1e6,
            "late_milliseconds": milliseconds(burst.late),
            "web_cores": burst.span.web_cores,
            "crowd_cores": burst.span.crowd_cores,
            "lost": account.lost,
            "repeated": account.repeated,
            "overtaken": account.overtaken,
            "announced": account.announced,
            "closed": account.closed,
        },
    }


def _poller_figures(poller: Poller) -> dict[str, Any]:
    return {
        "sockets": poller.sockets,
        "applied_milliseconds": milliseconds(poller.changes.applied),
        "changes_per_second": [drain.per_second for drain in poller.drains],
        "poller_microseconds_a_change": poller.cpu_seconds_each * 1e6,
        "on_a_core_of_their_own": poller.is_apart,
    }
