"""Idempotency: a creation sent again with the same ``Idempotency-Key`` creates nothing more."""

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus

from django.utils import timezone
from rest_framework.exceptions import APIException, ParseError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from usercast_master.api.models import IdempotentAnswer, caller_of
from usercast_master.outbox.capture import require_transaction

KEPT = timedelta(hours=24)
MAX_KEY_LENGTH = 255


class KeyReused(APIException):
    """The key belongs to another request."""

    status_code = HTTPStatus.UNPROCESSABLE_ENTITY
    default_code = "key_reused"
    default_detail = (
        "This Idempotency-Key was sent before with another body: a new request wants a new key."
    )


def once(request: Request, create: Callable[[], Response]) -> Response:
    """Create, or give the first answer again to a request that has been answered.

    Must run in the transaction of the creation: a twin that comes at the same time waits at the
    key's row until that has ended. Only successes are kept: what was refused may be tried again.

    Raises:
        KeyReused: the key came with another body before.
        ParseError: the key is empty, too long or no printable ASCII.
    """
    require_transaction()
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return create()
    trim(caller=caller_of(request))
    row, is_new = IdempotentAnswer.objects.get_or_create(
        caller=caller_of(request),
        key=_checked(key),
        defaults={"request_hash": _hash(request)},
    )
    if is_new:
        return _kept(row, create())
    if not row.fits(_hash(request)):
        raise KeyReused
    headers = {"Idempotent-Replayed": "true"} | ({"ETag": row.etag} if row.etag else {})
    return Response(json.loads(row.body), status=row.status, headers=headers)


def trim(**of: str) -> int:
    """Forget the answers older than 24 hours, of one caller or all; returns how many."""
    old = IdempotentAnswer.objects.filter(created_at__lt=timezone.now() - KEPT, **of)
    return old.delete()[0]


def _kept(row: IdempotentAnswer, answer: Response) -> Response:
    row.status = answer.status_code
    row.body = JSONRenderer().render(answer.data).decode()
    row.etag = answer.headers.get("ETag", "")
    row.save()
    return answer


def _checked(key: str) -> str:
    if not 0 < len(key) <= MAX_KEY_LENGTH or not (key.isascii() and key.isprintable()):
        raise ParseError(f"Idempotency-Key wants 1 to {MAX_KEY_LENGTH} printable ASCII characters.")
    return key


def _hash(request: Request) -> str:
    asked = json.dumps([request.path, request.data], sort_keys=True)
    return hashlib.sha256(asked.encode()).hexdigest()
