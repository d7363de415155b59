"""Master: asks the master's REST API for the snapshot of all users."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import UUID

import httpx
from django.conf import settings

from usercast.errors import ConfigurationError, UsercastError

_CONNECT_SECONDS = 5.0
#: How long the master may be silent in the middle of a snapshot.
_READ_SECONDS = 60.0


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
    with _http() as http:
        try:
            answer = http.send(
                http.build_request("GET", "/api/v1/snapshot/", params=parameters), stream=True
            )
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
        raise ConfigurationError(f"{name} is not set: a bootstrap asks the master")
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
        raise MasterUnreachable(f"The snapshot broke off: {error!r}") from error
