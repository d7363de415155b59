"""A first load: a million users from the master's tables to the client's, by the real command.

Beside it, in the same run, the floor: PostgreSQL alone takes the same rows by COPY into a temporary
table and one upsert into a table like the client's, by psql.
"""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import system
from bench.audit import fill
from bench.command import measured
from bench.report import Findings, Sheet, aim
from bench.session import Session
from bench.system import BenchFailed
from embedded.deployment import Deployment
from embedded.ports import http_answers
from embedded.postgres import program
from usercast.testing import eventually

USERS = 1_000_000
AIM_OF_FLOOR = 0.5
AIM_PEAK_MB = 300

_FLOOR = r"""
\set ON_ERROR_STOP on
CREATE TABLE floor_user (LIKE replica_user INCLUDING ALL);
\copy (SELECT * FROM replica_user) TO {file}
\echo begin
BEGIN;
CREATE TEMPORARY TABLE incoming (LIKE replica_user) ON COMMIT DROP;
\copy incoming FROM {file}
INSERT INTO floor_user AS known SELECT * FROM incoming ORDER BY id
ON CONFLICT (id) DO UPDATE SET version = excluded.version, username = excluded.username
WHERE known.version < excluded.version;
COMMIT;
\echo end
DROP TABLE floor_user;
"""


@dataclass(frozen=True)
class Load:
    """The command from its start to its end, and what memory both ends had at most."""

    seconds: float
    client_bytes: int
    master_bytes: int


def run(session: Session) -> Findings:
    """Users a second and peak memory, beside the floor."""
    with system.running(session, ("master-web",)) as deployment:
        eventually(lambda: http_answers(deployment.master.url), within=60)
        with session.step(f"{USERS:,} users on the master"):
            fill()
        with session.step("bootstrap"):
            done = load(deployment)
        with session.step("the floor"):
            floor = _floor(deployment)
    share = floor / done.seconds
    sheet = Sheet(f"manage.py bootstrap, {USERS:,} users", ("", "s", "users/s"))
    sheet.rows += [
        (
            "master → committed on the client",
            f"{done.seconds:.1f}",
            f"{USERS / done.seconds:,.0f}",
        ),
        ("floor: COPY and one upsert, by psql", f"{floor:.1f}", f"{USERS / floor:,.0f}"),
    ]
    sheet.notes += [
        f"of the floor: {share:.2f}, {aim(share, at_least=AIM_OF_FLOOR)}",
        f"peak memory of the command {done.client_bytes / 1e6:.0f} MB, of the master's web process"
        f" {done.master_bytes / 1e6:.0f} MB, "
        + aim(max(done.client_bytes, done.master_bytes) / 1e6, at_most=AIM_PEAK_MB),
    ]
    figures = {
        "users": USERS,
        "bootstrap_seconds": done.seconds,
        "floor_seconds": floor,
        "client_peak_bytes": done.client_bytes,
        "master_peak_bytes": done.master_bytes,
    }
    return Findings([sheet], figures)


def load(deployment: Deployment, *, new: int = USERS) -> Load:
    """Bring the master's users to a client that has none.

    Raises:
        BenchFailed: not just so many of them were new.
    """
    run = measured(deployment, system.CLIENT, "bootstrap")
    if f"new {new:,}" not in run.output:
        raise BenchFailed(f"bootstrap did not find {new:,} new: {run.output[-2000:]}")
    return Load(run.seconds, run.peak_bytes, _peak_bytes(deployment))


def _peak_bytes(deployment: Deployment) -> int:
    """Of the largest of the master's web processes."""
    first = psutil.Process(deployment.process("master-web").pid)
    processes = [first, *first.children(recursive=True)]
    return max(_high_water(process.pid) for process in processes)


def _high_water(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return int(kilobytes) * 1024


def _floor(deployment: Deployment) -> float:
    """The seconds between its BEGIN and its COMMIT."""
    script = _FLOOR.format(file=system.STATE_DIR / "floor.copy")
    url = deployment.services[system.CLIENT].database_url
    with subprocess.Popen(
        [program("psql"), "--no-psqlrc", "--quiet", url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as psql:
        assert psql.stdin is not None
        assert psql.stdout is not None
        psql.stdin.write(script)
        psql.stdin.close()
        said: dict[str, float] = {}
        for line in psql.stdout:
            said[line.strip()] = time.perf_counter()
    if psql.returncode or not {"begin", "end"} <= said.keys():
        raise BenchFailed(f"psql ended with {psql.returncode}: {'; '.join(said)}")
    return said["end"] - said["begin"]
