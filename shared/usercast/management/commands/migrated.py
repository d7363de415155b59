import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error, connection
from django.db.migrations.executor import MigrationExecutor

#: As often as somebody who reads along wants to hear of it.
_LOOK_SECONDS = 2.0


class Command(BaseCommand):
    help = (
        "Wait until the database has every migration that this version of the code knows, as who "
        "starts beside `migrate` has to. Fails if that takes longer than --within seconds."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--within", type=float, default=300.0, metavar="SECONDS")

    def handle(self, *args: Any, **options: Any) -> None:
        deadline = time.monotonic() + options["within"]
        said = None
        while missing := _missing():
            if time.monotonic() > deadline:
                raise CommandError(
                    f"still not migrated after {options['within']:.0f} s: {missing}. "
                    "Look at the log of `migrate`, or run it: manage.py migrate"
                )
            if missing != said:
                self.stderr.write(f"waiting: {missing}")
                said = missing
            time.sleep(_LOOK_SECONDS)


def _missing() -> str | None:
    """What is missing, in a few words; None if nothing is."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except Error as error:
        return f"the database does not answer ({' '.join(str(error).split())})"
    finally:
        connection.close()
    if not plan:
        return None
    return f"{len(plan)} migrations, the first is {plan[0][0]}"
