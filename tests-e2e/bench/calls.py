"""The calls to AWS of the probed processes, read back, and what AWS bills for them."""

import json
import math
import time
from typing import NamedTuple

from bench.system import PROBES

#: A request is billed once for each 64 KiB of its payload that is begun.
UNIT_BYTES = 64 * 1024
#: The deletion of the last messages follows their commit: how long to wait for these calls too.
AFTERMATH_SECONDS = 0.5


class Call(NamedTuple):
    """One call, as ``bench.probe`` wrote it down at its end."""

    at: float
    service: str
    operation: str
    requests: int
    payload_bytes: int
    messages: int

    @property
    def units(self) -> int:
        """What AWS bills: a publish by what it sends, a receive by what it returns; retries too."""
        return self.requests - 1 + max(1, math.ceil(self.payload_bytes / UNIT_BYTES))


def since(moment: float) -> list[Call]:
    """All calls of all probed processes since then, by the time of their end, once it is quiet."""
    time.sleep(AFTERMATH_SECONDS)
    lines = [line for path in PROBES.glob("*.calls") for line in path.read_text().splitlines()]
    return sorted(call for line in lines if (call := Call(*json.loads(line))).at >= moment)
