"""A crowd of WebSockets: opens them, reads them, and notes when each frame reached each of them.

A program of its own, so that reading takes nothing from the process that is measured. It speaks no
more of the protocol than reading needs: with a client library it would take more CPU time than the
server, and be what is measured. ``bench.crowd`` starts it and talks to it in lines of JSON.
"""

import base64
import gc
import json
import os
import select
import socket
import sys
import time
from collections import Counter
from datetime import datetime

import msgspec
from msgspec import Struct, field

#: Handshakes under way at a time, as of pages that come back one after the other.
AT_ONCE = 32
RECEIVE_BYTES = 65_536
#: It reads what came within this; a frame's arrival is known no better.
LOOK_SECONDS = 0.0005
_TEXT, _CLOSE, _PING, _PONG = 0x1, 0x8, 0x9, 0xA


class Frame(Struct):
    """A frame that reached the crowd: which changes it tells of, and when each socket had it."""

    kind: str
    cursor: int
    #: The first change of those it holds; after ``cursor`` if it holds none.
    first: int
    #: When its content came to be: a tick's time, or when its first change was applied.
    made_at: float | None
    arrivals: list[float] = field(default_factory=list)


class Account(Struct):
    """What has come since the last account was given."""

    frames: list[Frame]
    #: By all sockets together, frames of any kind.
    received: int
    received_bytes: int
    #: Changes, summed over the sockets: never told of, told twice, told after a later one, and told
    #: by a cursor alone, as bulk writes are.
    lost: int
    repeated: int
    overtaken: int
    announced: int
    #: Sockets that the server closed, by code.
    closed: dict[int, int]
    #: This program's own.
    cpu_seconds: float


class Member:
    """One WebSocket and how far it has got."""

    __slots__ = ("connection", "cursor", "is_upgraded", "passed_over", "rest")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.is_upgraded = False
        self.cursor: int | None = None
        #: Changes before the cursor that it has not been told of.
        self.passed_over: set[int] = set()
        self.rest = b""


class Crowd:
    """All WebSockets of this process, and the one who asks for them, on standard input."""

    def __init__(self, host: str, port: int, headers: dict[str, str]) -> None:
        self._address = (host, port)
        self._request = _request(f"{host}:{port}", headers)
        self._members: dict[int, Member] = {}
        self._epoll = select.epoll()
        self._epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        self._wanted = self._opened = 0
        self._frames: dict[bytes, Frame] = {}
        self._begin_account()

    def serve(self) -> None:
        """Read until standard input ends."""
        while True:
            for number, _ in self._epoll.poll():
                if number != sys.stdin.fileno():
                    self._read(self._members[number])
                elif not self._obey(sys.stdin.readline()):
                    return
            time.sleep(LOOK_SECONDS)

    def _obey(self, line: str) -> bool:
        if not line:
            return False
        command, *parameters = json.loads(line)
        if command == "open":
            self._wanted = parameters[0]
            self._open_more()
        elif command == "slowest":
            _answer(min((member.cursor or 0 for member in self._members.values()), default=None))
        else:
            _answer(self._account())
        return True

    # Opening

    def _open_more(self) -> None:
        while len(self._members) < min(self._wanted, self._opened + AT_ONCE):
            connection = socket.create_connection(self._address)
            connection.setblocking(False)
            connection.send(self._request)
            self._members[connection.fileno()] = Member(connection)
            self._epoll.register(connection.fileno(), select.EPOLLIN)

    def _greeted(self, member: Member, cursor: int) -> None:
        member.cursor = cursor
        self._opened += 1
        if self._opened == self._wanted:
            _answer(self._opened)
        self._open_more()

    def _upgraded(self, member: Member, data: bytes) -> bytes:
        """What follows the answer to the handshake."""
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            member.rest = data
            return b""
        if not head.startswith(b"HTTP/1.1 101 "):
            sys.exit(f"The client refused a socket: {head.splitlines()[0].decode()}")
        if b"permessage-deflate" in head:
            sys.exit("The client compresses frames, which this crowd does not read.")
        member.is_upgraded = True
        return rest

    # Reading

    def _read(self, member: Member) -> None:
        try:
            data = member.connection.recv(RECEIVE_BYTES)
        except ConnectionError:
            data = b""
        now = time.time()
        if not data:
            self._gone(member, code=1006)
            return
        self._received_bytes += len(data)
        data = member.rest + data
        member.rest = b""
        if not member.is_upgraded:
            data = self._upgraded(member, data)
        end = 0
        while (bounds := _payload(data, end)) is not None:
            opcode = data[end] & 0xF
            start, end = bounds
            self._take(member, opcode, data[start:end], now)
        if end < len(data):
            member.rest = data[end:]

    def _take(self, member: Member, opcode: int, payload: bytes, now: float) -> None:
        if opcode == _TEXT:
            self._note(member, payload, now)
        elif opcode == _PING:
            member.connection.send(_masked(_PONG, payload))
        elif opcode == _CLOSE:
            self._gone(member, code=int.from_bytes(payload[:2]))

    def _note(self, member: Member, payload: bytes, now: float) -> None:
        # All sockets get the same bytes: only the first ones are decoded.
        frame = self._frames.get(payload)
        if frame is None:
            frame = self._frames[payload] = _frame(payload)
        self._received += 1
        frame.arrivals.append(now)
        if frame.kind == "changes":
            if frame.first != member.cursor + 1:
                self._out_of_line(member, frame)
            member.cursor = max(member.cursor, frame.cursor)
        elif frame.kind == "hello":
            self._greeted(member, frame.cursor)

    def _out_of_line(self, member: Member, frame: Frame) -> None:
        if frame.first > frame.cursor:
            self._announced += max(0, frame.cursor - member.cursor)
            return
        member.passed_over.update(range(member.cursor + 1, frame.first))
        for cursor in range(frame.first, min(member.cursor, frame.cursor) + 1):
            if cursor in member.passed_over:
                member.passed_over.remove(cursor)
                self._overtaken += 1
            else:
                self._repeated += 1

    def _gone(self, member: Member, *, code: int) -> None:
        if self._members.pop(member.connection.fileno(), None) is not None:
            if member.cursor is None:
                sys.exit(f"The client closed a socket at once, with {code}.")
            self._closed[code] += 1
            self._epoll.unregister(member.connection)
            member.connection.close()

    # Giving account

    def _begin_account(self) -> None:
        self._received = self._received_bytes = 0
        self._repeated = self._overtaken = self._announced = 0
        self._closed: Counter[int] = Counter()
        self._frames.clear()
        self._cpu_seconds_before = time.process_time()

    def _account(self) -> Account:
        account = Account(
            frames=[frame for frame in self._frames.values() if frame.kind != "hello"],
            received=self._received,
            received_bytes=self._received_bytes,
            lost=sum(len(member.passed_over) for member in self._members.values()),
            repeated=self._repeated,
            overtaken=self._overtaken,
            announced=self._announced,
            closed=dict(self._closed),
            cpu_seconds=time.process_time() - self._cpu_seconds_before,
        )
        self._begin_account()
        return account


def _request(host: str, headers: dict[str, str]) -> bytes:
    lines = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
        **headers,
    }
    fields = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"GET /ws/live/ HTTP/1.1\r\n{fields}\r\n".encode()


def _payload(data: bytes, begin: int) -> tuple[int, int] | None:
    """Where the payload of the frame that begins there lies; None while it is not all there."""
    if len(data) < begin + 2:
        return None
    size, start = data[begin + 1], begin + 2
    if size >= 126:  # a server's frames are not masked, so this byte is the size alone
        start += 2 if size == 126 else 8
        size = int.from_bytes(data[begin + 2 : start])
    return (start, start + size) if start + size <= len(data) else None


def _masked(opcode: int, payload: bytes) -> bytes:
    """A short frame of a browser's, masked with zeros."""
    return bytes([0x80 | opcode, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def _frame(payload: bytes) -> Frame:
    message = json.loads(payload)
    cursor = message.get("cursor", 0)  # how to spread fetches, say, has none
    oldest = next(iter(message.get("changes", [])), {})
    made_at = message.get("time") or oldest.get("applied_at")
    return Frame(
        kind=message["type"],
        cursor=cursor,
        first=oldest.get("cursor", cursor + 1),
        made_at=made_at and datetime.fromisoformat(made_at).timestamp(),
    )


def _answer(answer: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    gc.disable()  # nothing here refers to itself
    host, port, headers = json.loads(sys.stdin.readline())
    crowd = Crowd(host, port, headers)
    _answer("ready")  # one line at a time: what Python has read ahead, epoll does not tell of
    crowd.serve()


if __name__ == "__main__":
    main()
