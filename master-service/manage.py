#!/usr/bin/env python
"""The master's management commands."""

import sys

from usercast import startup

if __name__ == "__main__":
    startup.configure("usercast_master.settings")
    from django.core.management import execute_from_command_line

    with startup.one_clear_line():
        execute_from_command_line(sys.argv)
