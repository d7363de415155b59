"""Reconciling a million users: with no difference, with ten to find, and with ten to repair.

Each by the real command, from its start to its end. The differences are made by hand in the
client's tables: wrong fields, missing, resurrected and extra users.
"""

import psycopg2

from bench import system
from bench.audit import fill
from bench.bootstrap import USERS, load
from bench.command import Run, measured
from bench.report import Findings, Sheet
from bench.session import Session
from bench.system import BenchFailed
from embedded.deployment import Deployment
from embedded.ports import http_answers
from usercast.testing import eventually

DIFFERENCES = 10

# Of ten users by chance, for ids that follow each other would be a special case.
_PLANT = """
CREATE TEMPORARY TABLE chosen AS
    SELECT id, row_number() OVER () AS number
    FROM (SELECT id FROM replica_user WHERE version IS NOT NULL ORDER BY md5(id::text) LIMIT 8)
    AS picked;
UPDATE replica_user SET email = 'by-hand@example.org'
    WHERE id IN (SELECT id FROM chosen WHERE number <= 3);
UPDATE replica_user SET is_active = false WHERE id IN (SELECT id FROM chosen WHERE number = 4);
DELETE FROM replica_user WHERE id IN (SELECT id FROM chosen WHERE number BETWEEN 5 AND 8);
INSERT INTO replica_user (id, version, username, email, first_name, last_name, is_active,
    date_joined, master_groups, password, is_staff, is_superuser)
SELECT id, 1, 'resurrected', '', '', '', true, now(), '{}'::text[], '!', false, false
    FROM (SELECT user_id AS id FROM replica_tombstone LIMIT 1) AS gone
UNION ALL
SELECT gen_random_uuid(), 1, 'extra', '', '', '', true, now(), '{}'::text[], '!', false, false
"""
_DELETE_ONE = """
WITH gone AS (DELETE FROM accounts_user WHERE id = (
    SELECT id FROM accounts_user WHERE username LIKE 'audit-%' ORDER BY id LIMIT 1) RETURNING id)
UPDATE outbox_entry SET deleted_at = changed_at, published_hash = NULL
FROM gone WHERE user_id = gone.id
"""


def run(session: Session) -> Findings:
    """Seconds of each."""
    with system.running(session, ("master-web",)) as deployment:
        eventually(lambda: http_answers(deployment.master.url), within=60)
        with session.step(f"{USERS:,} users on both sides"):
            fill()
            _execute(deployment, "master", _DELETE_ONE)
            load(deployment, new=USERS - 1)
            _execute(deployment, system.CLIENT, "VACUUM ANALYZE")
        with session.step("nothing differs"):
            clean = _reconcile(deployment, "in step", "--check")
        _execute(deployment, system.CLIENT, _PLANT)
        with session.step(f"{DIFFERENCES} to find"):
            found = _reconcile(deployment, f"{DIFFERENCES} differ", "--check", expected=1)
        with session.step(f"{DIFFERENCES} to find and repair"):
            repaired = _reconcile(deployment, f"{DIFFERENCES} repaired")
    if not repaired.output.strip().endswith("in step with the master"):
        raise BenchFailed(f"The repair left something: {repaired.output}")
    sheet = Sheet(f"manage.py reconcile, {USERS:,} users", ("", "s", "peak MB"))
    for name, one in (
        ("nothing differs", clean),
        (f"{DIFFERENCES} found", found),
        (f"{DIFFERENCES} found, repaired, and compared again", repaired),
    ):
        sheet.rows.append((name, f"{one.seconds:.1f}", f"{one.peak_bytes / 1e6:.0f}"))
    sheet.notes.append("includes the start of Python and Django; a find looks twice, 1 s apart")
    figures = {
        "users": USERS,
        "clean_seconds": clean.seconds,
        "found_seconds": found.seconds,
        "repaired_seconds": repaired.seconds,
        "peak_bytes": repaired.peak_bytes,
    }
    return Findings([sheet], figures)


def _reconcile(deployment: Deployment, says: str, *options: str, expected: int = 0) -> Run:
    ended = measured(deployment, system.CLIENT, "reconcile", *options, expected=expected)
    if says not in ended.output:
        raise BenchFailed(f"reconcile did not say {says!r}: {ended.output[-2000:]}")
    return ended


def _execute(deployment: Deployment, name: str, statements: str) -> None:
    connection = psycopg2.connect(deployment.services[name].database_url)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(statements)
    connection.close()
