"""Starts processes, waits until they are ready, starts them again when they die, and stops them.

Every process is started by one thread that lives as long as the supervisor, because a parent-death signal is sent when
the *thread* that started a child ends. That thread alone touches the children; everybody else asks it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

from ops.child import Child, Process
from ops.console import Say, silence
from ops.forking import ForkServer
from ops.leftovers import Identity, end_leftovers
from ops.runfolder import RunFolder

T = TypeVar("T")

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
FORGIVEN_AFTER_S = 5.0  # a process that was ready and lived this long has its deaths forgotten
FAILURES_MAX = 4  # who waits for a process that dies this often in a row without ever being ready waits no more
RECORD = "processes.json"
FORK_SERVER = "fork-server"
IMPORTS_WITHIN_S = 20.0  # it takes three to seven; who waits for it waits no longer


class ProcessFailed(Exception):
    """A process didn't become ready, or a command failed; the message ends with the last lines of its log."""


class Supervisor:
    """Keeps processes alive. `on_change` is called, in its thread, whenever the set of pids has changed."""

    def __init__(self, folder: RunFolder, say: Say = silence, on_change: Callable[[], None] | None = None) -> None:
        self._folder, self._say, self._on_change = folder, say, on_change
        self._children: dict[str, Child] = {}
        self._forks: ForkServer | None = None
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closing, self._over = threading.Event(), threading.Event()
        end_leftovers(map(Identity.from_json, folder.read_json(RECORD, [])))
        self._thread = threading.Thread(target=self._keep, name="supervisor", daemon=True)
        self._thread.start()

    def start(self, process: Process) -> None:
        """Start it and return at once; from now on it is started again whenever it dies."""
        self._do(lambda: self._start(process))

    def fork_from(self, forks: ForkServer) -> None:
        """Start a fork server. Processes that name a module are forked from it from when it is ready on."""
        self._forks = forks
        self.start(
            Process(
                FORK_SERVER,
                forks.command,
                env=forks.env,
                folder=forks.folder,
                ready_file=forks.ready_file,
                inherits=forks.begin,
            )
        )

    def wait_ready(self, *names: str) -> None:
        """Wait until all of them are ready.

        Raises:
            ProcessFailed: one of them keeps dying, or took longer than its `ready_within_s`.
        """
        for child in [self._children[name] for name in names]:
            end = time.monotonic() + child.process.ready_within_s
            while not child.ready.wait(timeout=0.05):
                if self._closing.is_set():
                    raise ProcessFailed(f"{child.process.name}: stopped while it was starting")
                if child.failures >= FAILURES_MAX:
                    raise ProcessFailed(self._told(child, f"dies at its start ({child.why_it_ended()})"))
                if time.monotonic() > end:
                    raise ProcessFailed(self._told(child, f"isn't ready after {child.process.ready_within_s:.0f} s"))

    def run(self, process: Process) -> str:
        """Run a command to its end, once, and give what it said.

        Raises:
            ProcessFailed: it ended with anything but 0, or the supervisor is being closed.
        """
        child = self._do(lambda: self._start(process, keep=False))
        child.gone.wait()
        if child.exit_status != 0:
            raise ProcessFailed(self._told(child, f"failed ({child.why_it_ended()})"))
        return child.log.read_text(errors="replace")

    def stop(self, *names: str) -> None:
        """Stop them side by side: asked first, killed when their grace is over. Returns when all are gone."""
        children = [self._children[name] for name in names if name in self._children]
        self._do(lambda: self._ask_all_to_stop(children))
        asked_at = time.monotonic()
        for child in children:
            if not child.gone.wait(max(0.0, asked_at + child.process.stop_grace_s - time.monotonic())):
                self._say(child.process.name, "doesn't stop, killed", "bad")
                self._do(lambda child=child: child.send(signal.SIGKILL))  # type: ignore[misc]
                child.gone.wait()

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to its whole group. It is still wanted: if it dies of it, it is started again.

        After SIGKILL it is dead when this returns.
        """
        gone = self._children[name].gone
        self._do(lambda: self._children[name].send(number))
        if number == signal.SIGKILL:
            gone.wait()

    def restart(self, name: str) -> None:
        """Stop it, start it again, and wait until it is ready."""
        process = self._children[name].process
        self.stop(name)
        self.start(process)
        self.wait_ready(name)

    def pids(self) -> dict[str, int]:
        """The pid of each one that is running now; it leads the process group of that number."""
        return {name: child.pid for name, child in dict(self._children).items() if child.pid is not None}

    def is_ready(self, name: str) -> bool:
        child = self._children.get(name)
        return child is not None and child.ready.is_set()

    def restarts(self, name: str) -> int:
        return self._children[name].restarts

    def refuse(self) -> None:
        """Start nothing more; who waits for a process to become ready fails at once. The first step of closing."""
        self._closing.set()

    def close(self) -> None:
        """Stop everything that still runs, and end the thread."""
        self.refuse()
        if not self._over.is_set():
            self.stop(*list(self._children))
            self._do(self._over.set)
            self._thread.join()
            if self._forks is not None:
                self._forks.close()

    def _keep(self) -> None:
        while not self._over.is_set():
            try:
                task = self._tasks.get(timeout=0.1)
            except Empty:
                pass
            else:
                task()
            self._look()

    def _do(self, work: Callable[[], T]) -> T:
        """Have it done by the supervisor's thread, and wait for what it gives or raises."""
        if threading.current_thread() is self._thread or not self._thread.is_alive():
            return work()
        answer: Future[T] = Future()

        def task() -> None:
            try:
                answer.set_result(work())
            except Exception as error:  # noqa: BLE001 - handed to who asked
                answer.set_exception(error)

        self._tasks.put(task)
        return answer.result()

    def _start(self, process: Process, *, keep: bool = True) -> Child:
        if self._closing.is_set():
            raise ProcessFailed(f"{process.name}: not started, everything is being stopped")
        before = self._children.get(process.name)
        if before is not None and before.pid is not None:
            raise ProcessFailed(f"{process.name}: runs already")
        child = Child(process, self._folder.logs / f"{process.name}.log", keep=keep, forks=self._forks)
        if before is None:
            rotate(child)
        self._children[process.name] = child
        self._spawn(child)
        return child

    def _spawn(self, child: Child) -> None:
        child.spawn()
        self._record()
        if child.keep:
            threading.Thread(target=self._probe, args=(child, child.ready, child.gone), daemon=True).start()

    def _probe(self, child: Child, ready: threading.Event, gone: threading.Event) -> None:
        """Asks one incarnation of a child until it is ready or gone."""
        while not gone.wait(0.05):
            if child.is_ready() and not gone.is_set():
                child.failures = 0
                ready.set()
                self._say(child.process.name, f"ready after {time.monotonic() - child.started_at:.1f} s", "good")
                return

    def _look(self) -> None:
        """Bury the dead, and start again those that are due."""
        if self._forks is not None and self._forks.hangs:
            self._children[FORK_SERVER].send(signal.SIGKILL)  # and a new one comes
        for child in list(self._children.values()):
            if child.reap():
                if child.wanted and child.keep:
                    self._mourn(child)
                self._record()
            elif child.restart_at is not None and child.wanted and time.monotonic() >= child.restart_at:
                if child.process.module and self._fork_server_is_coming():
                    continue
                child.restarts += 1
                try:
                    self._spawn(child)
                except OSError as error:  # no memory, no file handles: as good as a death
                    self._say(child.process.name, f"can't be started: {error}", "bad")
                    self._mourn(child)

    def _fork_server_is_coming(self) -> bool:
        """Whether it is about to be ready, after at most one death: it is sooner there than a program that is started."""
        server = self._children.get(FORK_SERVER)
        if server is None or not server.wanted or server.ready.is_set() or server.failures > 1:
            return False
        return server.pid is None or time.monotonic() - server.started_at < IMPORTS_WITHIN_S

    def _mourn(self, child: Child) -> None:
        child.failures += 1
        if child.failures == 1 and time.monotonic() - child.started_at > FORGIVEN_AFTER_S:
            child.deaths = 0
        wait_s = BACKOFF_S[min(child.deaths, len(BACKOFF_S) - 1)]
        child.deaths += 1
        child.restart_at = time.monotonic() + wait_s
        what = f"died ({child.why_it_ended()}), starting it again in {wait_s:g} s; its log: {child.log}"
        self._say(child.process.name, what, "bad")

    def _ask_all_to_stop(self, children: list[Child]) -> None:
        for child in children:
            self._ask_to_stop(child)

    def _ask_to_stop(self, child: Child) -> None:
        child.wanted, child.restart_at = False, None
        if child.pid is None:
            child.gone.set()
        child.send(child.process.stop_signal, group=child.process.stop_group)

    def _record(self) -> None:
        identities = [child.identity.to_json() for child in self._children.values() if child.identity]
        try:
            self._folder.write_json(RECORD, identities)
            if self._on_change:
                self._on_change()
        except OSError as error:  # a full disk must not take the supervisor with it, and with it everything else
            self._say("supervisor", f"can't write down what runs: {error}", "bad")

    def _told(self, child: Child, what: str) -> str:
        return f"{child.process.name} {what}; the end of {child.log}:\n{child.last_words()}"


def rotate(child: Child) -> None:
    """Keep the log of the run before as `.log.1`, and begin a new one."""
    if child.log.exists():
        child.log.replace(child.log.with_suffix(".log.1"))
