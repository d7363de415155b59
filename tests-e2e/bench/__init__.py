"""``make bench``: how fast Usercast is and what it costs, measured on this machine."""
