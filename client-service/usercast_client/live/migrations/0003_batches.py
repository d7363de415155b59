from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("live", "0002_feed_as_text")]

    operations = [
        migrations.AddField("change", "batch", models.BigIntegerField(default=0), preserve_default=False),
        migrations.AddField("change", "batch_size", models.IntegerField(default=1), preserve_default=False),
        # What was applied before batches were recorded is shown change by change.
        migrations.RunSQL("UPDATE live_change SET batch = cursor", migrations.RunSQL.noop),
        migrations.AddIndex(
            "change", models.Index(fields=["user_id", "cursor"], name="live_change_user")
        ),
    ]
