"""Content: the replicated users as the clients should have them, each with its content hash.

Read by ``outbox.publisher``, which sends it, and by ``outbox.audit``, which compares it with what
was sent; both see the same, since it is the same SQL.
"""

from usercast.digest import CONTENT_HASH
from usercast_master.outbox.scope import replicated_sql

_CONTENT = """
SELECT id, username, email, first_name, last_name, is_active, date_joined, groups,
       {content_hash} AS content_hash
FROM (
    SELECT id, username, email, first_name, last_name, is_active, date_joined,
           coalesce(member.groups, '{{}}') AS groups
    FROM accounts_user
    LEFT JOIN LATERAL (
        SELECT array_agg(name::text ORDER BY name COLLATE "C") AS groups
        FROM accounts_user_groups AS membership
        JOIN auth_group ON auth_group.id = membership.group_id
        WHERE membership.user_id = accounts_user.id
    ) AS member ON true
    WHERE {replicated}
) AS replicated_user
"""


def content_sql() -> str:
    """A SELECT of id, the contract's fields in their order, and ``content_hash``."""
    return _CONTENT.format(content_hash=CONTENT_HASH, replicated=replicated_sql())
