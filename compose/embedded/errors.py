"""What can go wrong with the embedded stack; each message says what to do next."""

from usercast.errors import UsercastError


class StackError(UsercastError):
    """The embedded stack cannot go on."""


class ServerFailed(StackError):
    """PostgreSQL, Valkey or LocalStack did not come up."""


class CommandFailed(StackError):
    """A set-up command of a service ended with an error."""


class ProcessDied(StackError):
    """A process of a service ended by itself."""


class PortTaken(StackError):
    """A port of the demo belongs to another program."""


class BadSetting(StackError):
    """An environment variable has a value that makes no sense."""


class AlreadyRunning(StackError):
    """The demo of this state directory is running."""


class DemoNotRunning(StackError):
    """The demo is not running: start it with `make demo` first."""
