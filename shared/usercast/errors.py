"""Every error Usercast raises on purpose, named by its cause."""


class UsercastError(Exception):
    """Something in Usercast failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class ConfigurationError(UsercastError):
    """A setting is missing, malformed, or names something that cannot be reached."""


class ContractError(UsercastError):
    """A message or a change does not follow the wire contract; sending it again will not help."""


class MarkedOutsideTransaction(UsercastError):
    """A user's change was marked outside a transaction: wrap the write in transaction.atomic()."""


class PublishFailed(UsercastError):
    """SNS could not be asked to publish; every claimed entry was released and stays due."""


class TopologyError(UsercastError):
    """CloudFormation could not bring a stack to the state its template describes."""
