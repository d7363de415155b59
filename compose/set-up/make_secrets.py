"""Makes what is missing of a development system's secrets, a file each.

Of the two directories given, the first is for the services, the second for what observes them.
They are volumes that only compose.yaml's containers have; production's secrets are made by
infra/swarm.
"""

import os
import secrets
import sys
from pathlib import Path

SERVICES = ("master", "billing", "support")
#: The images' user, who adds tokens and logins to them.
USER = 10001


def main(services: Path, observability: Path) -> None:
    """Files that are there stay as they are: databases and sessions hang on them."""
    os.chown(services, USER, USER)
    keep(services / "postgres.password")
    keep(observability / "metrics.token", keep(services / "metrics.token"))
    keep(observability / "grafana.password")
    for name in SERVICES:
        keep(services / f"{name}.key")
        keep(services / f"{name}.operator")
        password = keep(services / f"{name}.password")
        keep(services / f"{name}.database", f"postgres://{name}:{password}@postgres:5432/{name}")


def keep(path: Path, value: str | None = None) -> str:
    """What the file holds; if there is none, the value or a new secret, which it holds then."""
    if not path.exists():
        # Under its name only when it is whole.
        unfinished = path.with_name(f".{path.name}")
        unfinished.write_text(value or secrets.token_hex(24))
        # Servers of other users read some of them, and only containers have the volume.
        unfinished.chmod(0o444)
        unfinished.rename(path)
    return path.read_text()


main(*map(Path, sys.argv[1:]))
