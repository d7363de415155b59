"""Running the set-up commands of services, many at once, and ending them when one fails."""

import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from embedded.errors import CommandFailed
from embedded.service import Service


class Commands:
    """Runs commands in their service's directory and environment; ``abort`` ends them all.

    Args:
        stack_dir: marks the commands as part of that stack.
    """

    def __init__(self, stack_dir: Path) -> None:
        self._stack_dir = stack_dir
        self._running: set[subprocess.Popen[str]] = set()
        self._aborted = False
        self._lock = threading.Lock()

    def manage(self, service: Service, *arguments: str, **variables: str) -> str:
        """Run ``manage.py`` of a service with these arguments and return what it printed.

        Args:
            variables: added to its environment.

        Raises:
            CommandFailed: it ended with an error; the message holds the end of its output.
        """
        return self.python(service, "manage.py", *arguments, **variables)

    def python(self, service: Service, *arguments: str, **variables: str) -> str:
        """Run Python with these arguments in a service's place; otherwise as ``manage``."""
        status, output, errors = self._run(service, arguments, variables, captured=True)
        if status:
            tail = "\n".join(f"    {line}" for line in (output + errors).splitlines()[-20:])
            raise CommandFailed(f"{_failure(service, arguments, status)}:\n{tail}")
        return output

    def show(self, service: Service, *arguments: str, **variables: str) -> None:
        """Run ``manage.py`` of a service with its output on this terminal.

        Raises:
            CommandFailed: it ended with an error, which stands there too.
        """
        command = ("manage.py", *arguments)
        status, *_ = self._run(service, command, variables, captured=False)
        if status:
            raise CommandFailed(f"{_failure(service, command, status)}; it said why above.")

    def abort(self) -> None:
        """End all running commands and refuse to start others."""
        with self._lock:
            self._aborted = True
            running = list(self._running)
        for child in running:
            with suppress(ProcessLookupError):
                child.kill()

    def _run(
        self,
        service: Service,
        arguments: Sequence[str],
        variables: dict[str, str],
        *,
        captured: bool,
    ) -> tuple[int, str, str]:
        child = self._start(service, ["python", *arguments], variables, captured=captured)
        try:
            output, errors = child.communicate()
        finally:
            with self._lock:
                self._running.discard(child)
        return child.returncode, output, errors

    def _start(
        self,
        service: Service,
        command: Sequence[str],
        variables: dict[str, str],
        *,
        captured: bool,
    ) -> subprocess.Popen[str]:
        environment = {**service.environment(self._stack_dir), **variables}
        with self._lock:
            if self._aborted:
                raise CommandFailed(f"{service.name} is not set up: the stack is stopping.")
            child = subprocess.Popen(
                command,
                env=environment,
                cwd=service.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if captured else None,
                stderr=subprocess.PIPE if captured else None,
                text=True,
                # The terminal's ctrl-C is for the stack, which then ends its commands itself.
                start_new_session=True,
            )
            self._running.add(child)
        return child


def _failure(service: Service, arguments: Sequence[str], status: int) -> str:
    return f"`{' '.join(arguments)}` of {service.name} failed (exit status {status})"
