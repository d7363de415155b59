import os

from usercast import startup

# Workers that run side by side share one Valkey: what one sends must not reach another's sockets.
os.environ["USERCAST_CLIENT"] = f"billing-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"

startup.configure("settings_with_shop")
