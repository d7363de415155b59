"""Imports: takes an uploaded file, checks every row, waits for a yes, and writes batch by batch.

The import's row in the database is the truth. A batch commits its users and the import's progress
together, so a killed worker's import goes on at the next row: nothing twice, nothing lost. Workers
(``tasks``) and `manage.py users import` run the same code.
"""

from collections.abc import Callable, Iterator
from itertools import islice

import structlog
from django.db import Error, IntegrityError, InterfaceError, OperationalError, transaction

from usercast import tracing
from usercast_master.transfer import batches, files, leases
from usercast_master.transfer.errors import TakenOver, UnusableFile
from usercast_master.transfer.models import Import, RowError, State
from usercast_master.transfer.tables import Row, Table

log = structlog.get_logger(__name__)

#: Rows a transaction. Larger ones gain little and hold their users longer.
BATCH_ROWS = 1000
#: Rows that would change something, kept to be looked at before the yes.
PREVIEW_ROWS = 20
#: Somebody else may take a username between our look and our write, but hardly again and again.
_TRIES = 3

Watch = Callable[[Import], None]
Stopped = Callable[[], bool]


def run(found: Import, *, stopped: Stopped, watch: Watch = lambda _found: None) -> None:
    """Work on a claimed import until its state changes, or ``stopped`` says so after a batch.

    Args:
        watch: is told after each batch.

    Raises:
        OperationalError: the database is away; the import goes on when its lease has ended.
    """
    try:
        with tracing.span("import", of=[found.traceparent]), files.opened(found) as table:
            _go_through(table, found, stopped, watch)
    except TakenOver:
        log.info("import_let_go", import_id=found.pk)
    except UnusableFile as error:
        leases.fail(found, str(error))
    except (OperationalError, InterfaceError):
        raise
    except Exception as error:
        log.exception("import_failed", import_id=found.pk)
        kind = "the database refused it" if isinstance(error, Error) else "a fault of the program"
        leases.fail(found, f"It stopped after row {found.next_row:,}: {kind}; see the log.")


def _go_through(table: Table, found: Import, stopped: Stopped, watch: Watch) -> None:
    step = _Check(found) if found.state == State.CHECKING else _Write(found)
    seen = 0
    for rows in _batches(table):
        # A batch that another worker committed may have ended elsewhere in the file.
        behind, rest = rows[: max(found.next_row - seen, 0)], rows[max(found.next_row - seen, 0) :]
        seen += len(rows)
        if behind:
            step.pass_over(behind)
            leases.renew(found)
        if rest:
            step.take(rest)
            watch(found)
        if stopped():
            leases.release(found)
            return
    step.finish()
    watch(found)


def _batches(table: Table) -> Iterator[list[Row]]:
    rows = table.rows()
    while batch := list(islice(rows, BATCH_ROWS)):
        yield batch


class _Check:
    """The dry run: says what each row would do."""

    def __init__(self, found: Import) -> None:
        self.found = found
        self.taken: batches.Taken = {}

    def pass_over(self, rows: list[Row]) -> None:
        batches.Batch(rows, self.found.header, by=self.found.created_by).claim(self.taken)

    def take(self, rows: list[Row]) -> None:
        batch = batches.Batch(rows, self.found.header, by=self.found.created_by)
        outcome = batch.examine(self.taken)
        with transaction.atomic():
            leases.hold(self.found)
            wanted = PREVIEW_ROWS - len(self.found.preview)
            self.found.preview += outcome.samples[: max(wanted, 0)]
            _record(self.found, outcome, len(rows))

    def finish(self) -> None:
        self.found.row_count = self.found.next_row
        leases.move(self.found, State.CHECKED)


class _Write:
    """The import itself. What the check refused stays refused."""

    def __init__(self, found: Import) -> None:
        self.found = found
        self.refused = set(found.errors.values_list("line", flat=True))

    def pass_over(self, rows: list[Row]) -> None:
        """Nothing: these are written."""

    def take(self, rows: list[Row]) -> None:
        for left in reversed(range(_TRIES)):
            try:
                with transaction.atomic():
                    leases.hold(self.found)
                    self._write(rows)
                return
            except IntegrityError:
                self.found.refresh_from_db()
                if not left:
                    raise

    def _write(self, rows: list[Row]) -> None:
        found = self.found
        good = [row for row in rows if row.line not in self.refused]
        batch = batches.Batch(good, found.header, by=found.created_by, lock=True)
        # Rows of other batches cannot be in the way: each batch sees what is committed.
        outcome = batch.examine({})
        via = f"import of {found.file_name}"
        batches.write(outcome, found.header, by=found.created_by, via=via)
        _record(found, outcome, len(rows))

    def finish(self) -> None:
        leases.move(self.found, State.DONE)


def _record(found: Import, outcome: batches.Outcome, rows: int) -> None:
    """Commit the progress together with what was done."""
    for error in outcome.errors:
        error.of = found
    RowError.objects.bulk_create(outcome.errors)
    found.next_row += rows
    found.new += len(outcome.new)
    found.changed += len(outcome.changed)
    found.unchanged += outcome.unchanged
    found.refused += outcome.refused
    found.save(update_fields=["next_row", "new", "changed", "unchanged", "refused", "preview"])
