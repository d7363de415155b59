"""The cost: AWS requests and billed 64 KiB units a million changes, from the backlog's real calls.

A request is billed once for each 64 KiB of its payload that is begun: a publish for what it sends,
a receive for what it returns; deletions and empty receives are one each. SNS hands messages to SQS
free of charge. Prices: eu-west-1, in US dollars, without the free tier.
"""

from collections import defaultdict

from bench import backlog
from bench.backlog import Drain
from bench.calls import Call
from bench.report import Findings, Sheet, aim
from bench.session import Session

DOLLARS_PER_MILLION = {"sns": 0.50, "sqs": 0.40}
AIM_DOLLARS = 0.01
MILLION = 1_000_000


def run(session: Session) -> Findings:
    """A row for each operation of AWS, for the pipeline's two rounds and the plain way."""
    drains = backlog.measure(session)
    findings = Findings()
    for name, drain in drains.by_name.items():
        findings.sheets.append(_sheet(name, drain, aimed=drain is not drains.plain))
        findings.figures[name] = {
            "changes": drain.changes,
            "dollars_per_million": dollars(drain.calls) / drain.changes * MILLION,
            "units": {name: _units(calls) for name, calls in _by_operation(drain.calls).items()},
        }
    return findings


def dollars(calls: list[Call]) -> float:
    """What these calls cost."""
    return sum(call.units * DOLLARS_PER_MILLION[call.service] / MILLION for call in calls)


def _units(calls: list[Call]) -> int:
    return sum(call.units for call in calls)


def _published(calls: list[Call]) -> int:
    return sum(call.messages or call.requests for call in calls if call.service == "sns")


def _by_operation(calls: list[Call]) -> dict[str, list[Call]]:
    found: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.operation].append(call)
    return dict(sorted(found.items()))


def _sheet(name: str, drain: Drain, *, aimed: bool) -> Sheet:
    columns = (
        "",
        "requests",
        "messages",
        "kB a message",
        "units",
        "units a million",
        "$ a million",
    )
    sheet = Sheet(f"Cost of {drain.changes:,} changes: {name}", columns)
    for operation, calls in _by_operation(drain.calls).items():
        messages = sum(call.messages for call in calls)
        payload = sum(call.payload_bytes for call in calls)
        sheet.rows.append(
            (
                operation,
                f"{sum(call.requests for call in calls):,}",
                f"{messages:,}" if messages else "",
                f"{payload / messages / 1000:.1f}" if messages else "",
                f"{_units(calls):,}",
                f"{_units(calls) / drain.changes * MILLION:,.0f}",
                f"{dollars(calls) / drain.changes * MILLION:.4f}",
            )
        )
    total = dollars(drain.calls) / drain.changes * MILLION
    verdict = f", {aim(total, at_most=AIM_DOLLARS)}" if aimed else ""
    sheet.notes.append(f"changes a message: {drain.changes / _published(drain.calls):,.0f}")
    sheet.notes.append(f"${total:.4f} a million changes and client{verdict}")
    return sheet
