"""What each mode does to a connection through the proxy."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from chaos.proxy import FaultProxy, Mode
from embedded.ports import LOOPBACK

DELAY_SECONDS = 0.2


class Echo(socketserver.StreamRequestHandler):
    """Sends every line back."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that was reset is what is wanted here."""


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with Server((LOOPBACK, 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        proxy = FaultProxy(server.server_address[1])
        yield proxy
        proxy.close()
        server.shutdown()
        thread.join()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((LOOPBACK, proxy.port), timeout=5)


def echo(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(100)


def test_bytes_pass(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echo(connection, b"one\n") == b"one\n"


def test_end_of_a_connection_passes(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        echo(connection, b"one\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""


def test_delay_holds_back_each_way(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        proxy.set(Mode.DELAY, delay_seconds=DELAY_SECONDS)
        began = time.monotonic()
        assert echo(connection, b"one\n") == b"one\n"
        assert time.monotonic() - began >= 2 * DELAY_SECONDS


def test_reset_ends_old_connections_and_new_ones(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echo(connection, b"one\n") == b"one\n"
        proxy.set(Mode.RESET)
        with pytest.raises(ConnectionResetError):
            connection.recv(100)
    with pytest.raises(ConnectionResetError), connect(proxy) as connection:
        connection.recv(100)
    proxy.set(Mode.PASS)
    with connect(proxy) as connection:
        assert echo(connection, b"two\n") == b"two\n"


def test_blackhole_swallows_and_its_connections_are_of_no_use_afterwards(
    proxy: FaultProxy,
) -> None:
    with connect(proxy) as old:
        assert echo(old, b"one\n") == b"one\n"
        proxy.set(Mode.BLACKHOLE)
        with connect(proxy) as new:
            for connection in (old, new):
                connection.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    echo(connection, b"two\n")
                connection.settimeout(5)
            proxy.set(Mode.PASS)
            for connection in (old, new):
                with pytest.raises(ConnectionResetError):
                    connection.recv(100)
    with connect(proxy) as connection:
        assert echo(connection, b"three\n") == b"three\n"


def test_blackhole_leaves_a_silent_connection_alone(proxy: FaultProxy) -> None:
    with connect(proxy) as connection:
        assert echo(connection, b"one\n") == b"one\n"
        proxy.set(Mode.BLACKHOLE)
        proxy.set(Mode.PASS)
        assert echo(connection, b"two\n") == b"two\n"


def test_server_that_is_away_resets(proxy: FaultProxy) -> None:
    nobody = FaultProxy(1)  # a port that nothing listens on
    # The reset may come as early as with the connection.
    with pytest.raises(ConnectionResetError), connect(nobody) as connection:
        connection.recv(100)
    nobody.close()
