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
        child = self._start(service, ["python", *arguments], variables)
        try:
            output, errors = child.communicate()
        finally:
            with self._lock:
                self._running.discard(child)
        if child.returncode:
            tail = "\n".join(f"    {line}" for line in (output + errors).splitlines()[-20:])
            raise CommandFailed(
                f"`{' '.join(arguments)}` of {service.name} failed "
                f"(exit status {child.returncode}):\n{tail}"
            )
        return output

    def abort(self) -> None:
        """End all running commands and refuse to start others."""
        with self._lock:
            self._aborted = True
            running = list(self._running)
        for child in running:
            with suppress(ProcessLookupError):
                child.kill()

    def _start(
        self, service: Service, command: Sequence[str], variables: dict[str, str]
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
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # The terminal's ctrl-C is for the stack, which then ends its commands itself.
                start_new_session=True,
            )
            self._running.add(child)
        return child
