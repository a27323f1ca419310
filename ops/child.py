"""One supervised process: what it should be, and what it is at the moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.leftovers import Identity, send, send_group
from ops.probes import Probe

LEASH = Path(__file__).with_name("leash.py")


@dataclass(frozen=True)
class Process:
    """What to run, when it counts as ready, and how it is asked to stop.

    The environment is the whole one, not an addition. With a `ready_file` the process is told its path in READY_FILE
    and is ready once that file is there; a leftover of an earlier run is removed first.
    """

    name: str
    command: Sequence[str | Path]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    ready: Probe | None = None
    ready_file: Path | None = None
    ready_within_s: float = 60
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 5
    stop_group: bool = True  # False: only the leader is asked, which then stops its own children in its own order
    user: tuple[int, int] | None = None  # run as this (user id, group id)
    folder: Path | None = None
    needs_queue: bool = True  # False: may start while RabbitMQ, the slowest of the services, is still starting


class Child:
    """A process that was started: its pid, whether it is ready, how often it died."""

    def __init__(self, process: Process, log: Path, *, keep: bool) -> None:
        self.process, self.log = process, log
        self.keep = keep  # started again when it dies; False for a command that runs once
        self.identity: Identity | None = None
        self.ready, self.gone = threading.Event(), threading.Event()
        self.wanted = True
        self.deaths = self.restarts = 0
        self.failures = 0  # deaths since it was ready last
        self.restart_at: float | None = None
        self.exit_status: int | None = None
        self.started_at = 0.0
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._popen is None else self._popen.pid

    def spawn(self) -> None:
        """Start it on a leash, in a session and process group of its own, its output appended to its log."""
        process, env = self.process, dict(self.process.env)
        self.ready, self.gone, self.restart_at, self.exit_status = threading.Event(), threading.Event(), None, None
        if process.ready_file:
            process.ready_file.unlink(missing_ok=True)
            env["READY_FILE"] = str(process.ready_file)
        user = "-" if process.user is None else "{}:{}".format(*process.user)
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(process.stop_signal)), user, "--"]
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*leash, *(str(word) for word in process.command)],
                env=env,
                cwd=process.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started_at = time.monotonic()
        self.identity = Identity.of(process.name, self._popen.pid)

    def send(self, number: int, *, group: bool = True) -> None:
        if self.pid is not None:
            (send_group if group else send)(self.pid, number)

    def reap(self) -> bool:
        """Whether it has just been found dead. What is left of its group is killed while the number is still its own."""
        if self._popen is None or os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        self.send(signal.SIGKILL)
        self.exit_status = self._popen.wait()
        self._popen = self.identity = None
        self.ready.clear()
        self.gone.set()
        return True

    def is_ready(self) -> bool:
        if self.process.ready_file and not self.process.ready_file.exists():
            return False
        return self.process.ready is None or self.process.ready()

    def why_it_ended(self) -> str:
        status = self.exit_status
        if status is None:
            return "is running"
        return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"

    def last_words(self, lines: int = 12) -> str:
        """The end of its log, for an error message."""
        try:
            text = self.log.read_bytes()[-8_000:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
