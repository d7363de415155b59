from django.apps import AppConfig


class UsercastConfig(AppConfig):
    """The commands both services have: the topology's, and the operator's."""

    name = "usercast"
    verbose_name = "Usercast"
