from django.apps import AppConfig


class TransferConfig(AppConfig):
    name = "usercast_master.transfer"
    verbose_name = "Import and export"
