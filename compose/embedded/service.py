"""One deployed service: where it lives, what it is told, and the secrets it keeps over restarts."""

import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from string import ascii_letters, digits

from embedded.ports import LOOPBACK, loopback_url
from embedded.private_files import write_json
from embedded.process import STACK_VARIABLE
from embedded.servers import REPOSITORY

MASTER = "master"
REGION = "eu-west-1"
TOPIC_ARN = f"arn:aws:sns:{REGION}:000000000000:usercast-users"

# A developer's own settings would send the demo to another database or another AWS account.
_FOREIGN_PREFIXES = (
    "AWS_",
    "BOTO",
    "PG",
    "DJANGO_",
    "CELERY_",
    "USERCAST_",
    "GUNICORN_",
    "UVICORN_",
    "METRICS_",
    "LOG_",
    "OTEL_",
    "PROMETHEUS_",
)
_FOREIGN_NAMES = {
    *("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DEBUG", "BIND", "PORT", "ALLOWED_HOSTS"),
    *("HTTPS", "HSTS_SECONDS", "TRUSTED_PROXIES", "TZ"),
}


@dataclass(frozen=True)
class Secrets:
    """What a service must find unchanged at its next start."""

    secret_key: str
    operator_password: str
    #: Of a replicated user who can sign in; the master has none.
    member_password: str

    @classmethod
    def new(cls) -> "Secrets":
        """Fresh random secrets."""
        return cls(
            secret_key=secrets.token_urlsafe(48),
            operator_password=_password(),
            member_password=_password(),
        )


@dataclass(frozen=True)
class Service:
    """The master or one client, with its own database and its own Redis database.

    Args:
        name: ``master``, or the client's name.
        database_url: its PostgreSQL database.
        redis_url: its Valkey database, number included.
        aws_url: where SNS, SQS and CloudFormation answer.
        state_dir: files of its own, such as Celery beat's schedule.
        master_url: where the master answers.
    """

    name: str
    port: int
    database_url: str
    redis_url: str
    aws_url: str
    state_dir: Path
    secrets: Secrets
    master_url: str

    @property
    def is_master(self) -> bool:
        """Whether it owns the users, rather than being a client."""
        return self.name == MASTER

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return loopback_url(self.port)

    @property
    def token_file(self) -> Path:
        """Where a client's token for the master's API is, once it has been registered."""
        return self.state_dir / "master.token"

    @property
    def directory(self) -> Path:
        """The directory of its manage.py."""
        return directory_of(self.name)

    @property
    def operator(self) -> str:
        """The user name of its local superuser."""
        return "admin" if self.is_master else f"{self.name}-staff"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables it is configured by; a client's token from its file."""
        package = "usercast_master" if self.is_master else "usercast_client"
        common = {
            "DJANGO_SETTINGS_MODULE": f"{package}.settings",
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SECRET_KEY": self.secrets.secret_key,
            "ALLOWED_HOSTS": f"{LOOPBACK},localhost",
            "HTTPS": "false",  # Nothing leaves the loopback interface.
            "USERCAST_MASTER_URL": self.master_url,
            "BIND": LOOPBACK,
            "PORT": str(self.port),
            "USERCAST_RUN_DIR": str(self.state_dir / "run"),
            **aws_variables(self.aws_url),
        }
        if self.is_master:
            # One token makes all the traffic of demo, tests and benchmarks.
            return {**common, "API_READ_RATE": "1000000/min", "API_WRITE_RATE": "1000000/min"}
        origins = f"{self.url},http://localhost:{self.port}"
        own = {
            "USERCAST_CLIENT": self.name,
            "ALLOWED_ORIGINS": origins,
            # Somebody may watch, and there are few users.
            "USERCAST_COMPARE_SECONDS": "10",
        }
        if self.token_file.exists():
            own["USERCAST_MASTER_TOKEN"] = self.token_file.read_text()
        return {**common, **own}

    def environment(self, stack_dir: Path) -> dict[str, str]:
        """The whole environment of its processes and commands.

        Args:
            stack_dir: marks them as part of that stack.
        """
        return {
            **_inherited(),
            **self.variables,
            "STATE_DIR": str(self.state_dir),
            STACK_VARIABLE: str(stack_dir),
        }


def directory_of(name: str) -> Path:
    """The directory of the master's manage.py and Procfile, or of those of every client."""
    return REPOSITORY / ("master-service" if name == MASTER else "client-service")


def aws_variables(url: str) -> dict[str, str]:
    """What boto3 and the services need to use the AWS stand-in at ``url``."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        # A profile of the developer's could name another endpoint or retry mode.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        # boto3 would send even this to a proxy of the environment's.
        "NO_PROXY": f"{LOOPBACK},localhost",
        "no_proxy": f"{LOOPBACK},localhost",
        "USERCAST_TOPIC_ARN": TOPIC_ARN,
    }


def kept_secrets(path: Path, names: list[str]) -> dict[str, Secrets]:
    """The secrets of each named service from ``path``; missing ones are added to it, mode 0600."""
    known = json.loads(path.read_text()) if path.exists() else {}
    # An earlier version may have known fewer of them.
    kept = {name: vars(Secrets.new()) | known.get(name, {}) for name in names}
    if known | kept != known:
        write_json(path, known | kept)
    return {name: Secrets(**values) for name, values in kept.items()}


def _password() -> str:
    # Letters and digits only: a double click selects it whole.
    return "".join(secrets.choice(ascii_letters + digits) for _ in range(14))


def _inherited() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN_PREFIXES) and name not in _FOREIGN_NAMES
    }
    # The commands of the Procfiles must be those of this very environment, and processes run in
    # other directories than this one: relative entries would lead nowhere.
    programs = Path(sys.executable).absolute().parent
    search = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    modules = [str(REPOSITORY / "compose"), *(str(Path(entry).absolute()) for entry in search)]
    return {
        **kept,
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(modules)),
        "PYTHONUNBUFFERED": "1",
    }
