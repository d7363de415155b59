"""Settings from the environment: ``NAME``, or ``NAME_FILE`` naming a mounted secret, never both."""

import os
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from environs import FileAwareEnv

from usercast.errors import ConfigurationError


@dataclass(frozen=True)
class Given:
    """What a variable was given as: the file it came from, if it was one; None where it was not."""

    value: str | None
    file: str | None = None


class Environment(FileAwareEnv):
    """Typed reading of environment variables; each error names its variable.

    ``env.str("SECRET_KEY")`` reads ``SECRET_KEY``, or the file that ``SECRET_KEY_FILE`` names
    (Docker and Kubernetes mount secrets so). An empty value counts as unset.

    Raises:
        environs.EnvError: the variable is missing or malformed.
        ConfigurationError: it is given in both ways, or its file cannot be read.
    """

    def __init__(self) -> None:
        super().__init__(strip_whitespace=True)
        #: What has been asked for: by each variable's name, what it was given as.
        self.given: dict[str, Given] = {}

    def database(self, name: str, *, conn_max_age_seconds: int) -> dict[str, Any]:
        """A Django database from its URL, on connections that notice a server gone silent."""
        database: dict[str, Any] = {**self.dj_db_url(name, conn_max_age=conn_max_age_seconds)}
        # Django's, with its connections and statements counted for ``usercast.metrics``.
        database["ENGINE"] = "django_prometheus.db.backends.postgresql"
        database["CONN_HEALTH_CHECKS"] = True
        database["OPTIONS"] = {
            "connect_timeout": 3,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 30_000,  # ms
            **database.get("OPTIONS", {}),
        }
        return database

    def redis_url(self, name: str) -> str:
        """The URL of a Redis or Valkey server, its database's number included."""
        schemes = ["redis", "rediss"]
        return str(self.url(name, schemes=schemes, require_tld=False).geturl())  # type: ignore[call-overload]

    def time_zone(self, name: str, default: str) -> str:
        """The name of a time zone, such as ``Europe/Madrid``."""
        zone: str = self.str(name, default)
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ConfigurationError(
                f"{name}: there is no time zone {zone!r}; use a name such as Europe/Madrid"
            ) from None
        return zone

    def _get_value(self, env_key: str, default: Any) -> Any:
        file_key = f"{env_key}{self.file_suffix}"
        if os.environ.get(env_key) and os.environ.get(file_key):
            raise ConfigurationError(f"{env_key} and {file_key} are both set: keep one of them")
        if not os.environ.get(env_key) and not os.environ.get(file_key):
            self.given[env_key] = Given(None)
            return default
        try:
            value = super()._get_value(env_key, default)
        except ValueError as error:
            raise ConfigurationError(
                f"{file_key}: cannot read {os.environ[file_key]!r}; it must name a readable file"
            ) from error
        self.given[env_key] = Given(value, os.environ.get(file_key))
        return value
