import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "usercast_client.settings")
