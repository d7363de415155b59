from django.apps import AppConfig
from django.contrib.admin import apps as admin


class DeskAdminConfig(admin.AdminConfig):
    """Django's admin, with the desk as its site."""

    default = False
    default_site = "usercast_master.desk.site.Desk"


class DeskConfig(AppConfig):
    name = "usercast_master.desk"
