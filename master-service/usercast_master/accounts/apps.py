from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "usercast_master.accounts"
    verbose_name = "Accounts"
