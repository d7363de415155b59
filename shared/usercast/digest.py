"""The content hash of a user: the same SQL on the master and on every client, the same value.

Equal hashes mean equal replicated fields, so two copies are compared without moving them: the
master's audit compares users with what was last published.
"""

#: SQL, of type uuid, over columns named as the contract's fields, ``groups`` being a text array in
#: the order of code points. Nothing in it depends on a session's settings (the date's zone or
#: style) nor, since PostgreSQL 14, on the server's version. ``md5`` detects accidents, not attacks.
CONTENT_HASH = """md5(ROW(
    username, email, first_name, last_name, is_active, extract(epoch FROM date_joined), groups
)::text)::uuid"""
