from django.apps import AppConfig


class LiveConfig(AppConfig):
    name = "usercast_client.live"
    verbose_name = "Live"

    def ready(self) -> None:
        from usercast_client.live import revocation  # noqa: F401 - connects its receivers
