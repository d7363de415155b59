"""``KILLS=30 SEED=… python -m chaos``: start the system, load it, break it, and judge what is left.

Exits with 0 if nothing was lost and nothing went wrong, with 1 otherwise; the state directory is
then kept and named.
"""

import os
import random
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from chaos.report import show, write
from chaos.run import Run
from embedded.errors import BadSetting
from embedded.servers import REPOSITORY
from usercast.errors import UsercastError

RESULT = REPOSITORY / ".chaos" / "result.json"
DEFAULT_KILLS = 30
MAX_KILLS = 10_000


def main() -> int:
    """Run once, as the environment says."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        seed = _number("SEED", default=random.randrange(1, 1_000_000), most=2**63)
        kills = _number("KILLS", default=DEFAULT_KILLS, most=MAX_KILLS)
    except BadSetting as error:
        return _failed(console, error)
    state_dir = Path(tempfile.mkdtemp(prefix="usercast-chaos-"))
    try:
        with Run(state_dir, console, seed=seed, kills=kills) as run:
            result = run.whole()
    except KeyboardInterrupt:
        shutil.rmtree(state_dir, ignore_errors=True)
        console.print("Stopped.")
        return 130
    except (UsercastError, AssertionError) as error:
        console.print(f"Databases and logs are kept in {state_dir}", style="bold")
        return _failed(console, error)
    write(result, RESULT)
    show(result, console)
    if result.is_clean:
        shutil.rmtree(state_dir, ignore_errors=True)
        return 0
    console.print(f"Databases and logs are kept in {state_dir}", style="bold")
    return 1


def _failed(console: Console, error: Exception) -> int:
    console.print(Text.assemble(("chaos: ", "bold red"), str(error)))
    return 1


def _number(name: str, *, default: int, most: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise BadSetting(f"{name} is {text!r}: give it a number from 1 to {most}.")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
