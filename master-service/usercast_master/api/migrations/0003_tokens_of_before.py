"""Takes over the tokens that were made before they had names and scopes: they could do everything."""

from django.db import migrations

_TAKE_OVER = """
DO $$
BEGIN
    IF to_regclass('knox_authtoken') IS NOT NULL THEN
        INSERT INTO api_token (digest, token_key, created, expiry, user_id, name, scopes)
        SELECT digest, token_key, created, expiry, user_id,
               'operator' || CASE WHEN place = 1 THEN '' ELSE ' ' || place END,
               ARRAY['read', 'write', 'snapshot']
        FROM (
            SELECT *, row_number() OVER (PARTITION BY user_id ORDER BY created) AS place
            FROM knox_authtoken
        ) AS token;
        -- Its rows would forbid the deletion of their users.
        DROP TABLE knox_authtoken;
    END IF;
END
$$
"""


class Migration(migrations.Migration):

    dependencies = [("master_api", "0002_snapshot_scope")]

    operations = [migrations.RunSQL(_TAKE_OVER, migrations.RunSQL.noop)]
