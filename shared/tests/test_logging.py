"""What a process writes when its output is no terminal: a line an event, also a failure's."""

import subprocess
import sys

SCRIPT = """
import logging, logging.config
from usercast.logging import logging_config
logging.config.dictConfig(logging_config(logging.INFO))
import structlog
structlog.get_logger("ours").info("applied", changes=2)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("theirs").critical("Unrecoverable", exc_info=True)
"""


def test_line_an_event_with_the_whole_traceback_of_a_librarys_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True
    )
    ours, theirs = done.stderr.splitlines()
    assert "event=applied" in ours
    assert "changes=2" in ours
    assert "event=Unrecoverable" in theirs
    assert "ZeroDivisionError: division by zero" in theirs
    assert "line 8, in <module>" in theirs
