"""The price of capture: ``save()`` of a changed user beside plain Django's, on one table.

The plain model is another ``AbstractUser`` on the master's own table, for which no signal has a
receiver. Both write the same columns, in autocommit, with PostgreSQL waiting for the disk; their
saves alternate, and each row is saved once. The users' outbox entries exist before.
"""

import time
from collections.abc import Sequence
from typing import Any

from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from bench import system
from bench.report import Findings, Sheet, aim, percentiles
from bench.session import Session

SAVES = 3_000
WARM_UP = 200
AIM_RATIO = 1.6


def run(session: Session) -> Findings:
    """The median of 3,000 saves each way, their ratio, and the statements behind them."""
    with system.master_database(session):
        captured, plain = _users()
        statements = {"plain": _statements(plain.pop()), "capture": _statements(captured.pop())}
        with session.step(f"2 x {SAVES:,} saves"):
            times = _alternate(plain, captured)
    return _findings(times, statements)


def _users() -> tuple[list[Any], list[Any]]:
    """Different users of one table, as instances of the master's model and of the plain one."""
    from usercast_master.accounts.models import User

    count = SAVES + WARM_UP + 1
    User.objects.bulk_create(
        [User(username=f"save-{n}", password="!") for n in range(2 * count)], batch_size=2_000
    )
    plain_model = _plain_model()
    captured = list(User.objects.order_by("pk")[:count])
    return captured, list(plain_model.objects.order_by("pk")[count:])


def _plain_model() -> Any:
    from django.contrib.auth.models import AbstractUser

    class PlainUser(AbstractUser):
        id = models.UUIDField(primary_key=True)
        groups = None
        user_permissions = None

        class Meta:
            app_label = "plain"
            db_table = "accounts_user"
            managed = False

    return PlainUser


def _statements(user: Any) -> list[str]:
    """What one save says to PostgreSQL, by the first word of each statement."""
    user.first_name = "counted"
    with CaptureQueriesContext(connection) as queries:
        user.save()
    words = [query["sql"].split()[0] for query in queries]
    return ["INSERT" if word == "WITH" else word for word in words]


def _alternate(plain: Sequence[Any], captured: Sequence[Any]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"plain": [], "capture": []}
    for number, pair in enumerate(zip(plain, captured, strict=True)):
        named = list(zip(times, pair, strict=True))
        # Each goes first as often as second.
        for name, user in named if number % 2 else reversed(named):
            times[name].append(_milliseconds_to_save(user))
    return {name: values[WARM_UP:] for name, values in times.items()}


def _milliseconds_to_save(user: Any) -> float:
    user.first_name = "changed"
    start = time.perf_counter()
    user.save()
    return (time.perf_counter() - start) * 1000


def _findings(times: dict[str, list[float]], statements: dict[str, list[str]]) -> Findings:
    sheet = Sheet("save() of a changed user, ms", ("", "p50", "p95", "p99", "statements"))
    figures: dict[str, Any] = {}
    for name, values in times.items():
        found = percentiles(values)
        figures[name] = {
            "saves": len(values),
            "milliseconds": found,
            "statements": len(statements[name]),
        }
        cells = [f"{found[key]:.3f}" for key in ("p50", "p95", "p99")]
        sheet.rows.append((name, *cells, str(len(statements[name]))))
        sheet.notes.append(f"{name}: {', '.join(statements[name])}")
    ratio = figures["capture"]["milliseconds"]["p50"] / figures["plain"]["milliseconds"]["p50"]
    sheet.notes.append(f"p50, capture : plain = {ratio:.2f}, {aim(ratio, at_most=AIM_RATIO)}")
    return Findings([sheet], {**figures, "ratio": ratio})
