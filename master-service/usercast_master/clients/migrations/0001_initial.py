from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Client",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("waiting", models.BigIntegerField(null=True)),
                ("dead", models.BigIntegerField(null=True)),
                ("looked_at", models.DateTimeField()),
            ],
            options={"db_table": "clients_client", "ordering": ("name",)},
        ),
    ]
