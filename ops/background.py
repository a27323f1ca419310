"""Runs a long job in the background, and tells the one who started it when it is ready, or why it isn't."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

Report = Callable[[str], None]  # called with "" when all is ready, else with the reason why not; the first call counts


def detach(job: Callable[[Report], int], log: Path) -> str:
    """Run the job in a process of its own, away from this terminal, its output in the log.

    Call it while this process has one thread only. Returns what the job reported: "" when it is ready.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.setsid()
        if os.fork() == 0:
            run_apart(job, log, writing)
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        reported = pipe.read()
    return reported[1:] if reported else f"it ended without a word; see {log}"


def run_apart(job: Callable[[Report], int], log: Path, writing: int) -> None:
    status, pipe = 1, os.fdopen(writing, "w")
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        silence = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((silence, 0), (output, 1), (output, 2)):
            os.dup2(source, target)

        def report(reason: str) -> None:
            if not pipe.closed:
                pipe.write(f".{reason}")
                pipe.close()

        status = job(report)
    finally:
        sys.stdout.flush()
        os._exit(status)
