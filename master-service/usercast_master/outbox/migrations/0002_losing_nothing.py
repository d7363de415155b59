from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("outbox", "0001_initial")]

    operations = [
        migrations.RemoveIndex("outboxentry", "outbox_undelivered"),
        # With defaults of the database's, so that processes of the version before go on saving.
        migrations.AddField("outboxentry", "owed_since", models.DateTimeField(db_default=Now())),
        migrations.RunSQL("UPDATE outbox_entry SET owed_since = changed_at", migrations.RunSQL.noop),
        migrations.AddField("outboxentry", "published_hash", models.UUIDField(null=True)),
        migrations.AddField("outboxentry", "refusals", models.IntegerField(default=0, db_default=0)),
        migrations.AddField(
            "outboxentry", "parked_reason", models.TextField(default="", db_default="")
        ),
        # Room on each page, so that a claim need not touch the indexes (a HOT update).
        migrations.RunSQL("ALTER TABLE outbox_entry SET (fillfactor = 60)", migrations.RunSQL.noop),
        migrations.AddIndex(
            "outboxentry",
            models.Index(
                "priority",
                "owed_since",
                name="outbox_undelivered",
                condition=Q(version__gt=F("published_version")),
            ),
        ),
    ]
