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


#: Errors whose words say what is wrong without quoting what somebody wrote.
_SPEAKABLE = (
    "usercast.",
    "botocore.",
    "redis.",
    "kombu.",
    "httpx.",
    "environs.",
    "msgspec.",
    "django.core.exceptions.ImproperlyConfigured",
    "django.core.management.base.CommandError",
)
#: Of the database: what the server says about itself, or names a constraint by. The lines after the
#: first quote rows.
_DATABASES = ("OperationalError", "InterfaceError", "IntegrityError", "ProgrammingError")


def reason(error: BaseException) -> str:
    """An error's words for a log: one line, without anything that a user or caller wrote.

    Of errors that may quote such values (a ``DataError``, a ``KeyError``, any that is not known
    here) there is only the name of the class: where it came from, the stack trace tells.
    """
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    words = " ".join(str(error).split())
    if any(name.startswith(_SPEAKABLE) for name in names):
        return words or type(error).__qualname__
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__qualname__}: {error.strerror}"
    is_database = names[0].startswith(("django.db.", "psycopg2."))
    if is_database and type(error).__qualname__ in _DATABASES:
        return str(error).strip().partition("\n")[0] or type(error).__qualname__
    return type(error).__qualname__
