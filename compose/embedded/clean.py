"""``make clean``: end a demo that runs, or what a crashed one left, and remove all its state."""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from embedded.demo import STATE_DIR
from embedded.errors import AlreadyRunning
from embedded.leftovers import end_leftovers, locked

STOP_SECONDS = 30.0


def main() -> int:
    """Leave no process and no file of the demo behind; 1 when a running one does not stop."""
    if not STATE_DIR.exists():
        return 0
    deadline = time.monotonic() + STOP_SECONDS
    asked = False
    while True:
        try:
            with locked(STATE_DIR):
                end_leftovers(STATE_DIR)
                shutil.rmtree(STATE_DIR)
            return 0
        except AlreadyRunning as error:
            if time.monotonic() > deadline:
                print(f"clean: {error}", file=sys.stderr)
                return 1
        if not asked:
            asked = _ask_to_stop(STATE_DIR / "lock")
        time.sleep(0.1)


def _ask_to_stop(lock: Path) -> bool:
    with suppress(ValueError, ProcessLookupError):
        os.kill(int(lock.read_text()), signal.SIGTERM)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
