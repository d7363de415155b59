from django.db import migrations, models
from django.db.models import F, Q
from django.utils import timezone


class Migration(migrations.Migration):
    dependencies = [("outbox", "0001_initial")]

    operations = [
        migrations.RemoveIndex("outboxentry", "outbox_undelivered"),
        migrations.AddField(
            "outboxentry", "owed_since", models.DateTimeField(default=timezone.now), preserve_default=False
        ),
        migrations.RunSQL("UPDATE outbox_entry SET owed_since = changed_at", migrations.RunSQL.noop),
        migrations.AddField("outboxentry", "published_hash", models.UUIDField(null=True)),
        migrations.AddField("outboxentry", "parked_reason", models.TextField(default="")),
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
