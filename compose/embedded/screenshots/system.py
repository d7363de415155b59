"""A system for the pictures alone: nobody in it yet, in a temporary directory, gone afterwards."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from embedded.deployment import Deployment
from embedded.leftovers import end_leftovers
from embedded.ports import free_port, http_answers
from usercast.testing import eventually

CLIENT = "billing"
#: Whose pages nobody looks at; the desk shows how it stands.
OTHER_CLIENT = "support"
START_SECONDS = 60.0


@contextmanager
def running_system() -> Iterator[Deployment]:
    """A master without users and its clients, answering; all are gone after the block.

    A running demo is not touched.

    Raises:
        StackError: a server or a service did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="usercast-", ignore_cleanup_errors=True) as directory:
        deployment = Deployment(
            Path(directory),
            master_port=free_port(),
            client_ports={CLIENT: free_port(), OTHER_CLIENT: free_port()},
            durable=False,
        )
        try:
            deployment.set_up()
            deployment.start_all()
            for name in deployment.services:
                await_answer(deployment, name)
            yield deployment
        finally:
            deployment.close()
            end_leftovers(deployment.state_dir)


def await_answer(deployment: Deployment, name: str) -> None:
    """Wait until a service's web process takes requests."""
    url = deployment.services[name].url
    eventually(partial(http_answers, url), within=START_SECONDS, what=f"an answer of {name}")
