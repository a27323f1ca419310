"""Installing: while it lasts, the pipeline's modules find the world where they look for time, threads, ids and record."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FunctionType, ModuleType, SimpleNamespace, TracebackType
from typing import Any

import domain.ids
import pipeline.crash
import pipeline.queueview
import pipeline.settling

from . import record
from .loop import Wait
from .world import World

_world: World | None = None  # the one that runs


def run(world: World) -> None:
    """Run it, within `installed`. Raises Broken."""
    global _world
    _world = world
    try:
        world.run()
    finally:
        _world = None


@contextmanager
def installed() -> Iterator[None]:
    taken: list[tuple[ModuleType, str, Any]] = []
    places = {id(original): double for original, double in _doubles()}
    for module in [module for name, module in sorted(sys.modules.items()) if name.startswith(("pipeline.", "store."))]:
        for name, value in list(vars(module).items()):
            if id(value) in places:
                taken.append((module, name, value))
                setattr(module, name, places[id(value)])
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        for module, name, value in taken:
            setattr(module, name, value)


def doubled_functions() -> Iterator[tuple[FunctionType, FunctionType]]:
    """(the record's, the one in memory), for each function of a file in `record` that its namesake in `store` has."""
    for found in pkgutil.iter_modules(record.__path__):
        if found.name == "unit":
            continue
        double = importlib.import_module(f"{record.__name__}.{found.name}")
        original = importlib.import_module(f"store.{found.name}")
        for name, function in vars(double).items():
            if isinstance(function, FunctionType) and function.__module__ == double.__name__ and hasattr(original, name):
                yield getattr(original, name), function


def _doubles() -> Iterator[tuple[object, object]]:
    yield from doubled_functions()
    yield time, _TIME
    yield threading, _THREADING
    yield random, _RANDOM
    yield domain.ids.new_id, lambda: the_world().new_id()
    yield pipeline.crash.crash, lambda point: the_world().step(point)
    yield ThreadPoolExecutor, Executor
    yield pipeline.settling.Settler, Settler
    yield pipeline.queueview.QueueView, lambda url: the_world().queue


def the_world() -> World:
    assert _world is not None, "no world runs"
    return _world


class Lock:
    def __init__(self) -> None:
        self._is_held = False
        self._waiting: list[Wait] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        loop = the_world().loop
        while self._is_held:
            if not blocking:
                return False
            self._waiting.append(loop.this_wait())
            loop.park()
        self._is_held = True
        return True

    def release(self) -> None:
        self._is_held = False
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            the_world().loop.ready(wait)

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class Event:
    def __init__(self) -> None:
        self._is_set = False
        self._waiting: list[Wait] = []

    def set(self) -> None:
        self._is_set = True
        waiting, self._waiting = self._waiting, []
        for wait in waiting:
            the_world().loop.ready(wait)

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        loop = the_world().loop
        if not self._is_set:
            self._waiting.append(loop.this_wait())
            loop.park(timeout)
        return self._is_set


class Executor:
    """A pool that has always one thread more."""

    def __init__(self, max_workers: int, thread_name_prefix: str = "") -> None: ...

    def submit(self, act: Callable[..., object], *arguments: object) -> None:
        loop = the_world().loop
        assert loop.current is not None
        loop.spawn(loop.current.process, lambda: act(*arguments))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None: ...


class Settler(pipeline.settling.Settler):
    """The real one, its thread there only while answers are."""

    def __init__(
        self, desk: Any, name: str, busy: Callable[[], int], written: Callable[[int], None], settle: Any
    ) -> None:
        self._desk, self._busy, self._written, self._write_down = desk, busy, written, settle
        self._handed: list[Any] = []
        self._works = False

    def hand_over(self, answer: Any) -> None:
        loop = the_world().loop
        self._handed.append(answer)
        if not self._works:
            self._works = True
            assert loop.current is not None
            loop.spawn(loop.current.process, self._write)

    def _write(self) -> None:
        while self._handed:
            answers, self._handed = self._handed, []
            self._settle(answers)
        self._works = False


def _now() -> float:
    return the_world().loop.now + 1000.0  # a machine that was started a while ago


_TIME = SimpleNamespace(
    monotonic=_now,
    time=lambda: the_world().clock().timestamp(),
    CLOCK_BOOTTIME=time.CLOCK_BOOTTIME,
    clock_gettime=lambda _clock: the_world().loop.now,
    sleep=lambda seconds: the_world().loop.sleep(seconds),
)
_THREADING = SimpleNamespace(Lock=Lock, Event=Event, current_thread=threading.current_thread)
_RANDOM = SimpleNamespace(uniform=lambda low, high: the_world().rng.uniform(low, high))
