from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "usercast_client.dashboard"
    label = "dashboard"
