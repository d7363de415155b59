from usercast import startup

startup.configure("usercast_client.settings")
