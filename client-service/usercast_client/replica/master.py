"""Master: asks the master's REST API for its users and their digests, and reports to it."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx
import msgspec
import structlog
from django.conf import settings

from usercast import snapshot as lines_of
from usercast.contract import UserChange
from usercast.digest import MasterDigests, Published
from usercast.errors import ConfigurationError, ContractError, UsercastError, reason

log = structlog.get_logger(__name__)

_CONNECT_SECONDS = 5.0
#: How long the master may be silent in the middle of a snapshot.
_READ_SECONDS = 60.0
#: A report is not worth more: the next one tells the same and more.
_REPORT_SECONDS = 5.0


class MasterUnreachable(UsercastError):
    """The master did not answer, or broke off; to ask again may help."""


class MasterRefused(UsercastError):
    """The master answered that it will not; to ask again does not help."""


@contextmanager
def snapshot(after: UUID | None) -> Iterator[Iterator[bytes]]:
    """The lines of the snapshot behind this user, without their line feeds, as they come.

    Raises:
        ConfigurationError: the master's address or the token is not set.
        MasterRefused: the token is not valid, or lacks the scope ``snapshot``.
        MasterUnreachable: also while the lines are read.
    """
    parameters = {} if after is None else {"after": str(after)}
    with _streamed("/api/v1/snapshot/", parameters) as lines:
        yield lines


def users(user_ids: Sequence[UUID]) -> dict[UUID, UserChange | None]:
    """Up to 100 users as the master has them now; whom it does not know is missing.

    None is whose line does not follow the contract; the log says why.

    Raises:
        MasterRefused: see ``snapshot``; also if a line does not even say whose it is.
        MasterUnreachable: the answer broke off, too.
    """
    ids = ",".join(str(user_id) for user_id in user_ids)
    found: dict[UUID, UserChange | None] = {}
    with _streamed("/api/v1/snapshot/", {"ids": ids}) as lines:
        for line in lines:
            read = _understood(line)
            if isinstance(read, lines_of.End):
                return found
            if isinstance(read, UserChange):
                found[read.user_id] = read
            elif isinstance(read, UUID):
                found[read] = None
    raise MasterUnreachable("The answer broke off before its last line")


def digests(before: datetime | None) -> MasterDigests:
    """The master's digests; ``before``: what was published later has not come here yet.

    Raises:
        ConfigurationError: the master's address or the token is not set.
        MasterRefused: the token is not valid, or lacks the scope ``snapshot``.
        MasterUnreachable: it did not answer.
    """
    parameters = {} if before is None else {"before": before.isoformat()}
    answer = _asked("GET", "/api/v1/digests/", params=parameters)
    try:
        return msgspec.json.decode(answer.content, type=MasterDigests)
    except msgspec.DecodeError as error:
        raise MasterRefused(f"The master's digests cannot be read: {error}") from error


def published(buckets: Sequence[int]) -> list[Published]:
    """Who is in these buckets, up to 512 of them, as the master has published them.

    Raises:
        MasterRefused: as for ``digests``.
        MasterUnreachable: the answer broke off, too.
    """
    asked = {"buckets": ",".join(str(bucket) for bucket in buckets)}
    found: list[Published] = []
    with _streamed("/api/v1/digests/users/", asked) as lines:
        for line in lines:
            if line.startswith(_END):
                return found
            try:
                found.append(_published_decoder.decode(line))
            except msgspec.DecodeError as error:
                raise MasterRefused(f"The master's answer cannot be read: {error}") from error
    raise MasterUnreachable("The answer broke off before its last line")


def report(client: str, report: dict[str, Any]) -> None:
    """Tell the master how this client stands.

    Raises:
        ConfigurationError: the master's address or the token is not set.
        MasterRefused: the token is not this client's, or the report is not valid.
        MasterUnreachable: it did not answer.
    """
    path = f"/api/v1/clients/{client}/status/"
    _asked("PUT", path, json=report, timeout=_REPORT_SECONDS)


_published_decoder = msgspec.json.Decoder(Published)
#: How the last line of an answer begins; the others have no type.
_END = b'{"type":"end"'


def _understood(line: bytes) -> "lines_of.Begin | UserChange | UUID | lines_of.End":
    """What a line says, or, if that cannot be read, about whom."""
    try:
        return lines_of.read(line)
    except ContractError as error:
        whom = lines_of.id_of(line)
        if whom is None:
            raise MasterRefused(f"The master's answer cannot be read: {error}") from error
        log.error("snapshot_line_unreadable", user_id=str(whom), reason=reason(error))
        return whom


def _asked(method: str, path: str, **options: Any) -> httpx.Response:
    with _http() as http:
        try:
            answer = http.request(method, path, **options)
        except httpx.RequestError as error:
            raise MasterUnreachable(f"{settings.USERCAST_MASTER_URL}: {error!r}") from error
        _check(answer)
        return answer


@contextmanager
def _streamed(path: str, parameters: dict[str, str]) -> Iterator[Iterator[bytes]]:
    with _http() as http:
        try:
            answer = http.send(http.build_request("GET", path, params=parameters), stream=True)
            _check(answer)
        except httpx.RequestError as error:
            raise MasterUnreachable(f"{settings.USERCAST_MASTER_URL}: {error!r}") from error
        with closing(answer):
            yield _lines(answer)


def _http() -> httpx.Client:
    return httpx.Client(
        base_url=_setting("USERCAST_MASTER_URL"),
        headers={"Authorization": f"Token {_setting('USERCAST_MASTER_TOKEN')}"},
        timeout=httpx.Timeout(_READ_SECONDS, connect=_CONNECT_SECONDS),
        follow_redirects=False,
    )


def _setting(name: str) -> str:
    value: str | None = getattr(settings, name)
    if not value:
        raise ConfigurationError(f"{name} is not set: it says how to reach the master")
    return value


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    said = f"{answer.request.url} answered {answer.status_code}: {_detail(answer)}"
    if answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise MasterUnreachable(said)
    raise MasterRefused(said)


def _detail(answer: httpx.Response) -> str:
    answer.read()
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:200] or answer.reason_phrase


def _lines(answer: httpx.Response) -> Iterator[bytes]:
    """Whole lines only: what an answer that breaks off ends with is none."""
    rest = b""
    try:
        for piece in answer.iter_bytes(chunk_size=256 * 1024):
            *lines, rest = (rest + piece).split(b"\n")
            yield from lines
    except httpx.RequestError as error:
        raise MasterUnreachable(f"The answer broke off: {error!r}") from error
