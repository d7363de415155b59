"""A stack's processes under Honcho in this terminal, until ctrl-C or until one of them ends."""

import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

from honcho.manager import Manager
from rich.console import Console
from rich.text import Text

from embedded.console import ProcessOutput
from embedded.errors import ProcessDied
from embedded.process import log_tail
from embedded.readiness import Readiness
from embedded.stack import Stack
from usercast.errors import UsercastError


def in_terminal(name: str, run: Callable[[Console], None]) -> int:
    """Run a program of this terminal's; 0 when the user stopped it, 1 when something else did."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    # The way out is the same for a terminal's ctrl-C and for a SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(console)
    except KeyboardInterrupt:
        pass
    except UsercastError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            Text.assemble((f"{name}: ", "bold red"), str(error))
        )
        return 1
    console.print("Stopped.")
    return 0


def set_logs_aside(state_dir: Path) -> None:
    """Begin new logs: each run's tell of that run only.

    The last one's stay, for whoever asks why it crashed.
    """
    logs, previous = state_dir / "logs", state_dir / "logs.previous"
    if logs.exists():
        shutil.rmtree(previous, ignore_errors=True)
        logs.rename(previous)


def keep_running(
    stack: Stack, console: Console, *, on_ready: Callable[[threading.Event], None]
) -> None:
    """Run every process of the stack; return when the user has stopped them.

    Args:
        on_ready: called in a thread once all do their work, with what is set when the end begins.

    Raises:
        ProcessDied: one ended by itself, so that all were stopped.
        StackError: one was not ready in time.
    """
    logs = {name: stack.log(name) for name in stack.processes}
    for log in logs.values():
        log.parent.mkdir(parents=True, exist_ok=True)
    output = ProcessOutput(console, logs)
    readiness = Readiness(
        stack,
        has_spoken=output.has_spoken,
        cancelled=output.stopping,
        on_ready=lambda: on_ready(output.stopping),
    )
    output.on_started = readiness.watch
    manager = Manager(printer=output)
    for spec in stack.processes.values():
        manager.add_process(spec.name, spec.command, env=spec.env, cwd=str(spec.cwd))
    manager.loop()
    output.close()
    if output.first_stopped:
        name, status = output.first_stopped
        raise ProcessDied(
            f"{name} ended by itself (exit status {status}), so everything was stopped. "
            f"The end of {logs[name]}:\n{log_tail(logs[name])}"
        )
    if readiness.failure:
        raise readiness.failure
