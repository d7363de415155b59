from django.apps import AppConfig


class ClientsConfig(AppConfig):
    name = "usercast_master.clients"
    verbose_name = "Delivery"
