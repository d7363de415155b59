from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("outbox", "0002_losing_nothing")]

    operations = [
        migrations.CreateModel(
            name="Minute",
            fields=[
                ("minute", models.DateTimeField(primary_key=True, serialize=False)),
                ("changes", models.BigIntegerField(db_default=0, default=0)),
                ("slowest_seconds", models.FloatField(db_default=0, default=0)),
                ("refused", models.BigIntegerField(db_default=0, default=0)),
                ("failures", models.IntegerField(db_default=0, default=0)),
                ("failure_reason", models.TextField(db_default="", default="")),
            ],
            options={"db_table": "outbox_minute"},
        ),
    ]
