from django.apps import AppConfig


class OutboxConfig(AppConfig):
    name = "usercast_master.outbox"
    verbose_name = "Outbox"

    def ready(self) -> None:
        from usercast_master.outbox import signals

        signals.connect()
