from django.apps import AppConfig


class LiveConfig(AppConfig):
    name = "usercast_client.live"
    verbose_name = "Live"
