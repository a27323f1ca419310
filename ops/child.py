"""One supervised process: what it should be, and what it is at the moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ops.forking import Forked, ForkServer, NoForkServer, Running, Spawned
from ops.leftovers import Identity
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
    module: Sequence[str] = ()  # where the command is `python -m` these words: a fork server may become it as well
    inherits: Callable[[], int] | None = None  # gives, at each start, a descriptor to inherit; its number is the last word


class Child:
    """A process that was started: its pid, whether it is ready, how often it died."""

    def __init__(self, process: Process, log: Path, *, keep: bool, forks: ForkServer | None = None) -> None:
        self.process, self.log, self._forks = process, log, forks
        self.keep = keep  # started again when it dies; False for a command that runs once
        self.identity: Identity | None = None
        self.ready, self.gone = threading.Event(), threading.Event()
        self.wanted = True
        self.deaths = self.restarts = 0
        self.failures = 0  # deaths since it was ready last
        self.restart_at: float | None = None
        self.exit_status: int | None = None
        self.started_at = 0.0
        self._running: Running | None = None

    @property
    def pid(self) -> int | None:
        return None if self._running is None else self._running.pid

    def spawn(self) -> None:
        """Start it, in a session and process group of its own, its output appended to its log; it ends when we do."""
        process, env = self.process, dict(self.process.env)
        self.ready, self.gone, self.restart_at, self.exit_status = threading.Event(), threading.Event(), None, None
        if process.ready_file:
            process.ready_file.unlink(missing_ok=True)
            env["READY_FILE"] = str(process.ready_file)
        self._running = self._fork(env) or self._start(env)
        self.started_at = time.monotonic()
        self.identity = Identity.of(process.name, self._running.pid)

    def _fork(self, env: Mapping[str, str]) -> Forked | None:
        """By the fork server, if there is one that can."""
        process = self.process
        if self._forks is None or not process.module or process.folder is None:
            return None
        try:
            return self._forks.fork(
                process.name,
                process.module,
                env=env,
                folder=process.folder,
                log=self.log,
                stop=int(process.stop_signal),
            )
        except NoForkServer:
            return None

    def _start(self, env: Mapping[str, str]) -> Spawned:
        """As a program, on a leash."""
        process, words = self.process, [str(word) for word in self.process.command]
        user = "-" if process.user is None else "{}:{}".format(*process.user)
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), str(int(process.stop_signal)), user, "--"]
        inherited = () if process.inherits is None else (process.inherits(),)
        try:
            with self.log.open("ab") as log:
                popen = subprocess.Popen(
                    [*leash, *words, *map(str, inherited)],
                    env=env,
                    cwd=process.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=inherited,
                )
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        return Spawned(popen)

    def send(self, number: int, *, group: bool = True) -> None:
        if self._running is not None:
            self._running.send(number, group=group)

    def reap(self) -> bool:
        """Whether it has just been found dead. What is left of its group is killed while the number is still its own."""
        if self._running is None or not self._running.is_dead():
            return False
        self.send(signal.SIGKILL)
        self.exit_status = self._running.reap()
        self._running = self.identity = None
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
            return "with the fork server, which alone knew how" if self.gone.is_set() else "is running"
        return f"exit status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"

    def last_words(self, lines: int = 12) -> str:
        """The end of its log, for an error message."""
        try:
            text = self.log.read_bytes()[-8_000:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
