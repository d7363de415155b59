"""Ports on the loopback interface: a free one, whether a wanted one is free, what answers there."""

import errno
import http.client
import os
import socket
from collections.abc import Mapping, Sequence
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from embedded.errors import BadSetting, PortTaken

LOOPBACK = "127.0.0.1"
BASE_PORT_VARIABLE = "USERCAST_BASE_PORT"
DEFAULT_BASE_PORT = 8000


def free_port() -> int:
    """A port of the loopback interface that nothing listens on, chosen by the system."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def loopback_url(port: int) -> str:
    """Where a browser on this machine finds the web server on ``port``."""
    return f"http://{LOOPBACK}:{port}"


def first_free(ports: Sequence[int]) -> int:
    """The first of these that no program listens on.

    Raises:
        PortTaken: all are taken.
    """
    for port in ports:
        if _is_free(port):
            return port
    raise PortTaken(
        f"No port of {LOOPBACK} from {min(ports)} to {max(ports)} is free: end some of the "
        f"programs that listen there, or move the demo: {BASE_PORT_VARIABLE}=8100 make demo"
    )


def listens(port: int) -> bool:
    """Whether a program listens on this port, however busy it is."""
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex((LOOPBACK, port)) == 0


def base_port() -> int:
    """The master's port; the clients have the ones after it.

    Raises:
        BadSetting: ``USERCAST_BASE_PORT`` is no number from 1024 to 65533.
    """
    text = os.environ.get(BASE_PORT_VARIABLE) or str(DEFAULT_BASE_PORT)
    if not text.isascii() or not text.isdigit() or not 1024 <= int(text) <= 65533:
        raise BadSetting(f"{BASE_PORT_VARIABLE} is {text!r}: give it a number from 1024 to 65533.")
    return int(text)


def check_free(ports: Mapping[str, int]) -> None:
    """Make sure that every service can have its port.

    Raises:
        PortTaken: names each port that another program listens on, and the way out.
    """
    taken = [f"{port} ({name})" for name, port in ports.items() if not _is_free(port)]
    if taken:
        several = len(taken) > 1
        raise PortTaken(
            f"Port{'s' if several else ''} {', '.join(taken)} of {LOOPBACK} "
            f"{'are' if several else 'is'} taken by another program. "
            f"End it, or move the demo: {BASE_PORT_VARIABLE}=8100 make demo"
        )


def http_answers(url: str) -> bool:
    """Whether a web server takes requests at ``url``: anything but a server error will do."""
    # No proxy of the environment's: the server is on this machine.
    opener = build_opener(ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return True
    except HTTPError as error:
        return error.code < 500
    except (OSError, http.client.HTTPException):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the web servers do; without it, connections that linger after a stop look like a
        # program that listens.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
