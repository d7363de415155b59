"""Evidence for ``usercast.invariants``, read from the services' databases past the services' code.

A trigger on each client's tables writes down every change as PostgreSQL carries it out: what went
back and what came again then shows, whatever the client itself believes or tells.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from usercast.contract import UserGone, UserState
from usercast.invariants import Replica, Seen, Told, Truth


class Cursor(Protocol):
    """What psycopg2's cursors and Django's have in common."""

    def execute(self, sql: str, params: Sequence[object] | None = None, /) -> Any:
        """Run one statement."""

    def fetchall(self) -> list[Any]:
        """All rows of its result."""


# Rows travel as JSON in the contract's fields: both kinds of cursor give it as text, and the
# contract's own types read it.
_USER = """jsonb_build_object(
    'id', id, 'version', version, 'username', username, 'email', email, 'first_name', first_name,
    'last_name', last_name, 'is_active', is_active, 'date_joined', date_joined,
    'groups', {groups})"""

_WITNESS = f"""
CREATE TABLE witness (position bigserial PRIMARY KEY, before jsonb, after jsonb);

CREATE FUNCTION witness_user(replica_user) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT {_USER.format(groups="master_groups")} FROM (SELECT $1.*) AS row
    WHERE version IS NOT NULL
$$;
CREATE FUNCTION witness_user_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witness (before, after) VALUES (
        CASE WHEN TG_OP <> 'INSERT' THEN witness_user(OLD) END,
        CASE WHEN TG_OP <> 'DELETE' THEN witness_user(NEW) END);
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON replica_user
    FOR EACH ROW EXECUTE FUNCTION witness_user_write();

CREATE FUNCTION witness_tombstone(replica_tombstone) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('id', $1.user_id, 'version', $1.version)
$$;
CREATE FUNCTION witness_tombstone_write() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witness (before, after) VALUES (
        CASE WHEN TG_OP <> 'INSERT' THEN witness_tombstone(OLD) END,
        CASE WHEN TG_OP <> 'DELETE' THEN witness_tombstone(NEW) END);
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON replica_tombstone
    FOR EACH ROW EXECUTE FUNCTION witness_tombstone_write();
"""

# Whoever is in scope and never got into the outbox gets a version here that no replica can have.
_MASTER_USERS = f"""
SELECT {_USER.format(groups="groups")}::text
FROM (
    SELECT u.*, coalesce(entry.version, 9223372036854775807) AS version, ARRAY(
        SELECT g.name FROM auth_group g JOIN accounts_user_groups m ON m.group_id = g.id
        WHERE m.user_id = u.id ORDER BY g.name
    ) AS groups
    FROM accounts_user u LEFT JOIN outbox_entry entry ON entry.user_id = u.id
    WHERE NOT u.is_staff AND NOT u.is_superuser
) AS known
"""

_user = msgspec.json.Decoder(UserState)
_row = msgspec.json.Decoder(UserGone)


def install_witness(cursor: Cursor) -> None:
    """From now on, write down every write to a client's users and tombstones."""
    cursor.execute(_WITNESS)


def truth(cursor: Cursor) -> Truth:
    """What the master's tables say at this moment."""
    cursor.execute(_MASTER_USERS)
    users = [_user.decode(row[0]) for row in cursor.fetchall()]
    cursor.execute(
        "SELECT jsonb_build_object('id', user_id, 'version', version)::text FROM outbox_entry"
        " WHERE deleted_at IS NOT NULL"
    )
    gone = [_row.decode(row[0]) for row in cursor.fetchall()]
    return Truth({user.id: user for user in users}, {row.id: row.version for row in gone})


def replica(cursor: Cursor, *, feed: Sequence[Told], dead_letters: int = 0) -> Replica:
    """What a client's tables and the witness in its database say at this moment.

    Args:
        feed: as a reader of it saw it, see ``told_after``.
    """
    cursor.execute(
        f"SELECT {_USER.format(groups='master_groups')}::text FROM replica_user"
        " WHERE version IS NOT NULL"
    )
    users = [_user.decode(row[0]) for row in cursor.fetchall()]
    cursor.execute(
        "SELECT jsonb_build_object('id', user_id, 'version', version)::text FROM replica_tombstone"
    )
    tombstones = [_row.decode(row[0]) for row in cursor.fetchall()]
    return Replica(
        users={user.id: user for user in users},
        tombstones={row.id: row.version for row in tombstones},
        feed=feed,
        witness=_witness(cursor),
        dead_letters=dead_letters,
    )


def told_after(cursor: Cursor, position: int) -> list[Told]:
    """What the feed shows a reader who has read up to the cursor ``position``."""
    cursor.execute(
        "SELECT jsonb_build_object('cursor', cursor, 'user_id', user_id, 'version', version,"
        " 'is_deletion', kind = 'deleted')::text FROM live_change WHERE cursor > %s"
        " ORDER BY cursor",
        [position],
    )
    return [msgspec.json.decode(row[0], type=Told) for row in cursor.fetchall()]


def _witness(cursor: Cursor) -> list[Seen]:
    # The position is drawn while the row is locked, so of one user it grows in the order of events.
    cursor.execute("SELECT before::text, after::text FROM witness ORDER BY position")
    seen = [Seen(_either(before), _either(after)) for before, after in cursor.fetchall()]
    # A local account has no version, and so two empty sides.
    return [one for one in seen if one.before or one.after]


def _either(text: str | None) -> UserState | UserGone | None:
    if text is None:
        return None
    return _user.decode(text) if '"username"' in text else _row.decode(text)
