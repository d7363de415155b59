"""Files that hold secrets: readable by their owner only, and never half written."""

import json
import os
import shlex
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one step by a file of mode 0600."""
    # mkstemp creates with 0600; there is no moment at which others could read it.
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(unfinished).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(unfinished).unlink()
        raise


def write_json(path: Path, content: Any) -> None:
    """Replace ``path`` by ``content`` as JSON, mode 0600."""
    write_private(path, json.dumps(content, indent=2) + "\n")


def write_environment(path: Path, variables: Mapping[str, str]) -> None:
    """Replace ``path`` by a file that a shell sources to export ``variables``, mode 0600."""
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    write_private(path, "".join(lines))


def read_environment(path: Path) -> dict[str, str]:
    """The variables of a file that ``write_environment`` has written."""
    assignments = [shlex.split(line)[1] for line in path.read_text().splitlines()]
    return dict(assignment.split("=", 1) for assignment in assignments)
