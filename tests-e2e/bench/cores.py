"""Keeps some processes on a core of their own: they slow others only if those wait for them."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psutil

from embedded.deployment import Deployment


@contextmanager
def apart(deployment: Deployment, lonely: Iterable[psutil.Process]) -> Iterator[bool]:
    """These on the last core, the rest of the system and this process on the others.

    Yields whether that could be done: a single core cannot be divided.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        yield False
        return
    apart = set(lonely)
    together = set(_system(deployment)) - apart
    try:
        _confine(together, cores[:-1])
        _confine(apart, cores[-1:])
        yield True
    finally:
        _confine(together | apart, cores)


def _system(deployment: Deployment) -> Iterator[psutil.Process]:
    servers = deployment.servers
    programs = [deployment.process(name) for name in deployment.processes]
    programs += [
        server.process for server in (servers.postgres, servers.valkey, servers.localstack)
    ]
    for program in programs:
        if program.running:
            parent = psutil.Process(program.pid)
            yield from (parent, *parent.children(recursive=True))
    yield psutil.Process()


def _confine(processes: Iterable[psutil.Process], cores: list[int]) -> None:
    for process in processes:
        # Its threads, each by itself; those to come, and its children, take after who starts them.
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            for thread in process.threads():
                os.sched_setaffinity(thread.id, cores)
