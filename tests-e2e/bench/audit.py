"""The audit: ``manage.py outbox audit --dry-run`` over a million users, all told to the clients.

Users, memberships and outbox entries are made in SQL, as if all had been published. The audit is
timed as it is run, the start of Python included: once with nothing to find, once with ten users
changed past all signals.
"""

import re
import time

from django.db import connection

from bench import system
from bench.report import Findings, Sheet
from bench.session import Session
from bench.system import BenchFailed
from embedded.deployment import Deployment

USERS = 1_000_000
PLANTED = 10

# Every third user is in one of ten groups.
_USERS = f"""
INSERT INTO accounts_user (id, username, first_name, last_name, email, password, is_active,
    is_staff, is_superuser, date_joined)
SELECT uuidv7(), 'audit-' || n, 'First', 'Last ' || mod(n, 4999), 'audit-' || n || '@example.org',
    '!', true, false, false, now()
FROM generate_series(1, {USERS}) AS n;
INSERT INTO auth_group (name) SELECT 'group-' || n FROM generate_series(0, 9) AS n;
INSERT INTO accounts_user_groups (user_id, group_id)
SELECT person.id, auth_group.id
FROM (SELECT id, substring(username, '^audit-(.*)')::int AS n FROM accounts_user) AS person
JOIN auth_group ON auth_group.name = 'group-' || mod(n / 3, 10)
WHERE mod(n, 3) = 0;
"""
_ENTRIES = """
INSERT INTO outbox_entry (user_id, version, published_version, published_hash, changed_at,
    owed_since, priority, attempts, parked_reason)
SELECT id, 1, 1, content_hash, now(), now(), 2, 0, '' FROM ({content}) AS content;
"""
_PLANT = f"""
UPDATE accounts_user SET last_name = 'Changed past Django'
WHERE id IN (SELECT id FROM accounts_user ORDER BY id LIMIT {PLANTED})
"""


def run(session: Session) -> Findings:
    """Seconds of an audit that finds nothing, and of one that finds ten users."""
    with system.master_database(session) as deployment:
        with session.step(f"{USERS:,} users"):
            fill()
        with session.step("audit, nothing to find"):
            clean = _audit(deployment, changed=0)
        with connection.cursor() as cursor:
            cursor.execute(_PLANT)
        with session.step(f"audit, {PLANTED} to find"):
            planted = _audit(deployment, changed=PLANTED)
    sheet = Sheet(f"manage.py outbox audit --dry-run over {USERS:,} users", ("", "s"))
    sheet.rows += [("nothing to find", f"{clean:.2f}"), (f"{PLANTED} to find", f"{planted:.2f}")]
    sheet.notes.append("found exactly these; includes the start of Python and Django")
    return Findings([sheet], {"users": USERS, "clean_seconds": clean, "planted_seconds": planted})


def fill() -> None:
    """A master with users who have all been published, and nothing owed."""
    from usercast_master.outbox.content import content_sql

    with connection.cursor() as cursor:
        cursor.execute(_USERS)
        cursor.execute(_ENTRIES.format(content=content_sql()))
        # As autovacuum would have by the time a nightly audit runs.
        cursor.execute("VACUUM ANALYZE accounts_user, accounts_user_groups, outbox_entry")


def _audit(deployment: Deployment, *, changed: int) -> float:
    """The seconds it took.

    Raises:
        BenchFailed: it did not find just these.
    """
    start = time.perf_counter()
    output = deployment.manage("master", "outbox", "audit", "--dry-run")
    seconds = time.perf_counter() - start
    if [int(number) for number in re.findall(r"\d+", output)] != [changed, 0, 0]:
        raise BenchFailed(f"The audit should have found {changed} changed users: {output}")
    return seconds
