"""What can be wrong with a file as a whole; what is wrong with a row is a ``RowError``."""

from usercast.errors import UsercastError


class UnusableFile(UsercastError):
    """The file cannot be imported; the text says why and what to do."""


class TakenOver(UsercastError):
    """The import was cancelled, or another worker goes on with it: this one must let go."""
