from django.apps import AppConfig


class ApiConfig(AppConfig):
    name = "usercast_master.api"
    label = "master_api"
    verbose_name = "API"
