import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from usercast_client.inbox import dead_letters
from usercast_client.inbox.dead_letters import Choice, Outcome
from usercast_client.inbox.letters import Letter, Source

CELL_WIDTH = 120


def _rate(text: str) -> float:
    rate = float(text)
    if not 0.1 <= rate <= 1000:
        raise argparse.ArgumentTypeError("from 0.1 to 1000 messages a second")
    return rate


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


class Command(BaseCommand):
    help = (
        "Look after messages that did not reach this client's copy of the users. Two queues keep "
        "them: 'dead' has what the poller received five times and could not apply, 'undelivered' "
        "has what SNS could not hand to the client's queues. When the cause is mended, redrive "
        "them: changes that are out of date by then are passed over."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="subcommand", required=True)
        listing = subcommands.add_parser(
            "list", help="what is there, and what is wrong with it; shows no personal data"
        )
        listing.add_argument("--json", action="store_true", help="print a JSON array")
        listing.add_argument(
            "--limit", type=_positive, default=100, help="messages at most (default 100)"
        )
        show = subcommands.add_parser(
            "show", help="one message in full, as JSON; shows personal data"
        )
        show.add_argument("id", help="the message id, as list shows it")
        redrive = subcommands.add_parser(
            "redrive",
            help="send messages to the poller again; safe to repeat, and what fails comes back",
        )
        redrive.add_argument("--id", help="only the message with this id, as list shows it")
        redrive.add_argument(
            "--limit", type=_positive, default=sys.maxsize, help="messages at most (default: all)"
        )
        redrive.add_argument(
            "--rate",
            type=_rate,
            default=20.0,
            help="messages a second at most (default 20); each may hold up to 200 changes",
        )
        purge = subcommands.add_parser("purge", help="delete messages for good, after asking")
        purge.add_argument("--id", help="only the message with this id, as list shows it")
        purge.add_argument("--yes", action="store_true", help="do not ask")
        for subcommand in (listing, show, redrive, purge):
            subcommand.add_argument(
                "--queue", choices=[source.value for source in Source], help="default: both"
            )

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        run = {
            "list": self._list,
            "show": self._show,
            "redrive": self._redrive,
            "purge": self._purge,
        }[subcommand]
        run(settings.USERCAST_CLIENT, _choice(options), options)

    def _list(self, client: str, choice: Choice, options: dict[str, Any]) -> None:
        rows = [letter.summary() for letter in dead_letters.letters(client, choice)]
        if options["json"]:
            self.stdout.write(json.dumps(rows, indent=2))
            return
        for line in _table(rows):
            self.stdout.write(line)
        # The count is approximate.
        total = max(len(rows), sum(dead_letters.count(client, choice).values()))
        self.stdout.write(f"{len(rows)} of {total} messages that did not reach {client}")

    def _show(self, client: str, choice: Choice, options: dict[str, Any]) -> None:
        letter = _one(client, choice)
        self.stdout.write(json.dumps(letter.content(), indent=2, ensure_ascii=False))

    def _redrive(self, client: str, choice: Choice, options: dict[str, Any]) -> None:
        # What is sent again and fails again is newer than that, and left for another time.
        choice = replace(choice, sent_before=datetime.now(UTC))
        outcomes = dead_letters.redrive(client, choice, rate=options["rate"])
        self._carry_out(outcomes, "sent to the lanes again", client, choice)

    def _purge(self, client: str, choice: Choice, options: dict[str, Any]) -> None:
        choice = replace(choice, sent_before=datetime.now(UTC))
        if not options["yes"]:
            _confirm(_what(client, choice))
        self._carry_out(dead_letters.purge(client, choice), "deleted", client, choice)

    def _carry_out(
        self, outcomes: Iterator[Outcome], done: str, client: str, choice: Choice
    ) -> None:
        counts: Counter[str] = Counter()
        try:
            for outcome in outcomes:
                counts["done"] += len(outcome.done)
                counts["failed"] += len(outcome.failures)
                for letter, step, reason in outcome.failures:
                    self.stderr.write(f"{step} of {letter.message_id} refused: {reason}")
        finally:
            self.stdout.write(f"{done}: {counts['done']}")
        left = sum(dead_letters.count(client, choice).values())
        self.stdout.write(f"left: {left}")
        if counts["failed"]:
            raise CommandError(f"{counts['failed']} refused; they are kept, and can be tried again")
        if choice.message_id and not counts["done"]:
            raise _not_found(choice)


def _choice(options: dict[str, Any]) -> Choice:
    sources = [Source(options["queue"])] if options["queue"] else list(Source)
    return Choice(
        sources=sources,
        message_id=options.get("id"),
        limit=options.get("limit", sys.maxsize),
    )


def _one(client: str, choice: Choice) -> Letter:
    found = list(dead_letters.letters(client, choice))
    if not found:
        raise _not_found(choice)
    return found[0]


def _not_found(choice: Choice) -> CommandError:
    where = " or ".join(source.value for source in choice.sources)
    return CommandError(
        f"no message {choice.message_id} in the queue {where}; `dead_letters list` shows the ids "
        "(one that somebody else is looking at comes back within two minutes)"
    )


def _what(client: str, choice: Choice) -> str:
    if choice.message_id:
        letter = _one(client, choice)
        return f"message {letter.message_id} of the queue {letter.source.value}"
    counts = dead_letters.count(client, choice)
    queues = " and ".join(f"{source.value} (about {number})" for source, number in counts.items())
    return f"all messages of the queue {queues}"


def _confirm(what: str) -> None:
    question = f"This would delete {what}, for good."
    if not sys.stdin.isatty():
        raise CommandError(f"{question} Nothing was deleted: say --yes to do it.")
    if input(f"{question} Delete? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CommandError("Nothing was deleted.")


def _table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows under their column's names, in columns as wide as their widest value."""
    if not rows:
        return
    titles = [name.replace("_", " ").upper() for name in rows[0]]
    lines = [titles, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _cell(value: object) -> str:
    """A reason may quote what was sent: nothing of it shall steer the terminal."""
    text = "?" if value is None else str(value)
    return "".join(character if character.isprintable() else "·" for character in text)[:CELL_WIDTH]
