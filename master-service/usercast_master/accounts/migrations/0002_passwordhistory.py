import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

# The passwords that users have already count as remembered.
REMEMBER = """
INSERT INTO accounts_passwordhistory (user_id, password, set_at)
SELECT id, password, now() FROM accounts_user WHERE password <> '' AND password NOT LIKE '!%'
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="PasswordHistory",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("password", models.CharField(max_length=128)),
                ("set_at", models.DateTimeField()),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"verbose_name": "remembered password"},
        ),
        migrations.RunSQL(REMEMBER, migrations.RunSQL.noop),
    ]
