from usercast import startup

startup.configure("settings_with_shop")
