"""A client's settings with an app of the client's own, as a team that adopts Usercast has."""

from usercast_client.settings import *  # noqa: F403
from usercast_client.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "shop"]
