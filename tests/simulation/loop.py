"""The loop: simulated time, and threads that take turns, so that one seed decides who runs when.

The coordinator's code is written for threads: it waits in the middle of a function, holds locks, opens transactions.
So each simulated thread is a real one, of which only one ever runs. Where it would wait, it hands over to whoever is
due next, and the clock jumps there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

SWITCHES_MAX = 100_000  # of one run: past it, something goes round for ever
_CALLBACK = -1


class Died(BaseException):
    """The thread's process is dead: nothing more of it runs."""


class Process:
    """A process of the operating system: it dies as a whole, and what it had in memory is gone."""

    def __init__(self, name: str, role: str = "") -> None:
        self.name, self.role = name, role
        self.is_alive = True
        self.paused_until = 0.0
        self.tasks: dict[Task, None] = {}

    def __repr__(self) -> str:
        return self.name


class Task:
    """One thread of a process. `waits` numbers its waits: what was to end an earlier one ends no later one."""

    __slots__ = ("act", "body", "process", "waits")

    def __init__(self, process: Process, act: Callable[[], object]) -> None:
        self.process, self.act = process, act
        self.body: _Body | None = None
        self.waits = 0


Wait = tuple[Task, int]  # one wait of a thread


class Loop:
    """Time in seconds since the run began."""

    def __init__(self) -> None:
        self.now = 0.0
        self.current: Task | None = None
        self.defect: BaseException | None = None  # what ended a thread that nothing should end
        self._is_over = False
        self._due: list[tuple[float, int, int, Any]] = []  # when, in which order, which wait, a task or a callback
        self._pushed = self._switches = 0
        self._main = threading.Lock()
        self._main.acquire()

    # ---- for the world

    def at(self, when: float, act: Callable[[], object]) -> None:
        """Call it then. It may not wait for anything."""
        self._push(when, _CALLBACK, act)

    def spawn(self, process: Process, act: Callable[[], object], after_s: float = 0.0) -> None:
        """A new thread of a process, if that one lives."""
        if process.is_alive:
            task = Task(process, act)
            process.tasks[task] = None
            self._push(self.now + after_s, 0, task)

    def kill(self, process: Process) -> None:
        """The process ends at this moment; its threads unwind, and whatever they try meanwhile raises Died."""
        process.is_alive = False
        for task in process.tasks:
            if task is not self.current and task.body is not None:
                self._push(self.now, task.waits, task)

    def run(self) -> None:
        """Until it is stopped, or nothing is due any more. Raises what ended a thread that nothing should end."""
        task = self._next()
        if task is not None:
            self._resume(task)
            self._main.acquire()
        if self.defect is not None:
            raise self.defect

    def stop(self) -> None:
        self._is_over = True

    def unwind(self, processes: list[Process]) -> None:
        """End every thread, so that the next run finds them free."""
        self._due.clear()
        self._is_over, self._switches, self.defect = False, 0, None
        for process in processes:
            self.kill(process)
        self.run()

    # ---- for threads

    def sleep(self, seconds: float) -> None:
        self.park(seconds)

    def park(self, timeout_s: float | None = None) -> None:
        """Hand over until somebody makes this thread ready, at most for the time given."""
        me = self.current
        assert me is not None, "only a thread of a process can wait"
        if timeout_s is not None:
            self._push(self.now + timeout_s, me.waits, me)
        following = self._next()
        if following is not me:
            self._give_turn(following)
            assert me.body is not None
            me.body.turn.acquire()
        if not me.process.is_alive:
            raise Died

    def this_wait(self) -> Wait:
        """What `ready` takes to end the wait that this thread is about to begin."""
        assert self.current is not None, "only a thread of a process can wait"
        return self.current, self.current.waits

    def ready(self, wait: Wait) -> None:
        """End a wait, if it isn't over."""
        task, number = wait
        self._push(self.now, number, task)

    def check_alive(self) -> None:
        if self.current is not None and not self.current.process.is_alive:
            raise Died

    # ---- turns

    def finish(self, task: Task) -> None:
        """The last act of a thread."""
        task.process.tasks.pop(task, None)
        task.waits += 1
        self._give_turn(self._next())

    def _push(self, when: float, wait: int, what: Any) -> None:
        self._pushed += 1
        heappush(self._due, (when, self._pushed, wait, what))

    def _next(self) -> Task | None:
        """The thread that is due next, the clock at its time; None when the run is over."""
        due = self._due
        self.current = None
        while due and not self._is_over:
            when, _, wait, what = heappop(due)
            if when > self.now:
                self.now = when
            if wait == _CALLBACK:
                try:
                    what()
                except BaseException as error:  # noqa: BLE001 - it ends the run, which raises it
                    self.defect = self.defect or error
                    break
                continue
            process: Process = what.process
            if wait != what.waits or (not process.is_alive and what.body is None):
                continue
            if process.paused_until > self.now and process.is_alive:
                self._push(process.paused_until, wait, what)
                continue
            self._switches += 1
            if self._switches > SWITCHES_MAX:
                self.defect = self.defect or RuntimeError("the run goes round for ever")
                break
            what.waits += 1
            self.current = what
            return what  # type: ignore[no-any-return]
        return None

    def _give_turn(self, task: Task | None) -> None:
        if task is None:
            self._main.release()
        else:
            self._resume(task)

    def _resume(self, task: Task) -> None:
        if task.body is None:
            task.body = _free.pop() if _free else _Body()
            task.body.work = (self, task)
        task.body.turn.release()


class _Body:
    """A real thread, lent to one task after another."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.turn.acquire()
        self.work: tuple[Loop, Task] | None = None
        threading.Thread(target=self._live, name="simulated", daemon=True).start()

    def _live(self) -> None:
        while True:
            self.turn.acquire()
            assert self.work is not None
            loop, task = self.work
            try:
                task.act()
            except Died:
                pass
            except BaseException as error:  # noqa: BLE001 - it ends the run, which raises it
                loop.defect = loop.defect or error
                loop.stop()
            self.work = task.body = None
            _free.append(self)
            loop.finish(task)


_free: list[_Body] = []
