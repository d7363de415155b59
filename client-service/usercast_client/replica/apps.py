from django.apps import AppConfig


class ReplicaConfig(AppConfig):
    name = "usercast_client.replica"
    verbose_name = "Replica"
