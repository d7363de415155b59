"""``make screenshots``: starts a system, brings its pages into their states, writes docs/images."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from embedded.screenshots import accidents, dashboard, desk, operations, person, propagation
from embedded.screenshots.looks import chromium
from embedded.screenshots.stage import PAGE_SECONDS, Stage
from embedded.screenshots.system import running_system
from embedded.servers import REPOSITORY
from usercast.errors import UsercastError

IMAGES = REPOSITORY / "docs" / "images"

BEFORE_THE_USERS: tuple[Callable[[Stage], None], ...] = (
    person.take_sign_in,
    dashboard.take_empty,
)
#: Each finds the users as those before it have left them.
WITH_USERS: tuple[Callable[[Stage], None], ...] = (
    propagation.take,
    dashboard.take_changes,
    person.take_user,
    person.take_own,
    dashboard.take_no_match,
    accidents.take_reconnecting,
    accidents.take_stale,
    accidents.take_ended,
    desk.take_glance,
    desk.take_clients,
    desk.take_users,
    desk.take_dismissal,
    desk.take_import,
    desk.take_documentation,
    dashboard.take_import,
    operations.take_alerts,
)


def take_all() -> dict[str, bytes]:
    """All pictures, by file name.

    Raises:
        UsercastError: there is no browser, or the system did not come up.
        AssertionError: a page did not get into a state within 30 s.
    """
    expect.set_options(timeout=PAGE_SECONDS * 1000)
    # The browser first: without one, nothing need be started.
    with chromium() as browser, running_system() as deployment:
        stage = Stage(deployment, browser)
        for take in BEFORE_THE_USERS:
            take(stage)
        deployment.seed()
        for take in WITH_USERS:
            take(stage)
    return stage.pictures


def write(pictures: dict[str, bytes], directory: Path) -> None:
    """Put the pictures into the directory, in place of those of the same names."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        (directory / name).write_bytes(picture)
        print(f"{len(picture) // 1000:6d} kB  {name}")


def main() -> int:
    """Write the pictures; 0 when all are there, 1 when one could not be taken."""
    # The way out is the same for a terminal's ctrl-C and for a SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        pictures = take_all()
    except UsercastError as error:
        print(f"screenshots: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("screenshots: stopped; the pictures are as they were.", file=sys.stderr)
        return 1
    write(pictures, IMAGES)
    total = sum(map(len, pictures.values()))
    print(f"{len(pictures)} pictures in {IMAGES.relative_to(REPOSITORY)}, {total // 1000} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
