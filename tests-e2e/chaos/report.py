"""What a run has shown: a table for people, and the same as JSON."""

import dataclasses
import json
import platform
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chaos.settle import OnItsWay
from chaos.system import Ending
from chaos.watch import Recovery
from usercast.invariants import Violation

#: Of each client, the log would be unreadable with more.
MAX_VIOLATIONS_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class Result:
    """One run.

    Args:
        load_seconds: how long the load went on.
        settle_seconds: from the end of the load until everything had arrived.
        changed: users changed by the load, by kind of change.
        failed: changes of the load that were refused or cut off, by error.
        versions: by how much all versions have grown: the changes as the master counted them. A
            swap of names, say, is two users' but takes more than one change each.
        applied: by client, changes that its feed told.
        dropped: by client, changes that its poller dropped as old, from its log.
        doubles: by client, messages handed to its poller again by the shaking, from its log.
        ended: processes that ended by themselves.
        left: what had not arrived in the end.
    """

    seed: int
    recoveries: Sequence[Recovery]
    load_seconds: float
    settle_seconds: float
    changed: Mapping[str, int]
    failed: Mapping[str, int]
    versions: int
    applied: Mapping[str, int]
    dropped: Mapping[str, int]
    doubles: Mapping[str, int]
    ended: Sequence[Ending]
    left: OnItsWay
    violations: Mapping[str, Sequence[Violation]]

    @property
    def is_clean(self) -> bool:
        """Whether everything arrived and nothing is wrong."""
        return self.left.has_arrived and not any(self.violations.values())

    @property
    def changes(self) -> int:
        """Users changed by the load."""
        return sum(self.changed.values())

    @property
    def lost(self) -> int:
        """Changes that did not reach a client."""
        return sum(violation.is_loss for found in self.violations.values() for violation in found)

    def seconds_by_kind(self) -> dict[str, list[float | None]]:
        """How long each kind of fault took to recover from; None: it never did."""
        found: dict[str, list[float | None]] = defaultdict(list)
        for recovery in sorted(self.recoveries, key=lambda one: str(one.fault.kind)):
            found[str(recovery.fault.kind)].append(recovery.seconds)
        return dict(found)

    def as_json(self) -> dict[str, Any]:
        """Everything, in plain types."""
        return {
            "seed": self.seed,
            "machine": f"{platform.platform()}, Python {platform.python_version()}",
            "faults": {
                kind: {"count": len(times), "recovery_seconds": times}
                for kind, times in self.seconds_by_kind().items()
            },
            "timeline": [
                {
                    "fault": str(one.fault.kind),
                    "target": one.fault.target,
                    "seconds": one.fault.seconds,
                    "users_behind": one.users,
                    "recovery_seconds": one.seconds,
                }
                for one in self.recoveries
            ],
            "load_seconds": self.load_seconds,
            "settle_seconds": self.settle_seconds,
            "changes": self.changes,
            "changes_per_second": self.changes / self.load_seconds,
            "changed": dict(self.changed),
            "failed": dict(self.failed),
            "versions": self.versions,
            "applied": dict(self.applied),
            "dropped": dict(self.dropped),
            "doubles": dict(self.doubles),
            "ended": [dataclasses.asdict(ending) for ending in self.ended],
            "left": str(self.left),
            "lost": self.lost,
            "violations": {
                name: [
                    {"wrong": v.wrong, "user_id": v.user_id and str(v.user_id), "detail": v.detail}
                    for v in found
                ]
                for name, found in self.violations.items()
            },
            "clean": self.is_clean,
        }


def write(result: Result, path: Path) -> None:
    """Write the result as JSON; directories are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result.as_json(), indent=2) + "\n")


def show(result: Result, console: Console) -> None:
    """Print what a person wants to know."""
    console.print()
    console.print(_faults(result))
    console.print(
        "Recovery: from the end of the fault until both clients had what the master had\n"
        "committed by then. Other faults may have fallen into it; a user whom an earlier fault\n"
        "still kept waiting is counted there. LocalStack keeps nothing when it is killed,\n"
        "therefore it is stopped and cut off only.\n",
        style="dim",
    )
    console.print(_totals(result))
    for ending in result.ended:
        if not ending.is_expected:
            console.print(f"The last words of {ending.name}:\n{ending.last_words}")
    for name, found in result.violations.items():
        _show_violations(name, found, console)
    if not result.left.has_arrived:
        console.print(f"Not everything arrived: {result.left}", style="bold red")


def _faults(result: Result) -> Table:
    table = Table(title="Faults", title_justify="left", title_style="bold", header_style="dim")
    table.add_column("fault")
    for heading in ("times", "recovery p50", "max"):
        table.add_column(heading, justify="right")
    for kind, times in result.seconds_by_kind().items():
        known = [seconds for seconds in times if seconds is not None]
        worst = "never" if None in times else f"{max(known):.1f} s"
        table.add_row(kind, str(len(times)), f"{median(known):.1f} s" if known else "-", worst)
    return table


def _totals(result: Result) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rate = result.changes / result.load_seconds
    rows = {
        "changes committed": f"{result.changes} in {result.load_seconds:.0f} s ({rate:.0f}/s)",
        "by kind": _listed(result.changed),
        "refused or cut off": _listed(result.failed) or "none",
        "versions, grown by": str(result.versions),
        "changes applied": _listed(result.applied),
        "duplicates and stale": _listed(result.dropped),
        "messages given twice": _listed(result.doubles),
        "ended by themselves": _listed(_by_status(result.ended)) or "none",
        "settled after": f"{result.settle_seconds:.1f} s",
        "lost": str(result.lost),
        "violations": str(sum(map(len, result.violations.values()))),
        "seed": f"{result.seed} (SEED={result.seed} repeats the faults and the draws of changes; "
        "when exactly each falls is not repeatable)",
    }
    for name, value in rows.items():
        table.add_row(Text(name, style="dim"), value)
    return table


def _show_violations(name: str, found: Sequence[Violation], console: Console) -> None:
    if not found:
        return
    kinds = Counter(violation.wrong.value for violation in found)
    console.print(f"{name}: {_listed(kinds)}", style="bold red")
    for violation in found[:MAX_VIOLATIONS_SHOWN]:
        console.print(f"  {violation.wrong}: {violation.user_id or ''} {violation.detail}")
    if len(found) > MAX_VIOLATIONS_SHOWN:
        console.print(f"  … and {len(found) - MAX_VIOLATIONS_SHOWN} more")


def _by_status(endings: Sequence[Ending]) -> Mapping[str, int]:
    return Counter(f"{ending.name} (status {ending.status})" for ending in endings)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()) if count)
