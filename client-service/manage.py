#!/usr/bin/env python
"""A client's management commands."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["healthy"]:
        # Health checks ask every few seconds: without the second that Django takes to load.
        from usercast import healthy

        sys.exit(healthy.main(sys.argv[2:]))

    from usercast import startup

    startup.configure("usercast_client.settings")
    from django.core.management import execute_from_command_line

    with startup.one_clear_line():
        execute_from_command_line(sys.argv)
