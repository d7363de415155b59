"""Settings from the environment: ``NAME``, or ``NAME_FILE`` naming a mounted secret, never both."""

import os
from typing import Any

from environs import FileAwareEnv

from usercast.errors import ConfigurationError


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

    def _get_value(self, env_key: str, default: Any) -> Any:
        file_key = f"{env_key}{self.file_suffix}"
        if os.environ.get(env_key) and os.environ.get(file_key):
            raise ConfigurationError(f"{env_key} and {file_key} are both set: keep one of them")
        if not os.environ.get(env_key) and not os.environ.get(file_key):
            return default
        try:
            return super()._get_value(env_key, default)
        except ValueError as error:
            raise ConfigurationError(
                f"{file_key}: cannot read {os.environ[file_key]!r}; it must name a readable file"
            ) from error
