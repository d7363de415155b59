from django.apps import AppConfig


class InboxConfig(AppConfig):
    name = "usercast_client.inbox"
    verbose_name = "Inbox"
