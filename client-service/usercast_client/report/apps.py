from django.apps import AppConfig


class ReportConfig(AppConfig):
    name = "usercast_client.report"
