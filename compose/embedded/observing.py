"""How a stack is observed: what its processes are told, and a Prometheus that looks at them."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedded.errors import StackError
from embedded.ports import LOOPBACK, free_port, loopback_url
from embedded.private_files import write_private
from embedded.servers import REPOSITORY

if TYPE_CHECKING:
    from embedded.stack import Stack

CONFIGURATION = REPOSITORY / "infra" / "observability" / "prometheus"
#: The files of targets that the configuration names.
TARGETS = ("web", "processes", "certificates", "alertmanagers")

Targets = Mapping[str, Sequence[Mapping[str, Any]]]


def metrics_token(state_dir: Path) -> str:
    """What the web processes of a stack ask of Prometheus; made once, mode 0600."""
    path = state_dir / "metrics.token"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32))
    return path.read_text()


def metrics_variables(kind: str, state_dir: Path) -> dict[str, str]:
    """The environment by which a process of this kind tells its metrics."""
    if kind == "web":
        return {"METRICS_TOKEN": metrics_token(state_dir)}
    return {"METRICS_PORT": str(free_port()), "METRICS_ADDRESS": LOOPBACK}


def targets(stack: "Stack") -> dict[str, list[dict[str, Any]]]:
    """Where the processes of a stack answer, for Prometheus."""
    found: dict[str, list[dict[str, Any]]] = {"web": [], "processes": []}
    for name, spec in stack.processes.items():
        service, _, kind = name.rpartition("-")
        port = spec.env["PORT" if kind == "web" else "METRICS_PORT"]
        found["web" if kind == "web" else "processes"].append(
            {"targets": [f"{LOOPBACK}:{port}"], "labels": {"service": service, "process": kind}}
        )
    return found


def write_configuration(directory: Path, *, token: str, targets: Targets) -> Path:
    """Make a directory that Prometheus can run in, with our rules; the configuration's file.

    Args:
        directory: exists and is empty.
        token: what the web processes want to be shown.
        targets: by file, of ``TARGETS``; a missing one is empty.
    """
    (directory / "prometheus.yml").symlink_to(CONFIGURATION / "prometheus.yml")
    (directory / "rules").symlink_to(CONFIGURATION / "rules")
    (directory / "secrets").mkdir()
    write_private(directory / "secrets" / "metrics.token", token)
    (directory / "targets").mkdir()
    for name in TARGETS:
        (directory / "targets" / f"{name}.json").write_text(json.dumps([*targets.get(name, [])]))
    return directory / "prometheus.yml"


@contextmanager
def prometheus(
    stack: "Stack", directory: Path, *, certificates: Sequence[Mapping[str, Any]] = ()
) -> Iterator[str]:
    """A Prometheus that looks at a stack while the block runs; its address, not yet answering.

    Args:
        directory: exists and is empty; takes its data, too.

    Raises:
        StackError: this machine has none.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise StackError("There is no Prometheus here: install it (apt-get install prometheus).")
    configuration = write_configuration(
        directory,
        token=metrics_token(stack.state_dir),
        targets={**targets(stack), "certificates": certificates},
    )
    port = free_port()
    command = [
        program,
        f"--config.file={configuration}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            yield loopback_url(port)
        finally:
            process.terminate()
            process.wait()
